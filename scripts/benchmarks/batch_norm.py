"""Batch norm against flax.linen.BatchNorm and PyTorch, on the same cores, in turn.

Forward is `y, stats = train(x)`; forward + backward also gives the gradients of x, scale and bias for a given dy,
with y an output. Single calls donate the statistics and the room for y and dx, so that none allocates; loops take
20 steps of (x, dy) -> (y, dx) in one program. PyTorch runs its layer as it is, channels
last; its loop is 20 calls. PyTorch allocates its outputs, which costs page faults by the default settings of
the C library; so the table is measured once as it is, and once in a process that keeps the memory it gave back.
`unguarded` is no library, but about what XLA needs at the least: textbook formulas with nothing against rounding.
"""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from common import RESULTS, write

import jbn
from jbn import batch_norm
from jbn.task import member as members
from jbn.task.hyper import Structure, bind, numbers

SHAPES = [(256, 1024), (4096, 1024), (64, 28, 28, 64), (32, 64, 64, 64)]
STEPS, ROUNDS = 20, 15
MEMBERS, MEMBER_SHAPE = (8, 64, 256), (64, 100)
RATIOS = (1.0, 1e2, 1e3, 1e4, 1e5)
# what must move when nothing stays on the chip: forward reads x twice and writes y, backward reads
# x and dy twice and writes dx
PASSES = {"forward": 3, "both": 8}


def ours(features):
    """`train(params, stats, x)` of this library, and what it starts from."""
    return batch_norm.train, *batch_norm.init(features)


def flax(features, *, fast):
    """The same of flax.linen.BatchNorm, with `E[x^2] - E[x]^2` (its default) or with two passes."""
    layer = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, use_fast_variance=fast)

    def train(params, stats, x):
        y, state = layer.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
        return y, state["batch_stats"]

    variables = layer.init(jax.random.key(0), jnp.ones((2, features)))
    return train, variables["params"], variables["batch_stats"]


def unguarded(features):
    """Batch norm in about as few operations as it can be written with (their order still moves its time by a tenth).

    Two sums and one multiply-add each way by hand, `E[x^2] - E[x]^2`, nothing against rounding.
    """

    def forwards(params, x):
        axes, count = tuple(range(x.ndim - 1)), x.size // features
        mean = jnp.sum(x, axes) / count
        var = jnp.sum(x * x, axes) / count - mean * mean
        factor = 1 / jnp.sqrt(var + 1e-5)
        y = (x - mean) * (factor * params["scale"]) + params["bias"]
        return (y, mean, var), (params, x, mean, factor)

    def backwards(kept, cotangents):
        (params, x, mean, factor), dy = kept, cotangents[0]
        axes, count = tuple(range(x.ndim - 1)), x.size // features
        first = jnp.sum(dy, axes)
        second = (jnp.sum(dy * x, axes) - mean * first) * factor
        slope = second / count * factor
        dx = (dy - x * slope - (first / count - mean * slope)) * (factor * params["scale"])
        return {"scale": second, "bias": first}, dx

    layer = jax.custom_vjp(lambda params, x: forwards(params, x)[0])
    layer.defvjp(forwards, backwards)

    def train(params, stats, x):
        y, mean, var = layer(params, x)
        return y, {"mean": 0.9 * stats["mean"] + 0.1 * mean, "var": 0.9 * stats["var"] + 0.1 * var}

    zeros, ones = jnp.zeros(features), jnp.ones(features)
    return train, {"scale": ones, "bias": zeros}, {"mean": zeros, "var": ones}


LIBRARIES = {
    "jbn": ours,
    "flax": functools.partial(flax, fast=True),
    "flax exact": functools.partial(flax, fast=False),
    "unguarded": unguarded,
}


def forward(train, params, stats, x, dy):
    y, stats = train(params, stats, x)
    return params, stats, y, dy


def both(train, params, stats, x, dy):
    y, back, stats = jax.vjp(lambda params, x: train(params, stats, x), params, x, has_aux=True)
    dparams, dx = back(dy)
    return jax.tree.map(lambda a, b: a - 1e-6 * b, params, dparams), stats, y, dx


def data(shape, seed):
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def jax_runs(library, shape, kind):
    """Two callables that run a single call and a loop of `STEPS` steps, on buffers of their own."""
    train, params, stats = library(shape[-1])
    step = functools.partial({"forward": forward, "both": both}[kind], train)
    x, dy, *room = (jnp.array(data(shape, seed)) for seed in (0, 1, 0, 1))
    carry = jax.tree.map(jnp.array, (params, stats, data(shape, 0), data(shape, 1)))

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2), keep_unused=True)
    def call(y, dx, stats, params, x, dy):
        params, stats, *outputs = step(params, stats, x, dy)
        return *(outputs if kind == "both" else (outputs[0], dx)), stats, params

    @functools.partial(jax.jit, donate_argnums=range(4))
    def loop(*carry):
        return jax.lax.fori_loop(0, STEPS, lambda _, carry: step(*carry), carry)

    results = (*room, jax.tree.map(jnp.array, stats))

    def run_call():
        nonlocal results
        *results, _ = jax.block_until_ready(call(*results, params, x, dy))

    def run_loop():
        nonlocal carry
        carry = jax.block_until_ready(loop(*carry))

    return run_call, run_loop


def torch_runs(shape, kind):
    """The same of PyTorch's layer; images are channels last in memory."""
    layer = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(shape[-1])
    tensors = [torch.from_numpy(data(shape, seed)) for seed in range(2)]
    x, dy = tensors if len(shape) == 2 else [tensor.permute(0, 3, 1, 2) for tensor in tensors]
    leaf = x.detach().requires_grad_(True)

    def single():
        if kind == "both":
            return torch.autograd.grad(layer(leaf), (leaf, layer.weight, layer.bias), dy)
        with torch.no_grad():
            return layer(x)

    return single, lambda: [single() for _ in range(STEPS)]


def seconds(run, times):
    """Of each of some runs."""
    measured = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        measured.append(time.perf_counter() - start)
    return measured


def in_turn(runs, rounds=ROUNDS, times=1):
    """Median seconds of each callable; all take turns, so that none has the quiet minutes for itself.

    A turn starts when the threads of the one before sleep (OpenMP's stay awake for a while), with a call that does
    not count.
    """
    measured = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(0.02)
            run()
            measured[name] += seconds(run, times)
    return {name: float(np.median(values)) for name, values in measured.items()}


def copy_bandwidth(shape):
    """Bytes a second of `x * c` in a loop, read and written."""
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, STEPS, lambda _, x: x * 0.999, x), donate_argnums=0)
    x = jnp.array(data(shape, 0))

    def run():
        nonlocal x
        x = jax.block_until_ready(loop(x))

    return 2 * x.nbytes * STEPS / in_turn({"copy": run})["copy"]


def layers():
    """The table of shapes."""
    rows = []
    for shape in SHAPES:
        bandwidth = copy_bandwidth(shape)
        print(
            f"\n{shape}, {4 * np.prod(shape) / 1e6:.1f} MB, copies at {bandwidth / 1e9:.0f} GB/s", flush=True
        )
        for kind, passes in PASSES.items():
            singles, loops = {}, {}
            for name, library in LIBRARIES.items():
                singles[name], loops[name] = jax_runs(library, shape, kind)
            singles["PyTorch"], loops["PyTorch"] = torch_runs(shape, kind)
            moved = passes * 4 * int(np.prod(shape))
            calls = 60 if moved < 1e7 else 8
            for how, runs, steps, times in (("single", singles, 1, calls), ("loop", loops, STEPS, 1)):
                ms = {name: 1e3 * value / steps for name, value in in_turn(runs, times=times).items()}
                rows.append(
                    {"shape": shape, "kind": kind, "how": how, "ms": ms, "bytes": moved, "copy": bandwidth}
                )
                print_row(kind, how, ms, moved, bandwidth)
    return rows


def print_row(kind, how, ms, moved, bandwidth):
    times = "  ".join(f"{name} {value:7.3f}" for name, value in ms.items())
    ratios = "  ".join(f"/{name} {ms['jbn'] / value:.2f}" for name, value in ms.items() if name != "jbn")
    limit = 1e3 * moved / bandwidth
    print(f"  {kind:8s}{how:7s} ms: {times}   {ratios}   bytes at copy speed {limit:.3f} ms", flush=True)


def accuracy():
    """Largest errors of output and gradient in float32, in units of the largest value, against float64."""
    rows = []
    for ratio in RATIOS:
        rng = np.random.default_rng(0)
        x = rng.normal(ratio, 1, (4096, 8)).astype(np.float32)
        dy = rng.normal(size=x.shape).astype(np.float32)
        exact = reference(x.astype(np.float64), dy.astype(np.float64))
        errors = {}
        for name, library in LIBRARIES.items():
            train, params, stats = library(8)
            _, _, *own = jax.jit(functools.partial(both, train))(params, stats, x, dy)
            errors[name] = [
                float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(own, exact, strict=True)
            ]
        leaf = torch.from_numpy(x).requires_grad_(True)
        y = torch.nn.BatchNorm1d(8)(leaf)
        own = y.detach().numpy(), torch.autograd.grad(y, leaf, torch.from_numpy(dy))[0].numpy()
        errors["PyTorch"] = [
            float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(own, exact, strict=True)
        ]
        rows.append({"mean / deviation": ratio, "errors of y and dx": errors})
        texts = "  ".join(f"{name} {y:.0e} {dx:.0e}" for name, (y, dx) in errors.items())
        print(f"mean / deviation {ratio:6.0e}, errors of y and dx: {texts}", flush=True)
    return rows


def reference(x, dy):
    """Output and gradient by the textbook."""
    inverse = 1 / np.sqrt(x.var(0) + 1e-5)
    normal = (x - x.mean(0)) * inverse
    return normal, inverse * (dy - dy.mean(0) - normal * (dy * normal).mean(0))


def population():
    """Time a member and step under `vmap`, and in a loop over members, in one program each."""
    train, params, stats = ours(MEMBER_SHAPE[-1])
    rows = []
    for count in MEMBERS:
        start = jax.tree.map(lambda a, count=count: jnp.stack([a] * count), (params, stats))
        start = (*start, *(jnp.array(data((count, *MEMBER_SHAPE), seed)) for seed in range(2)))
        member = functools.partial(both, train)
        looped = functools.partial(jax.lax.map, lambda one, member=member: member(*one))
        ways = {"vmap": jax.vmap(member), "loop": lambda *all, looped=looped: looped(all)}
        runs = {}
        for name, way in ways.items():
            program = jax.jit(
                lambda carry, way=way: jax.lax.fori_loop(0, STEPS, lambda _, carry: way(*carry), carry)
            )
            runs[name] = lambda program=program, start=start: jax.block_until_ready(program(start))
        us = {name: 1e6 * value / STEPS / count for name, value in in_turn(runs).items()}
        rows.append({"members": count, "shape": MEMBER_SHAPE, "us": us})
        print(
            f"{count:4d} members of {MEMBER_SHAPE}, forward + backward a member: vmap {us['vmap']:.2f} us, "
            f"loop {us['loop']:.2f} us, ratio {us['vmap'] / us['loop']:.2f}",
            flush=True,
        )
    return rows


def dropout_step(epochs=20):
    """What dropout adds to a training step of 64-64-64-10, batch 64, Adam, on one core (as sweeps train)."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    task = jbn.Task(model=jbn.mlp(layers=2, hidden_units=64), data=jbn.data.digits())
    known, rows, key = task.hyperparameters, task.arrays().train, jax.random.key(0)
    fixed = tuple(
        sorted((name, value) for name, value in task.defaults().items() if known[name].kind != "traced")
    )

    @jax.jit
    def train(traced, rows):
        hyper = bind(Structure(fixed), traced)
        start = members.init(task.problem, hyper, key, rows)

        def segment(state, _):
            return members.train_segment(task.problem, hyper, state, rows, key)

        return jax.lax.scan(segment, start, None, length=epochs)

    runs = {}
    for name, config in (("none", {}), ("dropout", {"dropout": 0.2})):
        traced = numbers(known, config)
        runs[name] = lambda traced=traced: jax.block_until_ready(train(traced, rows))
    steps = epochs * (len(rows.y) // dict(fixed)["batch_size"])
    us = {name: 1e6 * value / steps for name, value in in_turn(runs, rounds=40).items()}
    layer = (us["dropout"] / us["none"] - 1) / 2
    print(
        f"a step of 64-64-64-10: {us['none']:.1f} us, with dropout in both hidden layers {us['dropout']:.1f} us: "
        f"{100 * layer:.1f} % a layer"
    )
    return {"us": us, "share_a_layer": layer}


PARTS = {"layers": layers, "dropout": dropout_step}
# the C library returns no memory to the system
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}


def in_a_process(part, **environment):
    """The result of one of the parts, from a process of its own."""
    with tempfile.NamedTemporaryFile() as file:
        arguments = [sys.executable, __file__, part, file.name]
        subprocess.run(arguments, env={**os.environ, **environment}, check=True)
        return json.load(file)


COLOURS = {"jbn": "#1b6ca8", "flax": "#e07a1f", "flax exact": "#8a5fbf", "PyTorch": "#777777"}


def draw(result):
    """Errors against mean / deviation, and times of forward + backward, as `results/batch_norm.png`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    errors, times = figure.subplots(1, 2)
    for name, colour in COLOURS.items():
        ratios = [row["mean / deviation"] for row in result["accuracy"]]
        values = [row["errors of y and dx"][name][0] for row in result["accuracy"]]
        errors.loglog(ratios, values, color=colour, marker="o", label=name)
    errors.set(
        xlabel="|mean| / standard deviation of the inputs", ylabel="largest relative error of the output"
    )
    errors.legend(frameon=False)
    rows = [row for row in result["layers"] if row["kind"] == "both" and row["how"] == "loop"]
    for place, (name, colour) in enumerate(COLOURS.items()):
        values = [row["ms"][name] / row["ms"]["jbn"] for row in rows]
        times.bar(np.arange(len(rows)) + (place - 1.5) * 0.2, values, 0.19, color=colour, label=name)
    times.axhline(1, color="black", linewidth=0.8)
    labels = [" x ".join(map(str, row["shape"])) for row in rows]
    times.set_xticks(range(len(rows)), labels, fontsize=8)
    times.set_ylabel("time of forward + backward, jbn = 1")
    for axes in (errors, times):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "batch_norm.png", dpi=110)


def main():
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if sys.argv[1:]:
        with open(sys.argv[2], "w") as file:
            json.dump(PARTS[sys.argv[1]](), file)
        return
    result = {
        "accuracy": accuracy(),
        "population": population(),
        "dropout": in_a_process("dropout"),
        "layers": layers(),
    }
    print("\nthe same, memory kept")
    result["layers, memory kept"] = in_a_process("layers", **KEEP_MEMORY)
    result["peers"] = {"torch": torch.__version__, "flax": importlib.metadata.version("flax")}
    write("batch_norm", result)
    draw(result)


if __name__ == "__main__":
    main()
