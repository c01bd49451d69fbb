"""What a structure computes, against counting by hand."""

import jax
import pytest

import jbn
from jbn.engine.arithmetic import arithmetic
from jbn.task import member as members
from jbn.task.hyper import Structure, bind, numbers

TASK = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())


def structure(**values):
    return Structure(tuple(sorted(values.items())))


@pytest.mark.parametrize(("layers", "units"), [(1, 5), (2, 64), (3, 100)])
def test_a_dense_network_is_counted_as_by_hand(layers, units):
    found = arithmetic(TASK, structure(layers=layers, hidden_units=units))
    kernels = 64 * units + (layers - 1) * units**2 + units * 10
    assert found.products == layers + 1
    assert found.multiply_adds == pytest.approx(kernels)
    assert found.activations == pytest.approx(layers * units + 10)
    assert found.parameters == kernels + 2 * layers * units + 10
    # Adam has two more numbers for each parameter and a count; batch norm a mean and a variance, and a count
    assert found.state_bytes == 4 * (3 * found.parameters + 1 + layers * (2 * units + 1) + 1)


def test_the_bytes_are_those_of_a_real_member():
    own = structure(layers=2, hidden_units=33)
    hyper = bind(own, numbers(TASK.hyperparameters, {}))
    member = jax.jit(lambda key: members.init(TASK.problem, hyper, key, TASK.arrays().train))(
        jax.random.key(0)
    )
    assert arithmetic(TASK, own).state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(member))


def test_padding_counts_and_the_batch_size_does_not():
    padded = Structure((("batch_size", 32), ("hidden_units", 100), ("layers", 2)), padded=("hidden_units",))
    assert arithmetic(TASK, padded) == arithmetic(TASK, structure(layers=2, hidden_units=100))


def test_the_network_is_traced_once_for_all_widths():
    base, traces = jbn.mlp(), []

    def infer(*arguments, **options):
        traces.append(1)
        return base.infer(*arguments, **options)

    task = jbn.Task(model=base._replace(infer=infer), data=TASK.data)
    for units in (10, 20, 30):
        arithmetic(task, structure(layers=2, hidden_units=units))
    assert len(traces) == 1
