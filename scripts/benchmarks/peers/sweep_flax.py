"""A sequential sweep by flax.nnx and optax: FOLDER ANSWER, a Python loop over a jitted step."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from peers import sweep_setting
from peers.flax_models import Network


@functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
def step(definition, state, hyper, rows, index, size):
    """A step; compiled once for each depth, width and batch size."""
    params, stats, moments = state
    rate, beta1, beta2, epsilon = hyper
    x, y = (jax.lax.dynamic_slice_in_dim(a, index * size, size) for a in rows)

    def loss(params):
        model = nnx.merge(definition, params, stats, copy=True)
        value = optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()
        return value, nnx.state(model, nnx.BatchStat)

    (_, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, moments = optax.scale_by_adam(beta1, beta2, epsilon).update(gradient, moments)
    params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    return params, stats, moments


@functools.partial(jax.jit, static_argnums=0)
def judge(definition, params, stats, x, y):
    """The accuracy with the running statistics."""
    model = nnx.merge(definition, params, stats, copy=True)
    model.eval()
    return (model(x).argmax(1) == y).mean()


@jax.jit
def shuffled(x, y, order):
    """Rows and labels in the order of an epoch."""
    return x[order], y[order]


def train(config, data, judged, orders):
    """The validation accuracy after the last epoch."""
    model = Network(sweep_setting.kernels(config, data[0].shape[1]))
    definition, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    state = (params, stats, optax.scale_by_adam().init(params))
    size = config["batch_size"]
    betas = (config["beta1"], config["beta2"], config["epsilon"])
    indices = list(np.arange(len(data[1]) // size, dtype=np.int32))
    for epoch, order in enumerate(orders):
        rows = shuffled(*data, order)
        hyper = tuple(np.float32(value) for value in (sweep_setting.rate(config, epoch), *betas))
        for index in indices:
            state = step(definition, state, hyper, rows, index, size)
        accuracy = float(judge(definition, state[0], state[1], *judged))
    return accuracy


def main():
    """Trains all and writes the answer."""
    folder, path, _ = sweep_setting.arguments()
    setting, start = sweep_setting.load(folder), time.perf_counter()
    data = (jnp.asarray(setting.x), jnp.asarray(setting.y))
    judged = (jnp.asarray(setting.validation_x), jnp.asarray(setting.validation_y))
    orders = [jnp.asarray(order) for order in setting.orders]
    accuracies = [train(config, data, judged, orders) for config in setting.configs]
    sweep_setting.answer(path, accuracies, time.perf_counter() - start)


if __name__ == "__main__":
    main()
