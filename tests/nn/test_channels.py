import re

import jax.numpy as jnp
import numpy as np
import pytest

from jbn.nn import channels

SHAPE = (8, 3, 5, 2)
X = jnp.zeros(SHAPE)


@pytest.mark.parametrize(
    ("channel_axis", "axes", "reduced", "shape", "values"),
    [
        (-1, (3,), (0, 1, 2), (2,), 120),
        (1, (1,), (0, 2, 3), (3,), 80),
        (0, (0,), (1, 2, 3), (8,), 30),
        ((1,), (1,), (0, 2, 3), (3,), 80),
        ((1, 2), (1, 2), (0, 3), (3, 5), 16),
        ((2, 1), (1, 2), (0, 3), (3, 5), 16),
        ((-1, -3), (1, 3), (0, 2), (3, 2), 40),
        ((0, 1, 2, 3), (0, 1, 2, 3), (), SHAPE, 1),
    ],
)
def test_axes_are_ascending_and_none_is_negative(channel_axis, axes, reduced, shape, values):
    assert channels.find(X, channel_axis) == channels.Channels(axes, reduced, shape, values)


def test_an_empty_batch_has_no_values():
    assert channels.find(jnp.zeros((0, 4, 3)), -1).values == 0
    assert channels.find(jnp.zeros((0, 4, 3)), (1, 2)).values == 0


@pytest.mark.parametrize("channel_axis", [4, -5, (1, 4), (1, 1), (-1, 3), ()])
def test_axes_that_x_does_not_have_are_refused(channel_axis):
    message = (
        f"channel_axis must name different axes of x, but got channel_axis={channel_axis} for x of shape "
    )
    with pytest.raises(ValueError, match=re.escape(f"{message}{SHAPE}")):
        channels.find(X, channel_axis)


@pytest.mark.parametrize(("channel_axis", "indices"), [(-1, (3,)), (1, (1,)), ((1, 2), (1, 2)), (0, (0,))])
def test_a_vector_is_spread_along_its_own_axes(channel_axis, indices):
    where = channels.find(X, channel_axis)
    vector = np.arange(np.prod(where.shape), dtype=np.float32).reshape(where.shape)
    spread = np.broadcast_to(where.spread(jnp.asarray(vector)), SHAPE)
    for place in np.ndindex(SHAPE):
        assert spread[place] == vector[tuple(place[axis] for axis in indices)]


def test_a_mask_of_channels_is_spread_as_well():
    where = channels.find(X, 1)
    assert where.spread(jnp.array([True, False, True])).tolist() == [[[[True]], [[False]], [[True]]]]


@pytest.mark.parametrize("channel_axis", [-1, 1, 0, (1, 2), (0, 3)])
def test_a_mask_is_aligned_with_what_is_no_channel(channel_axis):
    where = channels.find(X, channel_axis)
    rows = tuple(SHAPE[axis] for axis in where.reduced)
    for length in range(len(rows) + 1):  # every leading prefix
        mask = np.random.default_rng(0).random(rows[:length]) < 0.5
        aligned = where.align(jnp.asarray(mask), SHAPE)
        assert aligned.ndim == len(SHAPE)
        whole = np.broadcast_to(aligned, SHAPE)
        for place in np.ndindex(SHAPE):
            assert whole[place] == mask[tuple(place[axis] for axis in where.reduced[:length])]


@pytest.mark.parametrize("shape", [(3,), (8, 3), (8, 1), (8, 5, 1), (8, 5, 2, 1), (1, 5, 2), (5, 2), (2,)])
def test_a_mask_that_is_no_leading_prefix_is_refused(shape):
    with pytest.raises(ValueError, match="a mask has the shape of x without the channel axis, or a") as error:
        channels.find(X, 1).align(jnp.ones(shape, bool), SHAPE)
    assert f"x has shape {SHAPE}, the mask {shape}; " in str(error.value)
    assert str(error.value).endswith("you might need to reshape the mask to (8, 5, 2)")


def test_nothing_is_repeated_along_the_axes_left_out():
    where = channels.find(X, 1)
    assert where.align(jnp.ones((8, 5), bool), SHAPE).shape == (8, 1, 5, 1)
    assert where.align(jnp.ones(8, bool), SHAPE).shape == (8, 1, 1, 1)
    assert where.spread(jnp.zeros(3)).shape == (1, 3, 1, 1)
