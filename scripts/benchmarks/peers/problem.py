"""What the contestants of the throughput benchmark are given: the same data, weights and batches."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

BATCH = 64
RATES = (1e-3, 3e-4, 3e-3, 1e-2)  # of the configurations, in turn
BETAS, EPSILON, NORM_EPSILON, NORM_MOMENTUM = (0.9, 0.999), 1e-8, 1e-5, 0.9


class Network(NamedTuple):
    """Sizes of a network, and how much of the data a configuration sees.

    Args:
        features: of a row.
        kernels: shapes of the kernels; convolutions are [height, width, in, out].
        rows: rows of an epoch.
        epochs: most epochs of a measurement, the first one included.
    """

    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    rows: int
    epochs: int


NETWORKS = {
    "MLP 64-64-64-10": Network((64,), ((64, 64), (64, 64), (64, 10)), 1024, 201),
    "MLP 784-128-128-10": Network((784,), ((784, 128), (128, 128), (128, 10)), 1024, 33),
    "CNN 16-32": Network((28, 28, 1), ((3, 3, 1, 16), (3, 3, 16, 32), (1568, 10)), 512, 9),
}


class Problem(NamedTuple):
    """One network's problem.

    Args:
        name: of the network.
        network: its sizes.
        raw: rows before normalisation, `[rows, *features]`.
        x: normalised rows.
        y: labels.
        orders: order of the rows in every epoch, `[epochs, rows]`.
        kernels: initial weights; scales start at 1, biases at 0.
    """

    name: str
    network: Network
    raw: np.ndarray
    x: np.ndarray
    y: np.ndarray
    orders: np.ndarray
    kernels: list[np.ndarray]

    @property
    def steps(self):
        """Steps of an epoch."""
        return len(self.y) // BATCH

    @property
    def batches(self):
        """Shuffled rows and labels of every epoch, `[epochs, steps, batch, ...]`: peers need not shuffle."""
        shape = (len(self.orders), self.steps, BATCH)
        features = self.network.features
        return self.x[self.orders].reshape(*shape, *features), self.y[self.orders].reshape(shape)


def rates(count):
    """Learning rates of the configurations."""
    return np.resize(RATES, count)


def save(problem, folder):
    """Writes a problem into a folder."""
    kernels = {f"kernel_{index}": kernel for index, kernel in enumerate(problem.kernels)}
    arrays = {"raw": problem.raw, "x": problem.x, "y": problem.y, "orders": problem.orders, **kernels}
    np.savez(Path(folder) / "problem.npz", **arrays)
    (Path(folder) / "problem.json").write_text(json.dumps({"name": problem.name}))


def load(folder):
    """The problem of a folder."""
    name = json.loads((Path(folder) / "problem.json").read_text())["name"]
    with np.load(Path(folder) / "problem.npz") as file:
        arrays = {key: file[key] for key in file}
    kernels = [arrays.pop(f"kernel_{index}") for index in range(len(NETWORKS[name].kernels))]
    return Problem(name=name, network=NETWORKS[name], kernels=kernels, **arrays)
