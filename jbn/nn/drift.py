"""How far the statistics of a network's inputs and hidden layers are from those it was trained with."""

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from jbn.nn.model import Hyper, Model
from jbn.nn.moments import Moments
from jbn.nn.normalizer import Normalizer

INPUT = "input"
_ROWS = 256  # at a time: the patches of more images would take gigabytes


class LayerDrift(NamedTuple):
    """How far the statistics of one layer have moved; NaN where no channel tells.

    Args:
        layer: its name, "input" for the features.
        channels: how many vary in the old statistics, of which `shift` is the mean.
        shift: mean over the channels of |new mean - old mean|, in old standard deviations.
        log_ratio: mean over the channels that vary in both of |log(new standard deviation / old one)|.
    """

    layer: str
    channels: int
    shift: float
    log_ratio: float


def layer_drift(
    layer: str,
    mean: Num[Array | np.ndarray, " channels"],
    deviation: Num[Array | np.ndarray, " channels"],
    new_mean: Num[Array | np.ndarray, " channels"],
    new_deviation: Num[Array | np.ndarray, " channels"],
) -> LayerDrift:
    """How far the means and deviations of one layer's channels have moved.

    With m, s = `mean`, `deviation` and m', s' = `new_mean`, `new_deviation` of a channel:
    `shift = mean(|m' - m| / s)` over the channels with s > 0, `log_ratio = mean(|log(s' / s)|)` over those with
    s > 0 and s' > 0. Both are 0 where nothing has moved and do not depend on the unit of a channel.

    >>> old, new = (np.array([1.0, 0.0]), np.array([2.0, 1.0])), (np.array([4.0, 0.0]), np.array([2.0, 1.0]))
    >>> layer_drift("layer_1", *old, *new)
    LayerDrift(layer='layer_1', channels=2, shift=0.75, log_ratio=0.0)
    """
    m, s, new_m, new_s = (np.asarray(a, np.float64) for a in (mean, deviation, new_mean, new_deviation))
    varying = s > 0
    both = varying & (new_s > 0)
    shift = np.abs(new_m[varying] - m[varying]) / s[varying]
    log_ratio = np.abs(np.log(new_s[both] / s[both]))
    return LayerDrift(layer, int(varying.sum()), _mean(shift), _mean(log_ratio))


def input_drift(old: Normalizer, new: Normalizer) -> LayerDrift:
    """How far the features have moved, by the normalisers of the old and the new training part.

    >>> from jbn.nn.normalizer import fit
    >>> input_drift(fit(np.array([[0.0], [2.0]])), fit(np.array([[3.0], [5.0]])))
    LayerDrift(layer='input', channels=1, shift=3.0, log_ratio=0.0)
    """
    return layer_drift(INPUT, old.mean, _deviation(old), new.mean, _deviation(new))


def hidden_drift(
    model: Model,
    params: PyTree,
    stats: PyTree,
    x: Float[Array, "rows *features"],
    *,
    hyper: Hyper,
    key: PRNGKeyArray,
) -> tuple[LayerDrift, ...]:
    """How far what reaches every batch norm layer of a trained network has moved, on new rows.

    The rows go through the network as it is, normalised by its running statistics, with the dropout of its training.
    The moments of what every layer would normalise are merged over all rows and compared with the layer's running
    statistics: their means, and the square roots of their variances.

    Args:
        model: with `observe`; one without has no layers to tell of.
        params: of the trained network.
        stats: its running statistics.
        x: new rows, normalised as those that it was trained with.
        hyper: its hyper-parameters, and `outputs`.
        key: of the dropout.

    Returns:
        One entry a batch norm layer, in the order of the layers.

    >>> import jbn
    >>> model, hyper = jbn.mlp(layers=2, hidden_units=4), {"outputs": 3}
    >>> x = jax.random.normal(jax.random.key(0), (50, 6))
    >>> params, stats = model.init(jax.random.key(1), hyper, jax.ShapeDtypeStruct((1, 6), x.dtype))
    >>> [own.layer for own in hidden_drift(model, params, stats, x, hyper=hyper, key=jax.random.key(2))]
    ['layer_1', 'layer_2']
    """
    if model.observe is None or not stats:
        return ()
    params, stats = jax.tree.map(jnp.asarray, (params, stats))
    names, moments = _observed(partial(model.observe, params, stats, hyper=hyper), x, key)
    return tuple(
        layer_drift(name, stats[name].mean, np.sqrt(stats[name].var), own.mean, np.sqrt(own.variance()))
        for name, own in zip(names, moments, strict=True)
    )


def _parts(x: Array) -> Iterator[Array]:
    for start in range(0, len(x), _ROWS):
        yield x[start : start + _ROWS]


def _observed(
    observe: Callable[..., dict[str, Moments]], x: Array, key: PRNGKeyArray
) -> tuple[list[str], list[Moments]]:
    """The layers, in their order, and the moments of each over all rows."""
    names: list[str] = []

    @jax.jit
    def part(rows: Array, key: PRNGKeyArray) -> list[Moments]:
        found = observe(rows, key=key)
        names[:] = found  # a dict would come out of a compiled function in alphabetical order
        return list(found.values())

    parts = (part(rows, jax.random.fold_in(key, place)) for place, rows in enumerate(_parts(x)))
    return names, reduce(_merged, parts)


@jax.jit
def _merged(one: list[Moments], other: list[Moments]) -> list[Moments]:
    """Moments of all values of both parts together, layer by layer."""
    return [own.merge(another) for own, another in zip(one, other, strict=True)]


def _deviation(normalizer: Normalizer) -> np.ndarray:
    """Standard deviations, 0 of a constant feature."""
    factor = np.asarray(normalizer.factor, np.float64)
    return np.divide(1, factor, out=np.zeros_like(factor), where=factor > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
