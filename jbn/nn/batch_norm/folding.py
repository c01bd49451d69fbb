"""Leaving batch norm out at inference: its multiply-add goes into the layer before or after it."""

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jbn.nn import channels
from jbn.nn.assertions import assert_shape
from jbn.nn.batch_norm.parts import NO_PARAMS, BatchNormParams, BatchNormStats, assert_fits, inverse_deviation


def fold(
    params: BatchNormParams | None,
    stats: BatchNormStats,
    kernel: Float[Array, "*inputs channels"],
    bias: Float[Array, " channels"] | None = None,
    *,
    epsilon: ArrayLike = 1e-5,
) -> tuple[Float[Array, "*inputs channels"], Float[Array, " channels"]]:
    """Kernel and bias of the layer BEFORE batch norm such that, at inference, batch norm can be left out.

    `kernel' = kernel * a`, `bias' = (bias - mean) * a + beta` with `a = scale / sqrt(var + epsilon)`
    (Jacob et al. 2017, section 3.2). Exact for dense and convolutional layers of any padding.

    Args:
        params: `scale` and `bias`, `[channels]`; None in place of one or both that there are not.
        stats: the running statistics.
        kernel: of the layer before, its output channels last.
        bias: of the layer before, or None.
        epsilon: as in training.

    Returns:
        The new kernel and the new bias, in the type of `kernel`.

    Raises:
        ValueError: an epsilon below 0 given as a number.
        AssertionError: parameters, statistics or a bias that do not fit the kernel's last axis.

    >>> import jax.numpy as jnp
    >>> from jbn import batch_norm
    >>> params, stats = batch_norm.init(1)
    >>> kernel, bias = fold(params, stats._replace(mean=jnp.array([3.0])), jnp.array([[2.0]]), epsilon=0.0)
    >>> kernel.tolist(), bias.tolist()
    ([[2.0]], [-3.0])
    """
    where = channels.find(kernel, -1)
    assert_fits(kernel, where, stats, params)
    factor, shift = _affine(params, stats, epsilon)
    _assert_bias(bias, kernel)
    moved = -stats.mean if bias is None else bias - stats.mean
    return _typed(kernel, kernel * where.spread(factor), moved * factor + shift)


def fold_into_next(
    params: BatchNormParams | None,
    stats: BatchNormStats,
    kernel: Float[Array, "*window inputs outputs"],
    bias: Float[Array, " outputs"] | None = None,
    *,
    epsilon: ArrayLike = 1e-5,
    padding: Literal["VALID", "SAME"] = "VALID",
) -> tuple[Float[Array, "*window inputs outputs"], Float[Array, " outputs"]]:
    """Kernel and bias of the layer AFTER batch norm such that, at inference, batch norm can be left out.

    `kernel' = a * kernel` along the inputs, `bias' = bias + sum((beta - mean * a) * kernel)` over window and
    inputs, with `a = scale / sqrt(var + epsilon)`. Exact where every output sees a whole window: for dense
    layers, and for convolutions without padding. The zeros of a padded convolution stand for batch norm's
    output, not for its input, so no single bias is right at the borders.

    Args:
        params: `scale` and `bias`, `[inputs]`; None in place of one or both that there are not.
        stats: the running statistics, `[inputs]`.
        kernel: of the layer after, `[*window, inputs, outputs]`.
        bias: of the layer after, or None.
        epsilon: as in training.
        padding: of a convolution.

    Returns:
        The new kernel and the new bias, in the type of `kernel`.

    Raises:
        ValueError: a padded convolution with a window of more than one entry, an epsilon below 0 given as a number.
        AssertionError: parameters or statistics that do not fit the kernel's second last axis.

    >>> import jax.numpy as jnp
    >>> from jbn import batch_norm
    >>> params, stats = batch_norm.init(1)
    >>> fold_into_next(params, stats._replace(mean=jnp.array([3.0])), jnp.array([[2.0]]), epsilon=0.0)[1].tolist()
    [-6.0]
    """
    if padding != "VALID" and math.prod(kernel.shape[:-2]) > 1:
        raise ValueError(
            f"batch norm before a convolution folds exactly only where no window is padded, but got "
            f"padding={padding!r} and a kernel of shape {kernel.shape}; you might need to keep batch norm, or "
            "fold it into the layer before it"
        )
    _assert_bias(bias, kernel)
    where = channels.find(kernel, -2)
    assert_fits(kernel, where, stats, params)
    factor, shift = _affine(params, stats, epsilon)
    moved = jnp.sum(kernel * where.spread(shift - stats.mean * factor), tuple(range(kernel.ndim - 1)))
    return _typed(kernel, kernel * where.spread(factor), moved if bias is None else bias + moved)


def _assert_bias(bias: Array | None, kernel: Array) -> None:
    if bias is not None:
        message = f"the bias must fit the last axis of the kernel, {kernel.shape}"
        assert_shape(bias, kernel.shape[-1:], message)


def _typed(kernel: Array, *results: Array) -> tuple[Array, Array]:
    kernel, bias = (result.astype(kernel.dtype) for result in results)
    return kernel, bias


def _affine(params: BatchNormParams | None, stats: BatchNormStats, epsilon: ArrayLike) -> tuple[Array, Array]:
    scale, bias = NO_PARAMS if params is None else params
    factor = inverse_deviation(stats.var, epsilon)
    shift = jnp.zeros_like(factor) if bias is None else bias
    return factor if scale is None else factor * scale, shift
