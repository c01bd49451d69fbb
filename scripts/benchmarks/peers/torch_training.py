"""PyTorch: a configuration after the other, eager or compiled, with the best settings of a short trial."""

import itertools
import logging
import os
import time

import numpy as np
import torch
from peers import problem as problems
from peers.problem import BETAS, EPSILON
from peers.torch_models import network
from peers.trials import fastest
from torch.nn import functional

MOST = 4  # configurations that are timed: one takes as long as another


class Learner:
    """One network that is trained again for every configuration."""

    def __init__(self, problem, x, y, *, threads, optimizer, channels_last=False, compiled=False):
        torch.set_num_threads(threads)
        self._x, self._y = x, y
        if compiled:
            fresh_compiler(threads)
        self._model = network(problem.kernels)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        if x.ndim == 6:
            self._x = x.permute(0, 1, 2, 5, 3, 4)
            if not channels_last:
                self._x = self._x.contiguous()
            self._model = self._model.to(memory_format=layout)
        self._start = [tensor.clone() for tensor in self._tensors()]
        self._optimizer = torch.optim.Adam(
            self._model.parameters(),
            lr=torch.tensor(1e-3) if optimizer == "compiled" else 1e-3,
            betas=BETAS,
            eps=EPSILON,
            fused=optimizer == "fused",
            foreach=optimizer == "foreach",
        )
        self._forward, self._update = self._loss, self._optimizer.step
        if compiled:
            self._forward = torch.compile(self._loss)
        if optimizer == "compiled":
            self._update = torch.compile(self._optimizer.step)

    def _tensors(self):
        return [*self._model.parameters(), *self._model.buffers()]

    def _loss(self, x, y):
        return functional.cross_entropy(self._model(x), y)

    def reset(self, rate):
        """Back to the initial weights, for a configuration of this learning rate."""
        with torch.no_grad():
            for tensor, start in zip(self._tensors(), self._start, strict=True):
                tensor.copy_(start)
            for state in self._optimizer.state.values():
                for tensor in state.values():
                    tensor.zero_()
        for group in self._optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(float(rate))
            else:
                group["lr"] = float(rate)

    def epoch(self, index):
        """Trains an epoch; the losses of its steps."""
        losses = []
        for x, y in zip(self._x[index], self._y[index], strict=True):
            self._optimizer.zero_grad()
            loss = self._forward(x, y)
            loss.backward()
            self._update()
            losses.append(loss.detach())
        return torch.stack(losses)


def fresh_compiler(threads):
    """Forgets what was compiled before: past a few variants of a function it would run eagerly."""
    import torch._inductor.config

    torch._logging.set_logs(all=logging.ERROR)
    torch._dynamo.reset()
    torch._inductor.config.cpp.threads = threads


def tensors(problem):
    """Batches of all epochs."""
    x, y = problem.batches
    return torch.from_numpy(x), torch.from_numpy(y).long()


def described(options):
    """Settings in words."""
    names = [f"{options['threads']} thread" + "s" * (options["threads"] > 1)]
    names += [f"{options['optimizer']} Adam"] if "optimizer" in options else []
    names += ["channels last"] if options.get("channels_last") else []
    return ", ".join(names)


class Eager:
    """Eager, or with `torch.compile`."""

    compiled = False
    optimizers = ("fused", "foreach")
    threads = tuple(sorted({1, len(os.sched_getaffinity(0))}))

    def __init__(self, problem, count):
        self.configurations = min(count, MOST)
        data = tensors(problem)
        layouts = (True, False) if len(problem.network.features) == 3 else (False,)
        options = [
            {"threads": threads, "optimizer": optimizer, "channels_last": layout}
            for threads, optimizer, layout in itertools.product(self.threads, self.optimizers, layouts)
        ]
        options = [o for o in options if not self.compiled or o["channels_last"] or len(layouts) == 1]

        def seconds(option):
            learner = Learner(problem, *data, compiled=self.compiled, **option)
            learner.reset(1e-3)
            learner.epoch(0)
            start = time.perf_counter()
            learner.epoch(1)
            return time.perf_counter() - start

        best = fastest((type(self).__name__, problem.name), options, seconds)
        self._learner = Learner(problem, *data, compiled=self.compiled, **best)
        self.settings = described(best)

    def train(self, epochs):
        """Seconds of `epochs` epochs after a first one from the initial weights, and the losses of all steps."""
        total, losses = 0.0, []
        for rate in problems.rates(self.configurations):
            self._learner.reset(rate)
            own = [self._learner.epoch(0)]
            start = time.perf_counter()
            own += [self._learner.epoch(1 + epoch) for epoch in range(epochs)]
            total += time.perf_counter() - start
            losses.append(torch.stack(own).numpy())
        return total, np.stack(losses)


class Compiled(Eager):
    """`torch.compile` of network and loss, and of Adam where that is faster."""

    compiled = True
    optimizers = ("fused", "compiled")


class SingleThread(Eager):
    """Eager on one thread, for as many processes as cores."""

    threads = (1,)
