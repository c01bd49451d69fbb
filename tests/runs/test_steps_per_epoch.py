"""Epochs of a fixed number of optimiser steps."""

import jax
import numpy as np
import pandas as pd
import pytest

import jbn
from jbn import store
from jbn.task.streams import order, order_of_steps

DATA = jbn.data.digits()
KEY = jax.random.key(1)
CONFIGS = {
    "learning_rate": np.array([0.01, 0.003, 0.01, 0.003]),
    "batch_size": np.array([256, 256, 512, 512]),
}
EACH = DATA.rows // 256  # steps of a pass


def task(**options):
    return jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=DATA, **options)


def only(size):
    rows = CONFIGS["batch_size"] == size
    return {name: values[rows] for name, values in CONFIGS.items()}


@pytest.mark.parametrize(("rows", "size", "steps"), [(7, 3, 1), (7, 3, 5), (10, 10, 3), (9, 2, 4), (9, 4, 2)])
def test_batches_follow_one_another_through_one_order_after_the_other(rows, size, steps):
    key, epochs = jax.random.key(3), 5
    batches = []
    for time in range(epochs * steps):  # more than enough
        own = np.asarray(order(key, time, rows))
        batches += [own[start : start + size] for start in range(0, rows - size + 1, size)]
    found = [order_of_steps(key, epoch, rows, batch_size=size, steps=steps) for epoch in range(epochs)]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(batches[: epochs * steps]))


@pytest.fixture(scope="module")
def plain():
    """A sweep of one batch size whose epochs are passes."""
    return jbn.sweep(task(), only(256), epochs=2, key=KEY)


def test_as_many_steps_as_a_pass_has_are_a_pass_bit_for_bit(plain):
    own = jbn.sweep(task(steps_per_epoch=EACH), only(256), epochs=2, key=KEY)
    for name in ("train_loss", "validation_loss", "steps"):
        np.testing.assert_array_equal(getattr(own.history, name), getattr(plain.history, name))


def test_halves_of_a_pass_end_where_it_does(plain):
    assert EACH % 2 == 0
    own = jbn.sweep(task(steps_per_epoch=EACH // 2), only(256), epochs=4, key=KEY).history
    np.testing.assert_allclose(own.validation_loss[1::2], plain.history.validation_loss, rtol=1e-5)
    halves = own.train_loss.reshape(2, 2, -1).mean(axis=1)
    np.testing.assert_allclose(halves, plain.history.train_loss, rtol=1e-5)


@pytest.fixture(scope="module")
def mixed():
    """Batch sizes beside each other, with passes that end within an epoch."""
    return jbn.sweep(task(steps_per_epoch=3), CONFIGS, epochs=3, key=KEY, seeds=2)


def test_all_members_are_equally_far_whatever_their_batch_size(mixed):
    np.testing.assert_array_equal(mixed.history.steps, np.repeat([[3], [6], [9]], 8, axis=1))


@pytest.mark.parametrize("size", [256, 512])
def test_a_member_is_what_it_is_among_its_like_alone(mixed, size):
    alone = jbn.sweep(task(steps_per_epoch=3), only(size), epochs=3, key=KEY, seeds=2).history
    rows = np.repeat(CONFIGS["batch_size"] == size, 2)
    np.testing.assert_allclose(alone.validation_loss, mixed.history.validation_loss[:, rows], rtol=1e-5)


@pytest.mark.parametrize("row", [0, 3])
def test_the_pure_function_is_the_same_experiment(mixed, row):
    train = jbn.train_function(task(steps_per_epoch=3), epochs=3)
    metrics, _, _ = train(
        {"learning_rate": CONFIGS["learning_rate"][row], "batch_size": int(CONFIGS["batch_size"][row])}, KEY
    )
    member = 2 * row
    np.testing.assert_allclose(metrics.train_loss, mixed.history.train_loss[:, member], rtol=1e-5)
    np.testing.assert_allclose(metrics.validation_loss, mixed.history.validation_loss[:, member], rtol=1e-5)


def test_schedules_count_these_epochs():
    """With a rate of `0.01 / (1 + 1e9 t)` only the first of these epochs moves the weights."""
    rates = {"learning_rate": [0.01, 0.01], "batch_size": [256, 512], "decay_rate": [1e9, 1e9]}
    frozen = {"batch_norm": ["none", "none"]}  # statistics would move on
    own = jbn.sweep(task(steps_per_epoch=5), rates | frozen, epochs=3, key=KEY).history.validation_loss
    np.testing.assert_allclose(own[1:], np.repeat(own[:1], 2, axis=0), rtol=1e-6)
    free = jbn.sweep(task(steps_per_epoch=5), {**rates, "decay_rate": [0.0, 0.0]} | frozen, epochs=2, key=KEY)
    np.testing.assert_allclose(own[0], free.history.validation_loss[0], rtol=1e-6)
    assert (free.history.validation_loss[1] < own[1] - 1e-3).all()


def test_folds_have_them_too():
    configs = {"learning_rate": [0.01], "batch_size": [256]}
    rows = jbn.sweep(task(), configs, epochs=1, key=KEY, folds=3)
    each = int(rows.history.steps[-1][0])
    own = jbn.sweep(task(steps_per_epoch=each), configs, epochs=1, key=KEY, folds=3)
    np.testing.assert_array_equal(own.history.validation_loss, rows.history.validation_loss)


def test_a_run_goes_on_with_them_and_with_no_other(tmp_path):
    configs, own = only(256), task(steps_per_epoch=3)
    whole = jbn.sweep(own, configs, epochs=30, key=KEY)
    jbn.sweep(own, configs, epochs=30, key=KEY, out=tmp_path / "run", on_segment=lambda now: True)
    assert store.read(tmp_path / "run").settings["task"]["steps_per_epoch"] == 3
    for other, shown in ((task(), "None"), (task(steps_per_epoch=4), "4")):
        message = f"its steps per epoch was 3 and is {shown} now"
        with pytest.raises(jbn.InputError, match=message):
            jbn.resume(tmp_path / "run", other)
    resumed = jbn.resume(tmp_path / "run", own)
    pd.testing.assert_frame_equal(resumed.table(), whole.table(), check_exact=True)


def test_a_panda_trains_by_them(mixed, tmp_path):
    own = task(steps_per_epoch=3)
    baby = jbn.panda(own, {"learning_rate": 0.01, "batch_size": 256}, key=KEY, out=tmp_path / "baby")
    baby.train(epochs=2)
    np.testing.assert_allclose(baby.curve().validation_loss, mixed.history.validation_loss[:2, 0], rtol=1e-5)
    baby.set(batch_size=512)
    baby.train(epochs=1)
    assert baby.replay() == 3
    baby.close()
    with pytest.raises(jbn.InputError, match="steps per epoch"):
        jbn.panda(task(), out=tmp_path / "baby")


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "3"])
def test_how_many_must_be_a_whole_number(steps):
    with pytest.raises(jbn.InputError, match="steps_per_epoch must be a whole number of at least 1, but got"):
        task(steps_per_epoch=steps)


def test_data_in_blocks_has_its_own_epochs():
    part = DATA.train
    blocks = jbn.data.stream(
        lambda epoch, seed: iter([(part.x, part.y)]),
        rows=DATA.rows,
        classes=10,
        x_validation=part.x[:50],
        y_validation=part.y[:50],
        x_test=part.x[:50],
        y_test=part.y[:50],
        block_rows=512,
    )
    with pytest.raises(jbn.InputError, match="steps_per_epoch needs a training part in memory"):
        jbn.Task(model=jbn.mlp(), data=blocks, steps_per_epoch=3)
