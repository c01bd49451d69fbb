"""PyTorch: many configurations side by side by `torch.func`."""

import copy
import os
import time

import numpy as np
import torch
from peers import problem as problems
from peers.problem import BETAS, EPSILON
from peers.torch_models import network
from peers.torch_training import fresh_compiler, tensors
from peers.trials import fastest
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

SIZES, IMAGE_SIZES = (32, 128), (2, 8)


class Members:
    """An ensemble: stacked weights, one Adam with a learning rate for each."""

    def __init__(self, problem, x, y, *, size, threads, gradient, compiled):
        torch.set_num_threads(threads)
        self._x, self._y, self._size = x, y, size
        if x.ndim == 6:
            self._x = x.permute(0, 1, 2, 5, 3, 4).contiguous()
        self._model = network(problem.kernels)
        self._skeleton = copy.deepcopy(self._model).to("meta")
        gradients = self._by_grad if gradient == "vmap of grad" else self._by_backward
        if compiled:
            fresh_compiler(threads)
        self._gradients = torch.compile(gradients) if compiled else gradients

    def reset(self, rates):
        """Back to the initial weights."""

        def stacked(tensors):
            return {name: torch.stack([t.detach()] * self._size) for name, t in tensors}

        self._params = stacked(self._model.named_parameters())
        self._buffers = stacked(self._model.named_buffers())
        self._mean = [torch.zeros_like(p) for p in self._params.values()]
        self._square = [torch.zeros_like(p) for p in self._params.values()]
        rates = torch.tensor(rates, dtype=torch.float32)
        self._rates = [rates.reshape(-1, *[1] * (p.ndim - 1)) for p in self._params.values()]
        self._count = 0

    def _loss(self, params, buffers, x, y):
        return functional.cross_entropy(functional_call(self._skeleton, (params, buffers), (x,)), y)

    def _by_grad(self, params, buffers, x, y):
        return vmap(grad_and_value(self._loss), (0, 0, None, None))(params, buffers, x, y)

    def _by_backward(self, params, buffers, x, y):
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        losses = vmap(self._loss, (0, 0, None, None))(leaves, buffers, x, y)
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True)), losses.detach()

    def _update(self, gradients):
        self._count += 1
        first, second = (1 - beta**self._count for beta in BETAS)
        params, gradients = list(self._params.values()), list(gradients.values())
        torch._foreach_lerp_(self._mean, gradients, 1 - BETAS[0])
        torch._foreach_mul_(self._square, BETAS[1])
        torch._foreach_addcmul_(self._square, gradients, gradients, 1 - BETAS[1])
        below = torch._foreach_sqrt(self._square)
        torch._foreach_div_(below, second**0.5)
        torch._foreach_add_(below, EPSILON)
        for p, mean, denominator, rate in zip(params, self._mean, below, self._rates, strict=True):
            p.addcmul_(mean.div(denominator), rate, value=-1 / first)

    def epoch(self, index):
        """Trains an epoch; the losses of its steps, `[members, steps]`."""
        losses = []
        for x, y in zip(self._x[index], self._y[index], strict=True):
            gradients, loss = self._gradients(self._params, self._buffers, x, y)
            self._update(gradients)
            losses.append(loss)
        return torch.stack(losses, 1)


class Ensemble:
    """One ensemble of the best size is timed: the others of a sweep take as long."""

    compiled, gradients = False, ("vmap of grad", "grad of vmap")

    def __init__(self, problem, count):
        image = len(problem.network.features) == 3
        data = tensors(problem)
        sizes = sorted({min(size, count) for size in (IMAGE_SIZES if image else SIZES)})
        cores = len(os.sched_getaffinity(0))
        options = [
            {"size": size, "threads": cores, "gradient": how, "compiled": self.compiled}
            for size in sizes
            for how in self.gradients
        ]

        def seconds(option):
            ensemble = Members(problem, *data, **option)
            ensemble.reset(problems.rates(option["size"]))
            ensemble.epoch(0)
            start = time.perf_counter()
            ensemble.epoch(1)
            return (time.perf_counter() - start) / option["size"]

        best = fastest((type(self).__name__, problem.name, count), options, seconds)
        self._members = Members(problem, *data, **best)
        self.configurations = best["size"]
        self.settings = f"ensembles of {best['size']}, {best['gradient']}, {cores} threads"

    def train(self, epochs):
        """As for the others."""
        self._members.reset(problems.rates(self.configurations))
        losses = [self._members.epoch(0)]
        start = time.perf_counter()
        losses += [self._members.epoch(1 + epoch) for epoch in range(epochs)]
        return time.perf_counter() - start, np.stack([own.numpy() for own in losses], 1)


class CompiledEnsemble(Ensemble):
    """The gradients of an ensemble by `torch.compile`."""

    compiled, gradients = True, ("vmap of grad",)
