"""The benchmarks' networks in flax.nnx, and a step of optax's Adam."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from peers.problem import BETAS, EPSILON, NORM_EPSILON, NORM_MOMENTUM


class Network(nnx.Module):
    """Dense or 3x3 layers without bias -> batch norm -> ReLU (-> 2x2 maximum), and a dense output layer."""

    def __init__(self, kernels):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.List([_layer(kernel, rngs) for kernel in kernels[:-1]])
        self.norms = nnx.List(
            [
                nnx.BatchNorm(k.shape[-1], momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, rngs=rngs)
                for k in kernels[:-1]
            ]
        )
        self.output = nnx.Linear(*kernels[-1].shape, kernel_init=_given(kernels[-1]), rngs=rngs)

    def __call__(self, x):
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = jax.nn.relu(norm(layer(x)))
            if x.ndim == 4:
                x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.output(x.reshape(x.shape[0], -1))


def _layer(kernel, rngs):
    settings = {"use_bias": False, "kernel_init": _given(kernel), "rngs": rngs}
    if kernel.ndim == 2:
        return nnx.Linear(*kernel.shape, **settings)
    return nnx.Conv(kernel.shape[2], kernel.shape[3], kernel.shape[:2], **settings)


def _given(kernel):
    return lambda *_: jnp.asarray(kernel)


def functions(kernels):
    """The initial state and `step(state, rate, x, y) -> state, loss` as pure functions."""
    definition, params, stats = nnx.split(Network(kernels), nnx.Param, nnx.BatchStat)
    adam = optax.scale_by_adam(*BETAS, eps=EPSILON)

    def loss(params, stats, x, y):
        model = nnx.merge(definition, params, stats, copy=True)
        value = optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()
        return value, nnx.state(model, nnx.BatchStat)

    def step(state, rate, x, y):
        params, stats, moments = state
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, x, y)
        updates, moments = adam.update(gradient, moments)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return (params, stats, moments), value

    return (params, stats, adam.init(params)), step
