"""What `covariate_shift.py` does to networks: noise behind batch norm, new colourings, changed layers, steps."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from networks import forward, infer

import jbn

COLOURINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "dimmed": lambda x: 0.4 * x,
    "veiled": lambda x: 8 + 0.5 * x,
    "side light": lambda x: x * np.tile(np.linspace(0.2, 1.4, 8), 8),
    "inverted": lambda x: 16 - x,
}  # of digits, which have 8x8 pixels of 0 to 16


def train(
    params: Mapping[str, Any], stats: Mapping[str, Any], x: Array, key: PRNGKeyArray, shift: float | Array
) -> tuple[Array, dict[str, Array], dict[str, Any]]:
    """`networks.train` with noise behind batch norm: `y (1 + f / 4) + s` with f, s uniform in -shift to shift.

    Every unit has its own f and s, the same for all rows of a batch and new for every key: that is a shift of the
    distribution. Twice the noise of Santurkar et al. (2018) is a shift of 1.
    """
    moved: dict[str, Any] = {}

    def normalize(name: str, z: Array) -> Array:
        y, moved[name] = jbn.batch_norm.train(params[name]["batch_norm"], stats[name], z)
        own = jax.random.fold_in(key, int(name.split("_")[1]))
        f, s = jax.random.uniform(own, (2, 1, z.shape[1]), minval=-shift, maxval=shift)
        return y * (1 + f / 4) + s

    return (*forward(params, x, normalize), moved)


def apply(params, x, stats, train, key, shift=0.0):
    """The network for `jbn.model`; no noise at inference, and none where there is no batch norm."""
    if not train:
        return infer(params, stats, x)[0], stats
    outputs, _, moved = _train(params, stats, x, key, shift)
    return outputs, moved


_train = train  # where an argument has its name


def distance(before: Array, after: Array) -> Array:
    """How far the values of units `[rows, units]` have moved, in deviations.

    The 2-Wasserstein distance of normal distributions with the mean and deviation of each unit:
    `sqrt(sum_u((mu' - mu)^2 + (sigma' - sigma)^2) / sum_u(sigma^2))`.
    """
    mu, sigma = before.mean(axis=0), before.std(axis=0)
    moved = (after.mean(axis=0) - mu) ** 2 + (after.std(axis=0) - sigma) ** 2
    return jnp.sqrt(moved.sum() / (sigma**2).sum())


@jax.jit
def drift(before: PyTree, after: PyTree, x: Array, shift: float | Array) -> Array:
    """How far the inputs of the hidden layers behind the first have moved, their mean, `[networks]`."""

    @jax.vmap
    def one(before: PyTree, after: PyTree) -> Array:
        keys = jax.random.split(jax.random.key(0))
        own, then = (train(*two, x, key, shift)[1] for two, key in zip((before, after), keys, strict=True))
        return jnp.mean(
            jnp.array([distance(own[name], then[name]) for name in own if name not in ("layer_1", "output")])
        )

    return one(before, after)


@jax.jit
def gradient_change(networks: PyTree, x: Array, y: Array, shift: float | Array, length: float) -> Array:
    """`|g(w - e g) - g(w)| / |g(w)|`, with e so that the step is this share of |w|; smaller is smoother."""

    @jax.vmap
    def one(params: PyTree, stats: PyTree) -> Array:
        def loss(params: PyTree) -> Array:
            scores = jax.nn.log_softmax(train(params, stats, x, jax.random.key(0), shift)[0])
            return -jnp.mean(jnp.take_along_axis(scores, y[:, None], 1))

        g = jax.grad(loss)(params)
        e = length * _norm(params) / _norm(g)
        there = jax.grad(loss)(jax.tree.map(lambda w, d: w - e * d, params, g))
        return _norm(jax.tree.map(jnp.subtract, there, g)) / _norm(g)

    return one(*networks)


def _norm(tree: PyTree) -> Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def changed(params: PyTree, key: PRNGKeyArray, size: float | Array) -> PyTree:
    """The kernels of layers 1 and 2 with normal noise of this share of their root mean square."""
    own = dict(params)
    for number, name in enumerate(("layer_1", "layer_2")):
        kernel = params[name]["kernel"]
        noise = jax.random.normal(jax.random.fold_in(key, number), kernel.shape)
        own[name] = {**params[name], "kernel": kernel + size * jnp.sqrt(jnp.mean(kernel**2)) * noise}
    return own


@jax.jit
def after_change(networks: PyTree, x: Array, y: Array, size: float | Array) -> tuple[Array, Array, Array]:
    """What changed layers 1 and 2 do: how far the inputs of layer 3 move, and accuracy, `[networks]` each.

    Accuracy with the statistics of these rows as one batch, as in training, and with the running ones.
    """
    keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(networks)[0]))

    @jax.vmap
    def one(params: PyTree, stats: PyTree, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        own = changed(params, key, size)
        _, before, _ = train(params, stats, x, key, 0.0)
        outputs, after, _ = train(own, stats, x, key, 0.0)
        running = infer(own, stats, x)[0]
        return distance(before["layer_3"], after["layer_3"]), right(outputs, y), right(running, y)

    return one(*networks, keys)


def right(outputs: Array, y: Array) -> Array:
    """Share of the rows whose class is right."""
    return jnp.mean(outputs.argmax(-1) == y)


@jax.jit
def by_statistics(networks: PyTree, batches: Array, y: Array, others: Array) -> tuple[Array, Array, Array]:
    """Accuracy with the running statistics, those of each batch, and those of other rows, `[networks]` each.

    Args:
        networks: parameters and running statistics on a leading axis.
        batches: rows to judge, `[batches, rows, features]`.
        y: their classes.
        others: unlabelled rows of the same kind.
    """
    key = jax.random.key(0)

    @jax.vmap
    def one(params: PyTree, stats: PyTree) -> tuple[Array, Array, Array]:
        fresh = {name: jbn.batch_norm.init(len(own.mean))[1] for name, own in stats.items()}
        population = train(params, fresh, others, key, 0.0)[2]  # an average of one batch
        flat = batches.reshape(-1, batches.shape[-1])
        each = jax.vmap(lambda x: train(params, stats, x, key, 0.0)[0])(batches).reshape(len(flat), -1)
        running, new = (infer(params, own, flat)[0] for own in (stats, population))
        return right(running, y), right(each, y), right(new, y)

    return one(*networks)


def soon(losses: np.ndarray, target: float) -> np.ndarray:
    """Epochs until the loss `[segments, ...]` is at the target, interpolated on a logarithmic scale.

    Before the first epoch it is that of guessing among ten classes. Where it never comes to the target, one epoch
    more than there are.
    """
    start = np.full((1, *losses.shape[1:]), np.log(10))
    losses = np.concatenate([start, np.nan_to_num(losses, nan=np.inf)])
    at = (losses <= target).argmax(axis=0)
    before, after = (np.take_along_axis(losses, np.maximum(at - own, 0)[None], 0)[0] for own in (1, 0))
    part = np.log(before / target) / np.log(before / np.minimum(after, before - 1e-9))
    return np.where(at > 0, at - 1 + part, float(len(losses)))
