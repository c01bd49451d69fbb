"""The matrix products of a training step and nothing else: the limit of what any library can reach."""

import functools
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from peers.problem import BATCH

LARGE = 1024


def shapes(kernels):
    """For every layer rows, inputs and units of its product; a convolution is patches times matrix."""
    side, found = 28, []
    for kernel in kernels:
        inputs, units = int(np.prod(kernel.shape[:-1])), kernel.shape[-1]
        found.append((BATCH * side**2 if kernel.ndim == 4 else BATCH, inputs, units))
        side //= 2
    return found


def operations(kernels):
    """Floating point operations of a step: output, gradient of the kernel, and of the input but for the first."""
    return sum(2 * m * k * n * (2 if index == 0 else 3) for index, (m, k, n) in enumerate(shapes(kernels)))


def operands(kernels):
    """Input, kernel and gradient of the output of every layer."""
    rng = np.random.default_rng(0)
    sizes = [((m, k), (k, n), (m, n)) for m, k, n in shapes(kernels)]
    return [[rng.normal(size=size).astype(np.float32) for size in own] for own in sizes]


class ByXla:
    """A jitted loop in as many threads as cores, each on data of its own, as the workers of a sweep."""

    def __init__(self, problem, count):
        import jax

        del count
        self._steps = problem.steps
        self.configurations = len(os.sched_getaffinity(0))
        self.settings = f"XLA, {self.configurations} threads"
        self._pool = ThreadPoolExecutor(self.configurations)
        self._data = [jax.device_put(operands(problem.kernels)) for _ in range(self.configurations)]
        self._loop = jax.jit(functools.partial(_loop, len(problem.kernels)))

    def train(self, epochs):
        """Seconds of the products of so many epochs, in every thread; there are no losses."""
        steps = epochs * self._steps
        list(self._pool.map(lambda data: _done(self._loop(data, 1)), self._data))
        start = time.perf_counter()
        list(self._pool.map(lambda data: _done(self._loop(data, steps)), self._data))
        return time.perf_counter() - start, None


def _done(results):
    import jax

    jax.block_until_ready(results)


def _loop(layers, data, steps):
    import jax
    import jax.numpy as jnp

    def body(_, carry):
        # the barrier hides that nothing changes from one iteration to the next
        data, _ = jax.lax.optimization_barrier(carry)
        results = [
            (x @ w, x.T @ dy) if index == 0 else (x @ w, x.T @ dy, dy @ w.T)
            for index, (x, w, dy) in enumerate(data)
        ]
        return data, results

    x = [(dy, w) if index == 0 else (dy, w, x) for index, (x, w, dy) in enumerate(data)]
    return jax.lax.fori_loop(0, steps, body, (data, jax.tree.map(jnp.zeros_like, x)))[1]


class ByTorch:
    """`torch.mm` into given outputs on one thread, for as many processes as cores."""

    def __init__(self, problem, count):
        import torch

        del count
        torch.set_num_threads(1)
        self._steps, self.configurations = problem.steps, 1
        self.settings = "torch.mm"
        self._calls = []
        for index, layer in enumerate(operands(problem.kernels)):
            x, w, dy = map(torch.from_numpy, layer)
            pairs = [(x, w), (x.T, dy), (dy, w.T)][: 2 if index == 0 else 3]
            self._calls += [functools.partial(torch.mm, a, b, out=a @ b) for a, b in pairs]

    def train(self, epochs):
        """As above."""
        for call in self._calls:
            call()
        start = time.perf_counter()
        for _ in range(epochs * self._steps):
            for call in self._calls:
                call()
        return time.perf_counter() - start, None


class Large:
    """Large products by XLA on all cores: the rate of the machine where nothing else counts."""

    def __init__(self, problem, count):
        import jax

        del problem, count
        self.configurations, self.settings = 1, f"products of {LARGE} x {LARGE} by XLA"
        self._a = jax.device_put(np.random.default_rng(0).normal(size=(LARGE, LARGE)).astype(np.float32))
        self._product = jax.jit(lambda a: a @ a)

    def train(self, epochs):
        """Seconds of so many products."""
        self._product(self._a).block_until_ready()
        start = time.perf_counter()
        for _ in range(epochs):
            self._product(self._a).block_until_ready()
        return time.perf_counter() - start, None
