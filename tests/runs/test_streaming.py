"""Training parts that are read in blocks: as in memory where a block holds them, and as good where not."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import jbn

KEY = jax.random.key(5)
CONFIGS = {"learning_rate": [0.003, 0.01, 0.03], "batch_size": [32, 32, 100]}
MODEL = jbn.mlp(layers=1, hidden_units=16)
WHOLE = jbn.data.digits()


def swept(data, **more):
    return jbn.sweep(jbn.Task(MODEL, data), CONFIGS, epochs=3, key=KEY, **more)


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "validation", "test"):
        for name in "xy":
            np.save(tmp_path / f"{name}_{part}.npy", getattr(getattr(WHOLE, part), name))
    return tmp_path


def test_a_block_that_holds_the_data_gives_what_memory_gives(folder):
    streamed = jbn.data.memory_map(folder, block_rows=len(WHOLE.train.y))
    assert isinstance(streamed.train, jbn.data.Blocks)
    one, other = swept(WHOLE), swept(streamed)
    for name in ("accuracy", "loss"):
        np.testing.assert_allclose(other.history.validation[name], one.history.validation[name], rtol=1e-5)
    np.testing.assert_allclose(other.history.train_loss, one.history.train_loss, rtol=1e-5)
    assert_array_equal(other.history.steps, one.history.steps)


def test_several_blocks_train_as_many_steps_and_as_well(folder):
    streamed = jbn.data.memory_map(folder, block_rows=300)
    assert streamed.train.count > 2
    one, other, again = swept(WHOLE), swept(streamed), swept(streamed, workers=1)
    assert_array_equal(other.history.steps, one.history.steps)
    assert other.test_accuracy > one.test_accuracy - 0.05
    assert_array_equal(other.history.train_loss, again.history.train_loss)  # whoever runs it


def test_a_nan_says_where_it_is(folder):
    x = np.array(WHOLE.train.x, float)
    x[700, 3] = np.nan
    np.save(folder / "x_train.npy", x)
    with pytest.raises(jbn.InputError, match=r"x_train.npy.*row 700"):
        swept(jbn.data.memory_map(folder, block_rows=300))


def test_folds_need_memory(folder):
    streamed = jbn.data.memory_map(folder, block_rows=300)
    with pytest.raises(jbn.InputError, match="folds need data in memory"):
        swept(streamed, folds=3)
