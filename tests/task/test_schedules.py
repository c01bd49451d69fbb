"""How the learning rate changes: the formulas of the course and of others, and the length of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import jbn
from jbn.errors import InputError
from jbn.task.optimizers import OPTIMIZERS
from jbn.task.schedules import SCHEDULES, scheduled
from jbn.task.transforms import clipped

EPOCHS, STEPS = 10, 8
RATE = 0.2


def rates(schedule, decay=0.0, **more):
    """Of the beginning of every epoch."""
    hyper = {"learning_rate": jnp.asarray(RATE), "decay_rate": decay, "schedule": schedule, **more}
    return np.array([float(scheduled(hyper, jnp.asarray(t), 0.0)) for t in range(EPOCHS)])


def every_step(schedule, **more):
    hyper = {"learning_rate": jnp.asarray(RATE), "decay_rate": 0.3, "schedule": schedule}
    hyper |= {"schedule_epochs": float(EPOCHS), **more}
    places = [(epoch, step / STEPS) for epoch in range(EPOCHS) for step in range(STEPS)]
    return np.array([float(scheduled(hyper, jnp.asarray(epoch), within)) for epoch, within in places])


T = np.arange(EPOCHS)


@pytest.mark.parametrize(
    ("schedule", "decay", "expected"),
    [
        ("inverse", 1.0, RATE / (1 + T)),
        ("exponential", -np.log(0.95), RATE * 0.95**T),
        ("square_root", 1.0, RATE / np.sqrt(1 + T)),
        ("staircase", 0.25, RATE * 0.5 ** (T // 4)),
    ],
)
def test_decays_are_those_of_the_course(schedule, decay, expected):
    assert_allclose(rates(schedule, decay), expected, rtol=1e-6)
    assert_allclose(rates(schedule, 0.0), np.full(EPOCHS, RATE), rtol=1e-6)


def test_a_cosine_with_warm_up_is_that_of_optax():
    total = EPOCHS * STEPS
    theirs = optax.warmup_cosine_decay_schedule(0.0, RATE, warmup_steps=total // 4, decay_steps=total)
    expected = [float(theirs(step)) for step in range(total)]
    assert_allclose(every_step("cosine", warmup=jnp.asarray(0.25)), expected, rtol=1e-4, atol=1e-7)


def test_one_cycle_is_that_of_optax():
    total = EPOCHS * STEPS
    theirs = optax.cosine_onecycle_schedule(total, RATE, pct_start=0.3, div_factor=25, final_div_factor=1e4)
    expected = [float(theirs(step)) for step in range(total)]
    assert_allclose(every_step("one_cycle"), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_may_warm_up(schedule):
    plain, warm = every_step(schedule, warmup=jnp.asarray(0.0)), every_step(schedule, warmup=jnp.asarray(0.5))
    assert np.isfinite(plain).all()
    half = EPOCHS * STEPS // 2
    assert warm[0] == 0
    assert (warm[1 : half - 1] < RATE).all()
    if schedule != "cosine":  # which begins where the warm-up ends
        assert_allclose(warm[half:], plain[half:], rtol=1e-6)
        assert_allclose(warm[:half], plain[:half] * np.arange(half) / half, rtol=1e-4)


def test_schedules_run_as_long_as_the_sweep():
    """With gradient descent without momentum, the updates of the last steps tell the rate."""
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits(), optimizer="sgd")
    configs = {"schedule": ["cosine", "inverse"], "learning_rate": [0.1, 0.1], "batch_size": [256, 256]}
    long = jbn.sweep(task, configs, epochs=6, key=jax.random.key(0)).history.train_loss
    short = jbn.sweep(task, configs, epochs=3, key=jax.random.key(0)).history.train_loss
    assert_allclose(long[:3, 1], short[:, 1], rtol=1e-6)
    assert abs(long[2, 0] - short[2, 0]) > 1e-3  # slower at the end of three epochs than in the middle of six
    fixed = {**configs, "schedule_epochs": [6.0, 6.0]}
    assert_allclose(
        jbn.sweep(task, fixed, epochs=3, key=jax.random.key(0)).history.train_loss, long[:3], rtol=1e-6
    )


def test_the_only_step_of_a_run_has_a_rate_in_the_middle_of_its_schedule():
    """Neither 0, where a cosine ends or a warm-up begins, nor the rate before it."""
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits(), optimizer="sgd")
    rows = len(task.data.train.y)

    def params(**config):
        run = jbn.train_function(task, epochs=1)
        return jax.jit(lambda: run({"batch_size": rows, **config}, jax.random.key(0))[1])()

    start = params(learning_rate=0.0)
    half = params(learning_rate=0.05)
    for config in ({"schedule": "cosine"}, {"warmup": 0.999999}):
        own = params(learning_rate=0.1, **config)
        jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-6), own, half)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (start, half)), strict=True))


def test_an_optimizer_without_a_schedule_s_length_is_one():
    own = OPTIMIZERS["sgd"]
    entries = tuple(entry for entry in own.hyperparameters if entry.name != "schedule_epochs")
    task = jbn.Task(
        model=jbn.mlp(layers=1, hidden_units=8),
        data=jbn.data.digits(),
        optimizer=own._replace(hyperparameters=entries),
    )
    assert "schedule_epochs" not in task.hyperparameters
    jbn.sweep(task, {"learning_rate": [0.1]}, epochs=1, key=jax.random.key(0))


def test_a_schedule_is_one_of_those_known():
    task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
    with pytest.raises(InputError, match=r"schedule must be one of inverse, exponential.*but got linear"):
        jbn.sweep(task, {"schedule": ["linear"]}, epochs=1, key=jax.random.key(0))


def test_a_gradient_is_clipped_as_in_optax():
    gradient = {"a": jnp.array([3.0, 4.0]), "b": jnp.zeros((2, 2))}
    for norm in (1.0, 4.9, 5.1, 100.0):
        theirs, _ = optax.clip_by_global_norm(norm).update(gradient, optax.EmptyState())
        jax.tree.map(
            lambda a, b: assert_allclose(a, b, rtol=1e-6), clipped(gradient, jnp.asarray(norm)), theirs
        )
    jax.tree.map(np.testing.assert_array_equal, clipped(gradient, jnp.asarray(0.0)), gradient)
    nothing = jax.tree.map(jnp.zeros_like, gradient)
    jax.tree.map(np.testing.assert_array_equal, clipped(nothing, jnp.asarray(1.0)), nothing)


def test_clipping_may_be_varied_and_zero_is_none():
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits(), optimizer="sgd")
    configs = {"clip_norm": [0.0, 1e-3, 1e6], "batch_size": [256] * 3, "learning_rate": [0.1] * 3}
    losses = jbn.sweep(task, configs, epochs=1, key=jax.random.key(0)).history.train_loss[0]
    plain = jbn.sweep(
        task, {"batch_size": [256], "learning_rate": [0.1]}, epochs=1, key=jax.random.key(0)
    ).history.train_loss[0]
    assert_allclose(losses[[0, 2]], plain[0], rtol=1e-5)
    assert losses[1] > losses[0] + 0.1
