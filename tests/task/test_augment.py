"""Batches that are changed while a member trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbn
from jbn.errors import InputError

DATA = jbn.data.digits()
CONFIGS = {"learning_rate": [0.01, 0.01], "batch_size": [128, 128]}
KEY = jax.random.key(0)


def sweep(augment, epochs=2):
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=16), data=DATA, augment=augment)
    return jbn.sweep(task, CONFIGS, epochs=epochs, key=KEY).history


def test_no_change_changes_nothing():
    np.testing.assert_array_equal(sweep(lambda key, x: x).train_loss, sweep(None).train_loss)


def test_it_acts_in_training_only():
    """Without features nothing is learned but the shares of the classes; the validation part keeps its features."""
    blind = sweep(lambda key, x: jnp.zeros_like(x))
    assert (blind.train_loss[-1] > 2.2).all()
    assert len(set(np.round(blind.validation_loss[-1], 6))) == 1


def test_every_step_has_a_key_of_its_own_and_all_members_the_same():
    noise = sweep(lambda key, x: x + jax.random.normal(key, x.shape))
    np.testing.assert_array_equal(noise.train_loss[:, 0], noise.train_loss[:, 1])
    fixed = sweep(lambda key, x: x + jax.random.normal(jax.random.key(0), x.shape))
    assert (noise.train_loss[-1] != fixed.train_loss[-1]).all()
    np.testing.assert_array_equal(
        noise.train_loss, sweep(lambda key, x: x + jax.random.normal(key, x.shape)).train_loss
    )


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda key, x: x[:, :3], r"float32\[128, 64\], but returned float32\[128, 3\]"),
        (lambda key, x: x > 0, r"but returned bool\[128, 64\]"),
    ],
)
def test_it_keeps_shape_and_type(augment, message):
    with pytest.raises(InputError, match=message):
        sweep(augment)
