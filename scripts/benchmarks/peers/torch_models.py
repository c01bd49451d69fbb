"""The benchmarks' networks in PyTorch."""

import torch
from peers.problem import NORM_EPSILON, NORM_MOMENTUM
from torch import nn


class Flatten(nn.Module):
    """Rows of features, channels last as everywhere else; no copy where memory is in that order."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


def norm(kind, features):
    """Batch norm that counts no batches: its momentum is given."""
    layer = kind(features, eps=NORM_EPSILON, momentum=1 - NORM_MOMENTUM)
    layer.num_batches_tracked = None
    return layer


def network(kernels):
    """Dense or 3x3 layers without bias -> batch norm -> ReLU (-> 2x2 maximum), and a dense output layer."""
    layers = []
    for kernel in kernels[:-1]:
        if kernel.ndim == 2:
            layers += [dense(kernel, bias=False), norm(nn.BatchNorm1d, kernel.shape[1]), nn.ReLU()]
        else:
            layers += [convolution(kernel), norm(nn.BatchNorm2d, kernel.shape[3]), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [Flatten()] * (kernels[0].ndim == 4)
    return nn.Sequential(*layers, dense(kernels[-1], bias=True))


def dense(kernel, *, bias):
    """A dense layer from a kernel [in, out]; its bias is 0."""
    layer = nn.Linear(*kernel.shape, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel).T)
        if bias:
            layer.bias.zero_()
    return layer


def convolution(kernel):
    """A convolution from a kernel [height, width, in, out], padded so that the size stays."""
    layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[0], padding="same", bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel).permute(3, 2, 0, 1))
    return layer
