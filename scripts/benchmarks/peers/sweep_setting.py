"""What the peers of a sweep share: the same configurations, data, order of batches and network."""

import itertools
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Setting(NamedTuple):
    """A sweep that is to be done.

    Args:
        configs: dicts of the eight hyper-parameters, those with most work first.
        x, y: training part, normalised.
        validation_x, validation_y: what configurations are judged by after every epoch.
        orders: order of the training part in every epoch, `[epochs, rows]`.
    """

    configs: list[dict]
    x: np.ndarray
    y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray
    orders: np.ndarray


def load(folder):
    """The setting of a folder."""
    configs = json.loads((Path(folder) / "configs.json").read_text())
    with np.load(Path(folder) / "data.npz") as file:
        own = Setting(configs, **{name: file[name] for name in file})
    return own._replace(configs=sorted(configs, key=lambda config: -work(config, len(own.y))))


def work(config, rows):
    """About how long a configuration takes, in any unit."""
    return rows // config["batch_size"] * (1 + config["layers"])


def kernels(config, features, classes=10):
    """Initial kernels, uniform with standard deviation `sqrt(gain / fan_in)`, gain 2 before a ReLU, else 1."""
    sizes = [features, *[config["hidden_units"]] * config["layers"], classes]
    rng, found = np.random.default_rng(0), []
    for index, (inputs, units) in enumerate(itertools.pairwise(sizes)):
        limit = math.sqrt(3 * (1 if index == config["layers"] else 2) / inputs)
        found.append(rng.uniform(-limit, limit, (inputs, units)).astype(np.float32))
    return found


def rate(config, epoch):
    """The learning rate of an epoch."""
    return config["learning_rate"] / (1 + config["decay_rate"] * epoch)


def answer(path, accuracies, seconds):
    """Writes what the benchmark wants to know: accuracies after the last epoch, seconds of training."""
    Path(path).write_text(json.dumps({"accuracies": list(map(float, accuracies)), "training": seconds}))


def arguments():
    """Folder of the setting and file of the answer, and what comes after them."""
    return sys.argv[1], sys.argv[2], sys.argv[3:]
