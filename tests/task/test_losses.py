import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jbn
from jbn.errors import InputError
from jbn.task.losses import (
    LOSSES,
    binary_cross_entropy,
    cross_entropy,
    huber,
    mean_squared_error,
    name_of,
    named,
)
from jbn.task.metrics import accuracy

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
    assert named("cross_entropy", 10).function is cross_entropy
    assert set(LOSSES) == {"cross_entropy", "binary_cross_entropy", "mean_squared_error", "huber"}


def test_an_unknown_loss_is_named_with_its_nearest():
    with pytest.raises(InputError, match="unknown loss 'crossentropy': did you mean 'cross_entropy'"):
        named("crossentropy", 10)


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

    assert name_of(brier) == "brier"
    assert name_of(functools.partial(brier)) == "partial"


def history(chosen):
    return swept(chosen).history


def task_of(chosen):
    return jbn.Task(model=jbn.mlp(layers=1, hidden_units=16), data=jbn.data.digits(), loss=chosen)


def swept(chosen):
    configs = {"learning_rate": [0.01, 0.02], "batch_size": [128, 128]}
    return jbn.sweep(task_of(chosen), configs, epochs=3, key=jax.random.key(0))


def test_label_smoothing_by_hand():
    outputs = jnp.log(jnp.array([[1.0, 1.0, 2.0]]))  # softmax 1/4 1/4 2/4
    # class 2 with a = 0.3: targets 0.1, 0.1, 0.8
    expected = 0.2 * np.log(4) + 0.8 * np.log(2)
    assert_allclose(cross_entropy(outputs, jnp.array([2]), 0.3), [expected], rtol=1e-6)


def test_binary_cross_entropy_by_hand_and_far_from_0():
    outputs, targets = jnp.array([0.0, np.log(3.0), -200.0, 200.0]), jnp.array([1, 0, 1, 1])
    assert_allclose(binary_cross_entropy(outputs, targets), [np.log(2), np.log(4), 200, 0], rtol=1e-6)
    smooth = binary_cross_entropy(outputs[1:2], targets[1:2], 0.2)  # target 0.1 where the share is 3/4
    assert_allclose(smooth, [-0.1 * np.log(0.75) - 0.9 * np.log(0.25)], rtol=1e-6)
    two = binary_cross_entropy(jnp.array([[0.0, np.log(3.0)]]), jnp.array([[1.0, 0.0]]))
    assert_allclose(two, [(np.log(2) + np.log(4)) / 2], rtol=1e-6)


def test_squared_and_huber_errors_by_hand():
    outputs, targets = jnp.array([[1.0, 4.0], [0.0, -3.0]]), jnp.array([[1.5, 1.0], [0.0, 0.0]])
    assert mean_squared_error(outputs, targets).tolist() == [(0.25 + 9) / 2, 4.5]
    assert huber(outputs, targets, 2.0).tolist() == [(0.125 + 2 * (3 - 1)) / 2, 2.0]
    assert huber(outputs[:, 0], targets[:, 0]).tolist() == [0.125, 0.0]


@pytest.mark.parametrize(
    ("chosen", "classes", "message"),
    [
        (
            "mean_squared_error",
            10,
            "needs targets that are numbers, but those of the data are classes; take cross",
        ),
        (
            "cross_entropy",
            None,
            "needs targets that are classes, but those of the data are numbers; take binary",
        ),
        ("binary_cross_entropy", 10, "needs 2 classes, but there are 10; take cross_entropy"),
    ],
)
def test_a_loss_fits_the_targets(chosen, classes, message):
    with pytest.raises(InputError, match=message):
        named(chosen, classes)


def test_the_usual_loss_follows_from_the_targets():
    assert named(None, 10).name == "cross_entropy"
    assert named(None, None).name == "mean_squared_error"
    assert named("binary_cross_entropy", 2).outputs == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jbn.loss(3), "a loss is a function of outputs and targets, but got int"),
        (lambda: jbn.loss(huber), "the name 'huber' is that of a loss of jbn"),
        (
            lambda: jbn.loss(lambda outputs: outputs),
            "a loss must take outputs, targets, and need nothing else",
        ),
        (
            lambda: jbn.loss(lambda o, t, power: o, power="two"),
            "default of power must be a number, but got 'two'",
        ),
    ],
)
def test_what_is_no_loss_is_said_at_once(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_loss_s_own_numbers_are_swept():
    """Power 2 trains as the squared error does, and others differ from it, in one program."""

    def distance(outputs, targets, power):
        return jnp.abs(outputs - targets) ** power

    x = np.random.default_rng(0).normal(size=(200, 3))
    data = jbn.data.arrays(x, x @ [1.0, 2.0, 3.0] + 7, targets="numbers")
    make = functools.partial(jbn.Task, jbn.mlp(layers=1, hidden_units=8), data)
    configs = {"batch_size": [32, 32], "power": [2.0, 1.5]}
    own = jbn.sweep(make(loss=jbn.loss(distance, power=1.0)), configs, epochs=3, key=jax.random.key(0))
    usual = jbn.sweep(make(), {"batch_size": [32]}, epochs=3, key=jax.random.key(0))
    assert_allclose(own.history.train_loss[:, 0], usual.history.train_loss[:, 0], rtol=1e-3)
    assert abs(own.history.train_loss[-1, 1] / usual.history.train_loss[-1, 0] - 1) > 0.01


def test_label_smoothing_counts_in_training_only():
    configs = {"learning_rate": [0.01] * 2, "batch_size": [128] * 2, "label_smoothing": [0.0, 0.3]}
    result = jbn.sweep(task_of("cross_entropy"), configs, epochs=3, key=jax.random.key(0))
    plain = swept("cross_entropy")
    assert_allclose(result.history.train_loss[:, 0], plain.history.train_loss[:, 0], rtol=1e-3)
    # the least that targets 0.73 and nine times 0.03 allow is their entropy
    least = -0.73 * np.log(0.73) - 9 * 0.03 * np.log(0.03)
    assert result.history.train_loss[-1, 1] > least
    x, y = jbn.data.digits().validation
    best = result.winner
    logits = log_softmax(np.asarray(best.outputs(x)))
    assert_allclose(
        result.history.validation_loss[-1, best.config_id], -logits[np.arange(len(y)), y].mean(), rtol=1e-4
    )


def test_balanced_weights_are_as_if_every_class_had_as_many_rows():
    """The weighted mean loss at the start equals the mean over classes of their mean losses."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [96, 32])
    x = rng.normal(size=(128, 4)) + 2 * y[:, None]
    data = jbn.data.arrays(x, y, x_validation=x, y_validation=y, x_test=x, y_test=y)
    model = jbn.mlp(layers=1, hidden_units=4)
    weighted = jbn.Task(model, data, class_weights="balanced", optimizer="sgd")
    same = jbn.Task(model, data, class_weights=(128 / (2 * 96), 128 / (2 * 32)), optimizer="sgd")
    assert same.problem.weights == pytest.approx(weighted.problem.weights)
    configs = {"learning_rate": [0.0], "batch_size": [128], "batch_norm": ["none"]}
    result = jbn.sweep(weighted, configs, epochs=1, key=jax.random.key(0))
    losses = -log_softmax(np.asarray(result.winner.outputs(x)))[np.arange(128), y]
    expected = (losses[y == 0].mean() + losses[y == 1].mean()) / 2
    assert_allclose(result.history.train_loss[0, 0], expected, rtol=1e-4)
    assert_allclose(result.history.validation_loss[0, 0], losses.mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("even", "must be \"balanced\" or one number a class, but got 'even'"),
        ([1.0, 2.0], "one finite number of at least 0 for each of 10 classes"),
        ([-1.0] + [1.0] * 9, "one finite number of at least 0"),
    ],
)
def test_class_weights_are_checked(weights, message):
    with pytest.raises(InputError, match=message):
        jbn.Task(model=jbn.mlp(), data=jbn.data.digits(), class_weights=weights)


def test_one_output_serves_two_classes():
    x, y = jbn.data.digits().train
    two = y < 2
    data = jbn.data.arrays(x[two], y[two])
    task = jbn.Task(jbn.mlp(layers=1, hidden_units=8), data, loss="binary_cross_entropy")
    configs = {"learning_rate": [0.03], "batch_size": [32], "label_smoothing": [0.1]}
    result = jbn.sweep(task, configs, epochs=5, key=jax.random.key(0))
    assert result.winner.outputs(data.test.x).shape == (len(data.test.y), 1)
    assert set(np.asarray(result.winner.predict(data.test.x)).tolist()) == {0, 1}
    assert result.test_accuracy == pytest.approx(result.winner.accuracy(*data.test))
    assert result.test_accuracy > 0.95
