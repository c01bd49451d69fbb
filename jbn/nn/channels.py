"""Where the channels of an array stand, and how vectors and masks line up with it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Shaped

ChannelAxis = int | tuple[int, ...]


class Channels(NamedTuple):
    """The axes of an array that are channels; all others are reduced.

    Args:
        axes: of the channels, ascending, none negative.
        reduced: all other axes, ascending.
        shape: of one entry a channel.
        values: how many entries every channel has.

    >>> import jax.numpy as jnp
    >>> find(jnp.zeros((8, 3, 5, 5)), 1)
    Channels(axes=(1,), reduced=(0, 2, 3), shape=(3,), values=200)
    """

    axes: tuple[int, ...]
    reduced: tuple[int, ...]
    shape: tuple[int, ...]
    values: int

    def spread(self, vector: Shaped[Array, "*channels"]) -> Shaped[Array, "..."]:
        """One entry a channel, with axes of length 1 for the reduced ones."""
        return jax.lax.expand_dims(vector, self.reduced)

    def align(self, mask: Bool[Array, "..."], shape: Sequence[int]) -> Bool[Array, "..."]:
        """The mask with axes of length 1 for those it leaves out, so that it never broadcasts from the right.

        Args:
            mask: in the shape of the array without its channel axes, or a leading prefix of that.
            shape: of the array.
        """
        rows = tuple(shape[axis] for axis in self.reduced)
        if mask.shape != rows[: mask.ndim]:
            raise ValueError(
                f"a mask has the shape of x without the channel axis, or a leading prefix of it: "
                f"x has shape {tuple(shape)}, the mask {mask.shape}; "
                f"you might need to reshape the mask to {rows}"
            )
        return jax.lax.expand_dims(mask.reshape(mask.shape + (1,) * (len(rows) - mask.ndim)), self.axes)


def find(x: Float[Array, "..."], channel_axis: ChannelAxis) -> Channels:
    """The channels of `x`.

    Args:
        x: any array of at least one axis.
        channel_axis: one axis or several; negative ones count from the end.

    Raises:
        ValueError: an axis that `x` does not have, or has been named twice.
    """
    named = channel_axis if isinstance(channel_axis, tuple) else (channel_axis,)
    axes = tuple(sorted(axis + x.ndim if axis < 0 else axis for axis in named))
    if not axes or len(set(axes)) < len(axes) or axes[0] < 0 or axes[-1] >= x.ndim:
        raise ValueError(
            f"channel_axis must name different axes of x, but got channel_axis={channel_axis} "
            f"for x of shape {x.shape}"
        )
    reduced = tuple(axis for axis in range(x.ndim) if axis not in axes)
    return Channels(
        axes=axes,
        reduced=reduced,
        shape=tuple(x.shape[axis] for axis in axes),
        values=math.prod(x.shape[axis] for axis in reduced),
    )
