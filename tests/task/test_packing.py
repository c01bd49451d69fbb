import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

from jbn.task.packing import pack, packed, unpack

SHAPES = {
    "nothing": (0,),
    "scalar": (),
    "at_the_limit": (32, 32),
    "above": (25, 41),
    "far_above": (3, 20, 30),
    "vector": (5,),
}


def tree(names=tuple(SHAPES), seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=SHAPES[name]), jnp.float32) for name in names}


@pytest.mark.parametrize(
    "names",
    [tuple(SHAPES), ("vector", "scalar"), ("above",), ("nothing",), ()],
    ids=["all", "small", "large", "empty leaf", "no leaf"],
)
def test_unpacking_gives_the_tree_back(names):
    leaves = {"first": tree(names), "second": [tree(names, seed=1)]}
    chex.assert_trees_all_equal(unpack(pack(leaves), leaves), leaves)
    chex.assert_trees_all_equal_shapes_and_dtypes(unpack(pack(leaves), leaves), leaves)


def test_small_leaves_lie_end_to_end_in_the_tree_s_order_and_large_ones_stay():
    leaves = {
        "a": jnp.arange(3.0),
        "b": jnp.ones((33, 32)),
        "c": jnp.array([[7.0, 8.0]]),
        "d": jnp.asarray(9.0),
    }
    both = pack(leaves)
    assert both.small.tolist() == [0, 1, 2, 7, 8, 9]
    assert [leaf.shape for leaf in both.large] == [(33, 32)]
    assert_array_equal(both.large[0], leaves["b"])


def test_every_entry_is_in_one_place():
    leaves = tree()
    both = pack(leaves)
    entries = np.concatenate([np.ravel(leaf) for leaf in (both.small, *both.large)])
    assert_array_equal(np.sort(entries), np.sort(np.concatenate([np.ravel(a) for a in leaves.values()])))


def test_unpacking_takes_only_structure_and_shapes_from_its_model():
    leaves = tree()
    like = jax.eval_shape(lambda: jax.tree.map(jnp.zeros_like, leaves))
    chex.assert_trees_all_equal(unpack(pack(leaves), like), leaves)


@pytest.mark.parametrize(
    "inner",
    [optax.adamw(0.1, weight_decay=0.3), optax.sgd(0.1, momentum=0.9), optax.lion(0.1)],
    ids=["adamw", "momentum", "lion"],
)
def test_a_packed_transformation_is_the_same(inner):
    params = tree()

    def two_steps(transform):
        def updates(params):
            state = transform.init(params)
            first, state = transform.update(tree(seed=1), state, params)
            second, _ = transform.update(tree(seed=2), state, params)
            return first, second

        return jax.jit(updates)(params)

    own = two_steps(packed(inner))
    chex.assert_trees_all_close(own, two_steps(inner), rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_equal_shapes_and_dtypes(own[0], params)


def test_params_may_be_left_out():
    transform = packed(optax.sgd(0.5))
    updates, _ = transform.update({"a": jnp.array([2.0])}, transform.init({"a": jnp.array([0.0])}))
    assert updates["a"].tolist() == [-1.0]


def test_members_pack_under_vmap():
    some = tree([name for name in SHAPES if name != "nothing"])
    leaves = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), some)
    mapped = jax.jit(jax.vmap(lambda leaves: unpack(pack(leaves), leaves)))(leaves)
    chex.assert_trees_all_equal(mapped, leaves)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        leaves = {name: jnp.asarray(np.full(shape, 1 / 3)) for name, shape in SHAPES.items()}
        chex.assert_trees_all_equal_shapes_and_dtypes(unpack(pack(leaves), leaves), leaves)
        chex.assert_trees_all_equal(unpack(pack(leaves), leaves), leaves)
