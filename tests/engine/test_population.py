"""Members as rows: what goes in comes out, wherever it is read or written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jbn.engine.population import Population, packing

SLOTS = 6
TYPES = ("float32", "bfloat16", "int32", "bool")


def members(seed=0, slots=SLOTS):
    """Arrays of several types and shapes, one of them empty."""
    rng = np.random.default_rng(seed)
    shapes = {"matrix": (3, 4), "vector": (5,), "number": (), "none": (0, 2), "image": (2, 1, 3)}
    found = {}
    for place, (name, shape) in enumerate(shapes.items()):
        for dtype in TYPES[: 1 + place % 4]:
            found[f"{name}_{dtype}"] = jnp.asarray(rng.integers(0, 100, (slots, *shape))).astype(dtype)
    return {"deep": (found, found["matrix_float32"] + 1000)}


def equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (own.shape, own.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(np.asarray(own), np.asarray(other))


def test_there_is_one_array_a_type_and_every_entry_is_in_it():
    own, given = Population.of(members()), members()
    assert sorted(own.rows) == sorted(TYPES)
    assert len(jax.tree.leaves(own)) == 4
    assert sum(rows.size for rows in own.rows.values()) == sum(a.size for a in jax.tree.leaves(given))
    equal(own.on_host().views(), given)


@pytest.mark.parametrize("slot", [0, 3, 5])
def test_a_member_is_what_its_slot_holds(slot):
    expected = jax.tree.map(lambda a: a[slot], members())
    equal(Population.of(members()).member(slot), expected)
    equal(jax.jit(Population.take)(Population.of(members()), jnp.array([slot])), expected)


def test_a_tile_is_taken_side_by_side_and_what_is_beyond_the_last_is_the_last():
    place = jnp.array([4, 0, 6, 2])
    expected = jax.tree.map(lambda a: a[jnp.array([4, 0, 5, 2])], members())
    equal(jax.jit(Population.take)(Population.of(members()), place), expected)


@pytest.mark.parametrize("places", [[2], [5, 1, 6]])
def test_what_is_put_is_there_and_nothing_else_changes(places):
    there = [place for place in places if place < SLOTS]
    new = members(seed=1, slots=len(places))
    if len(places) == 1:
        new = jax.tree.map(lambda a: a[0], new)
    changed = jax.jit(Population.put)(Population.of(members()), new, jnp.array(places))
    for slot in range(SLOTS):
        expected = jax.tree.map(lambda a, slot=slot: a[slot], members())
        if slot in there:
            place = places.index(slot)
            expected = new if len(places) == 1 else jax.tree.map(lambda a, at=place: a[at], new)
        equal(changed.member(slot), expected)


def test_a_member_is_a_copy_and_views_of_empty_slots_can_be_filled():
    given = jax.tree.map(np.asarray, members())
    own = Population.zeros(jax.tree.map(lambda a: a[0], given), SLOTS)
    assert not any(np.any(rows) for rows in own.rows.values())
    jax.tree.map(lambda view, values: view.__setitem__(slice(None), values), own.views(), given)
    equal(own.views(), given)
    copy = own.member(1)
    jax.tree.map(lambda view: view.__setitem__(slice(None), 0), own.views())
    equal(copy, jax.tree.map(lambda a: a[1], given))


def test_equal_members_have_the_same_packing():
    """Calls compare it: it must not take long."""
    one = jax.tree.map(lambda a: a[0], members())
    assert packing(one) is Population.of(members(seed=3)).packing
    assert packing(one) is packing(jax.eval_shape(lambda: one))
    assert packing(one) != packing({"deep": one["deep"][0]})


def test_it_passes_through_programs_that_update_it_in_place():
    add = jax.jit(lambda own: jax.tree.map(lambda rows: rows + rows, own), donate_argnums=0)
    own = Population.of({"w": jnp.ones((4, 300)), "n": jnp.ones(4, jnp.int32)})
    before = own.rows["float32"].unsafe_buffer_pointer()
    own.on_host().views()  # not kept by the rows: else they would be copied
    after = add(own)
    assert after.rows["float32"].unsafe_buffer_pointer() == before
    assert after.packing is own.packing
    equal(after.member(2), {"w": jnp.full(300, 2.0), "n": jnp.asarray(2, jnp.int32)})
