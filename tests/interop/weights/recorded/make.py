"""Makes the files beside it: a small CNN in PyTorch and in Keras, its weights, and what it answers.

Run it where torch, safetensors, keras and jax are installed: `python make.py`. The tests need none of them but h5py
and safetensors.
"""

import os
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
X = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)


def pytorch():
    """Convolutions without and with bias, so that batch norm's mean takes one in."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    torch.manual_seed(0)
    blocks = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2)]
    blocks += [
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6, eps=1e-3),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(24, 3))
    x = torch.tensor(X.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(3):
            model(x)
        y = model.eval()(x)
    save_file(model.state_dict(), FOLDER / "pytorch_cnn.safetensors")
    np.savez_compressed(FOLDER / "pytorch_cnn.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
    return y.numpy()


def keras():
    """The same network with Keras's defaults, but for an epsilon; layers whose names are in no order."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras as framework
    from keras import layers

    framework.utils.set_random_seed(0)
    model = framework.Sequential([framework.Input((8, 8, 1))])
    for name, channels, bias in (("zeta", 4, True), ("alpha", 6, False)):
        model.add(layers.Conv2D(channels, 3, padding="same", use_bias=bias, name=name))
        model.add(layers.BatchNormalization(epsilon=2e-3, scale=bias))
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(3))
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(np.asarray(variable.value) + 0.1 * rng.normal(size=variable.shape))
    for _ in range(3):
        model(2 * X + 1, training=True)
    for name in ("keras_cnn.weights.h5", "keras_cnn.keras", "keras_cnn.h5"):
        (model.save_weights if "weights" in name else model.save)(FOLDER / name)
    return np.asarray(model(X))


if __name__ == "__main__":
    np.savez_compressed(FOLDER / "answers.npz", x=X, pytorch=pytorch(), keras=keras())
