"""flax.nnx and optax: a Python loop over a jitted step, and plain `jit(vmap(train))`."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from peers import problem as problems
from peers.flax_models import functions
from peers.trials import fastest

MOST, SIZES = 4, (32, 256)
IMAGE_SIZES = (2, 8)  # more take no less time a configuration


class Loop:
    """A configuration after the other, a call of a jitted step for every batch; the state is donated."""

    def __init__(self, problem, count):
        self.configurations, self.settings = min(count, MOST), "donated state, batches on the device"
        self._start, step = functions(problem.kernels)
        self._step = jax.jit(step, donate_argnums=0)
        x, y = problem.batches
        self._batches = [
            [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(*epoch, strict=True)]
            for epoch in zip(x, y, strict=True)
        ]

    def train(self, epochs):
        """Seconds of `epochs` epochs after a first one from the initial weights, and the losses of all steps."""
        total, losses = 0.0, []
        for rate in problems.rates(self.configurations):
            state = jax.block_until_ready(jax.tree.map(jnp.array, self._start))
            state, own = self._epochs(state, jnp.float32(rate), range(1))
            start = time.perf_counter()
            state, rest = self._epochs(state, jnp.float32(rate), range(1, 1 + epochs))
            total += time.perf_counter() - start
            losses.append(np.stack(own + rest).reshape(1 + epochs, -1))
        return total, np.stack(losses)

    def _epochs(self, state, rate, epochs):
        losses = []
        for epoch in epochs:
            for x, y in self._batches[epoch]:
                state, loss = self._step(state, rate, x, y)
                losses.append(loss)
        return jax.block_until_ready((state, losses))


class Vmap:
    """`jit(vmap(train))` where `train` scans over an epoch; groups of the best size one after the other."""

    def __init__(self, problem, count):
        self._problem = problem
        self._start, self._step = functions(problem.kernels)
        self._x, self._y = map(jnp.asarray, problem.batches)
        self._train = jax.jit(jax.vmap(self._epoch, (0, 0, None, None)), donate_argnums=0)
        image = len(problem.network.features) == 3
        sizes = sorted({min(size, count) for size in (IMAGE_SIZES if image else SIZES)})
        self.configurations = fastest(("vmap", problem.name, count), sizes, self._seconds)
        self.settings = f"{self.configurations} at once"

    def _epoch(self, state, rate, xs, ys):
        return jax.lax.scan(lambda state, batch: self._step(state, rate, *batch), state, (xs, ys))

    def _run(self, size, epochs):
        state = jax.tree.map(lambda a: jnp.stack([a] * size), self._start)
        rates = jnp.asarray(problems.rates(size), jnp.float32)
        start, losses = 0.0, []
        for epoch in range(1 + epochs):
            state, own = jax.block_until_ready(self._train(state, rates, self._x[epoch], self._y[epoch]))
            start = time.perf_counter() if epoch == 0 else start
            losses.append(own)
        return time.perf_counter() - start, np.stack(losses, 1)

    def _seconds(self, size):
        return self._run(size, 1)[0] / size

    def train(self, epochs):
        """As for the others."""
        return self._run(self.configurations, epochs)
