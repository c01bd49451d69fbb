"""The loop over tiles: what is live is done once, everything else is left as it is."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jbn.engine.programs import Live, over_tiles

SLOTS = 10
TILES = (1, 3, 8)


def add(state, amount):
    """One slot: a matrix and a counter change, a number comes out."""
    return {"matrix": state["matrix"] + amount, "count": state["count"] + 1}, amount * 10


def start():
    matrix = jnp.arange(SLOTS * 6, dtype=jnp.float32).reshape(SLOTS, 2, 3)
    return {"matrix": matrix, "count": jnp.zeros(SLOTS, jnp.int32)}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    "slots", [[], [4], [7, 2], [9, 0, 3, 5], list(range(10)), [1, 2, 3, 4, 5, 6, 7, 8, 9]]
)
def test_live_slots_are_done_once_and_all_others_stay_untouched(tile, slots):
    order = np.array([*slots, *[SLOTS] * (SLOTS - len(slots))], np.int32)
    amounts = jnp.arange(1.0, SLOTS + 1)
    live = Live(order, np.asarray(len(slots), np.int32))
    states, outputs = jax.jit(over_tiles, static_argnums=(0, 5))(
        add, start(), amounts, jnp.full(SLOTS, jnp.nan), live, tile
    )
    expected = np.array(start()["matrix"])
    for slot in slots:
        expected[slot] += slot + 1
    np.testing.assert_array_equal(states["matrix"], expected)
    np.testing.assert_array_equal(states["count"], np.isin(np.arange(SLOTS), slots))
    np.testing.assert_array_equal(outputs, [10.0 * (s + 1) if s in slots else np.nan for s in range(SLOTS)])


@pytest.mark.parametrize("tile", TILES)
def test_a_dead_slot_that_holds_nan_disturbs_nobody(tile):
    state = start() | {"matrix": start()["matrix"].at[3].set(jnp.nan)}
    live = Live(np.array([0, 1, 2, 4, *[SLOTS] * 6], np.int32), np.asarray(4, np.int32))
    states, outputs = over_tiles(add, state, jnp.ones(SLOTS), jnp.zeros(SLOTS), live, tile)
    assert bool(jnp.isnan(states["matrix"][3]).all())
    chex.assert_tree_all_finite((states["matrix"][jnp.array([0, 1, 2, 4, 5])], outputs))


@pytest.mark.parametrize("tile", TILES)
def test_order_beyond_the_live_ones_does_not_matter(tile):
    """Entries behind the live ones may name real slots: they are still not touched."""
    live = Live(np.array([6, 1, 0, 2, 3, 4, 5, 7, 8, 9], np.int32), np.asarray(2, np.int32))
    states, _ = over_tiles(add, start(), jnp.ones(SLOTS), jnp.zeros(SLOTS), live, tile)
    assert np.flatnonzero(states["count"]).tolist() == [1, 6]


def test_how_many_are_live_is_an_argument():
    """Another number of live slots is no new trace."""
    traced = chex.assert_max_traces(over_tiles, n=1)
    run = jax.jit(traced, static_argnums=(0, 5))
    for count in (0, 1, 5, 10):
        live = Live(np.arange(SLOTS, dtype=np.int32), np.asarray(count, np.int32))
        states, _ = run(add, start(), jnp.ones(SLOTS), jnp.zeros(SLOTS), live, 3)
        assert int(states["count"].sum()) == count
