import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jbn
from jbn.errors import InputError
from jbn.task.losses import LOSSES, accuracy, cross_entropy, loss, name_of

ROWS, OUTPUTS = 6, 4
LABELS = jnp.array([0, 3, 1, 1, 2, 0])


def example(scale=1.0):
    return np.random.default_rng(0).normal(0, scale, (ROWS, OUTPUTS)).astype(np.float32)


def log_softmax(outputs):
    outputs = outputs.astype(np.float64)
    largest = outputs.max(1, keepdims=True)
    return outputs - largest - np.log(np.exp(outputs - largest).sum(1, keepdims=True))


def test_cross_entropy_by_hand():
    outputs = jnp.log(jnp.array([[1.0, 1.0, 2.0], [1.0, 3.0, 4.0]]))  # softmax 1/4 1/4 2/4, 1/8 3/8 4/8
    assert_allclose(cross_entropy(outputs, jnp.array([2, 0])), np.log([2, 8]), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_cross_entropy_equals_numpy_also_far_from_0(scale):
    outputs = example(scale)
    values = cross_entropy(jnp.asarray(outputs), LABELS)
    chex.assert_shape(values, (ROWS,))
    assert_allclose(values, -log_softmax(outputs)[np.arange(ROWS), LABELS], rtol=1e-5, atol=1e-6)


def test_a_shift_of_all_outputs_changes_nothing():
    outputs = jnp.asarray(example())
    assert_allclose(cross_entropy(outputs + 1000, LABELS), cross_entropy(outputs, LABELS), atol=2e-4)


def test_the_gradient_is_softmax_minus_label():
    outputs = example(3.0)
    gradient = jax.jit(jax.grad(lambda outputs: jnp.sum(cross_entropy(outputs, LABELS))))(outputs)
    assert_allclose(gradient, np.exp(log_softmax(outputs)) - np.eye(OUTPUTS)[LABELS], atol=1e-6)


def test_accuracy_is_1_where_the_largest_output_is_the_label_s():
    outputs = jnp.array([[0.1, 0.9], [0.9, 0.1], [-3.0, -2.0], [5.0, 5.0], [5.0, 5.0]])
    assert accuracy(outputs, jnp.array([1, 1, 0, 0, 1])).tolist() == [
        1,
        0,
        0,
        1,
        0,
    ]  # a tie goes to the first


@pytest.mark.parametrize("function", [cross_entropy, accuracy])
def test_types_and_transformations(function):
    outputs = jnp.asarray(example())
    values = function(outputs, LABELS)
    chex.assert_type(values, jnp.float32)
    assert_allclose(jax.jit(function)(outputs, LABELS), values, rtol=1e-6)
    members = jnp.stack([outputs, -outputs])
    mapped = jax.jit(jax.vmap(function, (0, None)))(members, LABELS)
    assert_allclose(mapped, np.stack([values, function(-outputs, LABELS)]), rtol=1e-6)
    with jax.enable_x64(True):
        chex.assert_type(function(jnp.asarray(example().astype(np.float64)), LABELS), jnp.float64)


def test_losses_by_name():
    assert loss("cross_entropy") is cross_entropy
    assert set(LOSSES) == {"cross_entropy"}


def test_an_unknown_loss_is_named_with_its_nearest():
    with pytest.raises(InputError, match="unknown loss 'crossentropy': did you mean 'cross_entropy'"):
        loss("crossentropy")


def test_a_loss_may_be_any_function():
    """The textbook's cross entropy, written by a user, trains the same members as the built-in one."""
    own = history(
        lambda outputs, labels: -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], 1)[:, 0]
    )
    assert_allclose(own.train_loss, history("cross_entropy").train_loss, rtol=2e-4)


def test_a_loss_of_one_s_own_is_what_is_reported():
    def brier(outputs, labels):
        return jnp.sum((jax.nn.softmax(outputs) - jax.nn.one_hot(labels, outputs.shape[-1])) ** 2, axis=-1)

    result = swept(brier)
    x, y = jbn.data.digits().validation
    shares = np.exp(log_softmax(np.asarray(result.winner.outputs(x))))
    score = np.mean(np.sum((shares - np.eye(10)[y]) ** 2, axis=1))
    assert_allclose(result.history.validation_loss[-1, result.winner.config_id], score, rtol=1e-4)
    assert score < 0.45  # half of what equal shares for ten classes have


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda outputs, labels: jnp.mean(outputs),
            r"one floating number a row, \[128\].*returned float32\[\]",
        ),
        (lambda outputs, labels: outputs, r"returned float32\[128, 10\]"),
        (lambda outputs, labels: labels, r"returned int32\[128\]"),
    ],
)
def test_a_loss_is_one_number_a_row(function, message):
    with pytest.raises(InputError, match=message):
        history(function)


def test_what_a_loss_is_called():
    def brier(outputs, labels):
        return outputs[:, 0]

    assert name_of("cross_entropy") == "cross_entropy"
    assert name_of(brier) == "brier"
    assert name_of(functools.partial(brier)) == "partial"


def history(chosen):
    return swept(chosen).history


def swept(chosen):
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=16), data=jbn.data.digits(), loss=chosen)
    configs = {"learning_rate": [0.01, 0.02], "batch_size": [128, 128]}
    return jbn.sweep(task, configs, epochs=3, key=jax.random.key(0))
