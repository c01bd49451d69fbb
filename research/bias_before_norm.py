"""The bias before batch norm does nothing: its gradient is below 1e-6 of the kernel's, the network the same.

A network with biases before batch norm and one without train in pairs of equal initial weights and batches,
with SGD and with Adam, 32 seeds each. What is left of a bias's gradient is rounding. How far two networks of a
pair are apart is measured against twins without biases whose initial weights differ by one unit in the last
place: training amplifies any rounding, so a bias that does nothing separates a pair as a twin is separated, and
no more.

Held: the gradient is below 1e-6 of the kernel's, pairs are at most ten times as far apart as twins, and the
accuracy is the same to within half a point (the whole 95 % interval), with every optimiser; it depends where
one of these is true for some optimisers alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
from arms import factor, points
from common import COLOURS, Finding, digits_or_mnist, main, mean, paired, verdict_of

import jbn

OPTIMIZERS = ("sgd", "adam")
RATES = {"sgd": 0.1, "adam": 0.003}
LAYERS = ("layer_1", "layer_2")
SEEDS = 32
GRADIENT = 1e-6  # of the kernel's
SAME = 0.5  # points of accuracy
FURTHER = 10  # times as far apart as twins


def init(key, x, outputs, bias, ulp, units=64):
    """Kernels, biases of 0 where there are any, and batch norm; `ulp` is a relative change of the kernels."""
    params, stats, fan_in = {}, {}, x.shape[1]
    for index, (name, size) in enumerate({**dict.fromkeys(LAYERS, units), "output": outputs}.items()):
        draws = jax.random.normal(jax.random.fold_in(key, index), (fan_in, size))
        params[name] = {"kernel": draws * jnp.sqrt(2 / fan_in) * (1 + ulp)}
        if name == "output" or bias:
            params[name]["bias"] = jnp.zeros(size)
        if name != "output":
            params[name]["batch_norm"], stats[name] = jbn.batch_norm.init(size)
        fan_in = size
    return params, stats


def affine(layer, x):
    """The affine map of a layer, with its bias if it has one."""
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def apply(params, x, stats, train):
    """Two hidden layers, each batch-normalised before its ReLU."""
    moved = {}
    for name in LAYERS:
        layer, z = params[name], affine(params[name], x)
        if train:
            z, moved[name] = jbn.batch_norm.train(layer["batch_norm"], stats[name], z)
        else:
            z = jbn.batch_norm.infer(layer["batch_norm"], stats[name], z)
        x = jax.nn.relu(z)
    return affine(params["output"], x), moved if train else stats


def without_norm(params, x, stats, train):
    """The same without batch norm: the control, in which biases matter."""
    for name in LAYERS:
        x = jax.nn.relu(affine(params[name], x))
    return affine(params["output"], x), stats


def ratios(network, trained, rows):
    """The largest gradient of a hidden bias over that of its kernel, of every model; the larger of the layers.

    `trained` are parameters and running statistics with a leading axis.
    """
    x, y = rows

    @jax.jit
    def ratio(pair):
        params, stats = pair

        def loss(params):
            scores, _ = network(params, x, stats, train=True)
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], 1))

        own = jax.grad(loss)(params)
        return jnp.max(jnp.array([abs(own[n]["bias"]).max() / abs(own[n]["kernel"]).max() for n in LAYERS]))

    return np.asarray(jax.lax.map(ratio, trained), float)


def fresh(keys, width, classes):
    """Parameters and running statistics of networks with biases before their first step."""
    return jax.lax.map(lambda key: init(key, jnp.zeros((2, width)), classes, bias=True, ulp=0.0), keys)


def configurations(optimizers):
    """Without biases, with them, and the twin of the first, for each optimiser."""
    arms = [
        (name, bias, ulp) for name in optimizers for bias, ulp in ((False, 0.0), (True, 0.0), (False, 1.2e-7))
    ]
    return {
        "optimizer": np.array([name for name, _, _ in arms], object),
        "learning_rate": np.array([RATES[name] for name, _, _ in arms]),
        "bias": np.array([bias for _, bias, _ in arms]),
        "ulp": np.array([ulp for _, _, ulp in arms]),
    }


def apart(losses, arm):
    """`log(|difference| / loss)` of validation losses, an arm's and those without biases, `[epochs, seeds]`.

    What is equal to the last bit counts as one unit in the last place.
    """
    plain = losses[:, arm - arm % 3]
    return np.log(np.maximum(np.abs(losses[:, arm] - plain) / plain, 6e-8))


def trained(options, data):
    """All arms and seeds in one population."""
    seeds, epochs, optimizers = options.size(SEEDS, 4), options.size(30, 3), OPTIMIZERS[: options.size(2, 1)]
    task = jbn.Task(model=jbn.model(init, apply), data=data, optimizer=optimizers)
    key = jax.random.key(0)
    return jbn.sweep(task, configurations(optimizers), epochs=epochs, key=key, seeds=seeds, keep_models=True)


def measure(options):
    """Trains, compares, judges."""
    data = digits_or_mnist(options)
    result = trained(options, data)
    seeds, accuracy = result.seeds, result.last("validation_accuracy")
    losses = result.curve("validation_loss")
    some = np.random.default_rng(0).choice(len(data.train.y), 256, replace=False)
    rows = result.best().rows(data.train.x[some].reshape(256, -1), data.train.y[some])[:2]
    start = fresh(jax.random.split(jax.random.key(1), seeds), rows[0].shape[1], data.classes)
    at_start, control = ratios(apply, start, rows), ratios(without_norm, start, rows)
    table, distances = [], {}
    for index, name in enumerate(OPTIMIZERS[: options.size(2, 1)]):
        biased = result.stacked(3 * index + 1)
        pairs, twins = apart(losses, 3 * index + 1), apart(losses, 3 * index + 2)
        distances[name] = {"with, without bias": pairs, "twins": twins}
        table.append(
            {
                "optimiser": name,
                "gradient_of_bias_over_kernel_at_start": mean(at_start),
                "after_training": mean(ratios(apply, (biased.params, biased.stats), rows)),
                "without_batch_norm": mean(control),
                "largest_bias": mean(np.max([abs(biased.params[n]["bias"]) for n in LAYERS], axis=(0, 2))),
                "accuracy_with_bias_less_without_points": points(
                    paired(accuracy[3 * index + 1], accuracy[3 * index])
                ),
                "pair_apart_over_twins": factor((pairs - twins).mean(axis=0)),
            }
        )
    more = {"data": data.name, "apart": {name: described(own) for name, own in distances.items()}}
    return judge(table, more)


def described(distances):
    """Geometric means and intervals over the epochs."""
    return {label: [factor(row) for row in rows] for label, rows in distances.items()}


def judge(table, more):
    """Whether every part of the claim is true, by optimiser."""
    good, said = {}, []
    for row in table:
        gradient = max(row["gradient_of_bias_over_kernel_at_start"].high, row["after_training"].high)
        points, distance = row["accuracy_with_bias_less_without_points"], row["pair_apart_over_twins"]
        same = points.low > -SAME and points.high < SAME and distance.high < FURTHER
        good[row["optimiser"]] = gradient < GRADIENT and same
        said.append(
            f"{row['optimiser']}: mean gradient below {gradient:.1e} of the kernel's (95 %), "
            f"pairs {distance.mean:.2g} times as far apart as twins, "
            f"accuracy {points.mean:+.2f} points ({points.low:.2f} to {points.high:.2f}), "
            f"largest bias after training {row['largest_bias'].mean:.1e}"
        )
    verdict = verdict_of(good.values())
    true = ", ".join(name for name, own in good.items() if own)
    condition = f"True for {true} alone. " if verdict == "depends" else ""
    return Finding(table, verdict, condition + "; ".join(said), more)


def draw(figure, finding):
    """How far pairs and twins are apart over the epochs."""
    names = list(finding.more["apart"])
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        for number, (label, own) in enumerate(finding.more["apart"][name].items()):
            values, epochs = np.array([row[:3] for row in own]), np.arange(1, len(own) + 1)
            axis.plot(epochs, values[:, 0], color=COLOURS[number], ls=("-", "--")[number], label=label)
            axis.fill_between(epochs, values[:, 1], values[:, 2], color=COLOURS[number], alpha=0.2, lw=0)
        axis.set(title=name, yscale="log", xlabel="epochs")
    axes[0].set_ylabel("relative difference of loss")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
