"""One member's training against the textbook, written out in float64 NumPy."""

import jax
import numpy as np
import pytest

import jbn
from jbn.task.streams import order, streams

CONFIG = {
    "layers": 2,
    "hidden_units": 7,
    "batch_size": 16,
    "learning_rate": 0.05,
    "beta1": 0.9,
    "beta2": 0.99,
    "epsilon": 1e-8,
    "decay_rate": 0.5,
}
BN_EPSILON, BN_MOMENTUM, EPOCHS = 1e-5, 0.9, 3


def data():
    rng = np.random.default_rng(0)
    y = np.arange(50) % 3
    x = rng.normal(size=(50, 4)) * [1, 10, 0.1, 3] + y[:, None]
    return jbn.data.arrays(
        x[:40], y[:40], x_validation=x[40:], y_validation=y[40:], x_test=x[40:], y_test=y[40:]
    )


def forward(p, x, statistics=None):
    """Logits, and what the backward pass needs; with `statistics` at inference."""
    tape, a = [], x
    for layer in ("layer_1", "layer_2"):
        z = a @ p[layer, "kernel"]
        mean, var = (z.mean(0), z.var(0)) if statistics is None else statistics[layer]
        xhat = (z - mean) / np.sqrt(var + BN_EPSILON)
        y = p.get((layer, "scale"), 1) * xhat + p.get((layer, "bias"), 0)
        tape.append((layer, a, xhat, var, y, mean))
        a = np.maximum(y, 0)
    return a @ p["output", "kernel"] + p["output", "bias"], a, tape


def cross_entropy(logits, labels):
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -logs[np.arange(len(labels)), labels].mean(), np.exp(logs)


def gradients(p, x, labels):
    logits, a, tape = forward(p, x)
    loss, share = cross_entropy(logits, labels)
    d = share.copy()
    d[np.arange(len(labels)), labels] -= 1
    d /= len(labels)
    g = {("output", "kernel"): a.T @ d, ("output", "bias"): d.sum(0)}
    d = d @ p["output", "kernel"].T
    for layer, below, xhat, var, y, _ in reversed(tape):
        d = d * (y > 0)
        g[layer, "scale"], g[layer, "bias"] = (d * xhat).sum(0), d.sum(0)
        d = d * p.get((layer, "scale"), 1)
        d = (d - d.mean(0) - xhat * (d * xhat).mean(0)) / np.sqrt(var + BN_EPSILON)
        g[layer, "kernel"] = below.T @ d
        d = d @ p[layer, "kernel"].T
    return loss, g, tape


def textbook(start, x, labels, orders):
    """Losses of every batch, final parameters and running statistics."""
    p = dict(start)
    m, v = ({k: np.zeros_like(a) for k, a in p.items()} for _ in range(2))
    running = {layer: [0.0, 1.0, 0.0] for layer in ("layer_1", "layer_2")}
    losses, step, size = [], 0, CONFIG["batch_size"]
    b1, b2 = CONFIG["beta1"], CONFIG["beta2"]
    for epoch, place in enumerate(orders):
        rate = CONFIG["learning_rate"] / (1 + CONFIG["decay_rate"] * epoch)
        for first in range(0, len(place) - size + 1, size):
            rows = place[first : first + size]
            loss, g, tape = gradients(p, x[rows], labels[rows])
            losses.append(loss)
            step += 1
            for layer, _, _, var, _, mean in tape:
                old = running[layer]
                count = BN_MOMENTUM * old[2] + 1
                running[layer] = [old[0] + (mean - old[0]) / count, old[1] + (var - old[1]) / count, count]
            for k, value in p.items():
                m[k] = b1 * m[k] + (1 - b1) * g[k]
                v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
                mhat, vhat = m[k] / (1 - b1**step), v[k] / (1 - b2**step)
                p[k] = value - rate * mhat / (np.sqrt(vhat) + CONFIG["epsilon"])
    return losses, p, running


@pytest.mark.parametrize("through", ["train_function", "sweep", "sweep without scale and bias"])
def test_training_is_that_of_the_textbook(through):
    with jax.enable_x64(True):
        source, key = data(), jax.random.key(5)
        task = jbn.Task(model=jbn.mlp(), data=source)
        x = (source.train.x - source.train.x.mean(0)) / source.train.x.std(0)
        parts = dict.fromkeys(("batch_norm_scale", "batch_norm_bias"), "without" not in through)
        hyper, row = {**CONFIG, **parts, "outputs": 3}, jax.ShapeDtypeStruct((1, 4), x.dtype)
        start, _ = jax.jit(lambda key: task.model.init(key, hyper, row))(streams(key).initial)
        orders = [np.asarray(order(streams(key).order, epoch, 40)) for epoch in range(EPOCHS)]
        losses, params, running = textbook(flat(start), x, source.train.y, orders)
        if through != "train_function":
            # A second member, narrower so that both are padded, learns nothing and cannot win.
            configs = {name: [value, value] for name, value in CONFIG.items()}
            configs |= {"hidden_units": [7, 5], "learning_rate": [CONFIG["learning_rate"], 0.0]}
            configs |= {name: [value, value] for name, value in parts.items()}
            result = jbn.sweep(task, configs, epochs=EPOCHS, key=key)
            assert result.best().config_id == 0
            train_loss, validation_loss = (
                result.history.train_loss[:, 0],
                result.history.validation_loss[:, 0],
            )
            got, stats = result.best().params, result.best().stats
        else:
            metrics, got, stats = jbn.train_function(task, epochs=EPOCHS)(CONFIG, key)
            train_loss, validation_loss = metrics.train_loss, metrics.validation_loss
    np.testing.assert_allclose(train_loss, np.reshape(losses, (EPOCHS, 2)).mean(1), rtol=1e-9)
    assert set(flat(got)) == set(params)
    for name, value in flat(got).items():
        np.testing.assert_allclose(value, params[name], rtol=1e-7, atol=1e-9)
    for layer, (mean, var, count) in running.items():
        np.testing.assert_allclose(stats[layer].mean, mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(stats[layer].var, var, rtol=1e-9)
        np.testing.assert_allclose(stats[layer].count, count, rtol=1e-12)
    validation = (source.validation.x - source.train.x.mean(0)) / source.train.x.std(0)
    inference = {layer: (mean, var) for layer, (mean, var, _) in running.items()}
    expected, _ = cross_entropy(forward(params, validation, inference)[0], source.validation.y)
    np.testing.assert_allclose(validation_loss[-1], expected, rtol=1e-8)


def flat(params):
    """(layer, name) -> array."""
    entries = {}
    for layer, own in params.items():
        norm = own["batch_norm"]._asdict() if "batch_norm" in own else {}
        entries |= {(layer, name): np.asarray(a) for name, a in own.items() if name != "batch_norm"}
        entries |= {(layer, name): np.asarray(a) for name, a in norm.items() if a is not None}
    return entries
