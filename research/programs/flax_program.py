"""The batch-normalised network in flax (nnx) with optax. Prints test accuracy and seconds."""

import sys
import time

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


class Network(nnx.Module):
    """Two batch-normalised hidden layers."""

    def __init__(self, *, rngs):
        self.dense_1 = nnx.Linear(64, 128, rngs=rngs)
        self.norm_1 = nnx.BatchNorm(128, rngs=rngs)
        self.dense_2 = nnx.Linear(128, 128, rngs=rngs)
        self.norm_2 = nnx.BatchNorm(128, rngs=rngs)
        self.output = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        """The scores of the classes."""
        x = nnx.relu(self.norm_1(self.dense_1(x)))
        x = nnx.relu(self.norm_2(self.dense_2(x)))
        return self.output(x)


@nnx.jit
def train_step(model, optimizer, x, y):
    """One step on a batch."""

    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss)(model))


began = time.perf_counter()
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, train_size=1024, test_size=360, random_state=0)
scaler = StandardScaler().fit(x_train)
x_train, x_test = jnp.asarray(scaler.transform(x_train)), jnp.asarray(scaler.transform(x_test))
y_train = jnp.asarray(y_train)

model = Network(rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.001), wrt=nnx.Param)
rng = np.random.default_rng(0)
model.train()
for _ in range(int(sys.argv[1])):
    for batch in rng.permutation(len(x_train)).reshape(-1, 64):
        train_step(model, optimizer, x_train[batch], y_train[batch])
model.eval()
accuracy = np.mean(model(x_test).argmax(axis=1) == y_test)
print(accuracy, time.perf_counter() - began)
