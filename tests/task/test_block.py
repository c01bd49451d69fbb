"""An epoch in blocks against the same rows in one piece."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbn
from jbn.task import member as members
from jbn.task.hyper import Structure, bind, numbers
from jbn.task.member import Block, Course, Rows

ROWS = 97
EPOCHS = 2


@functools.cache
def problem():
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(ROWS, 5)), np.arange(ROWS) % 3
    data = jbn.data.arrays(x, y, x_validation=x, y_validation=y, x_test=x, y_test=y)
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=6, dropout=0.2), data=data)
    return task, x, y


def start(size):
    task, x, y = problem()
    fixed = {**task.defaults(), "batch_size": size, "schedule": "cosine"}
    known = task.hyperparameters
    structure = Structure(tuple((n, v) for n, v in sorted(fixed.items()) if known[n].kind != "traced"))
    hyper = bind(structure, numbers(known, {"learning_rate": 0.05, "schedule_epochs": EPOCHS}))
    rows = Rows(jnp.asarray(x), jnp.asarray(y, jnp.int32))
    initial = jax.jit(lambda key: members.init(task.problem, hyper, key, rows))
    return task.problem, hyper, rows, initial(jax.random.key(0))


def blocks(rows, bounds, head, capacity):
    """Old rows in front, rubbish where nothing is needed."""
    x = np.full((head + ROWS + capacity, 5), np.nan)
    y = np.full(len(x), -1, np.int32)
    x[head : head + ROWS], y[head : head + ROWS] = rows.x, rows.y
    for low, high in itertools.pairwise(bounds):
        own = slice(low, low + head + capacity)
        yield Block(
            Rows(jnp.asarray(x[own]), jnp.asarray(y[own])), *map(jnp.asarray, (low - head, low, high))
        )


@functools.cache
def blockwise(size, capacity):
    """The rows, and what trains on a block of them."""
    own, hyper, rows, _ = start(size)
    course, noise = Course(ROWS, capacity), jax.random.key(1)
    return rows, jax.jit(lambda member, block: members.train_block(own, hyper, member, block, noise, course))


@functools.cache
def one_pass(size):
    """The member before, and after every epoch with its loss."""
    noise = jax.random.key(1)
    own, hyper, rows, member = start(size)
    advance = jax.jit(lambda member: members.train_segment(own, hyper, member, rows, noise))
    return list(itertools.accumulate(range(EPOCHS), lambda last, _: advance(last[0]), initial=(member, None)))


def room(bounds, size):
    """The largest block, or for most sizes of a batch more: one program does for several ways to cut."""
    largest = max(np.diff(bounds))
    return int(largest) if size == 7 or largest == 1 else ROWS


@pytest.mark.parametrize("bounds", [[0, 97], [0, 30, 60, 97], [0, 1, 2, 50, 51, 97], list(range(98))])
@pytest.mark.parametrize("size", [2, 7, 16, 97])
def test_blocks_after_each_other_are_one_pass(bounds, size):
    with jax.enable_x64(True):
        capacity = room(bounds, size)
        rows, advance = blockwise(size, capacity)
        (parts, _), *passes = one_pass(size)
        for whole, expected in passes:
            losses = []
            for block in blocks(rows, bounds, 97, capacity):
                parts, loss = advance(parts, block)
                losses.append(float(loss))
            assert int(parts.step) == int(whole.step)
            np.testing.assert_allclose(sum(losses), expected, rtol=1e-9)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-12), parts, whole)
        assert advance._cache_size() == 1
