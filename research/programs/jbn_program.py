"""The batch-normalised network in jbn. Prints test accuracy and seconds."""

import sys
import time

import jax

import jbn

began = time.perf_counter()
task = jbn.Task(model=jbn.mlp(layers=2, hidden_units=128), data=jbn.data.digits(), optimizer="adam")
settings = {"learning_rate": [0.001], "batch_size": [64]}
result = jbn.sweep(task, settings, epochs=int(sys.argv[1]), key=jax.random.key(0))
print(result.test_accuracy, time.perf_counter() - began)
