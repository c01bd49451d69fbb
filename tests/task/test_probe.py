"""The probe against optimisers whose behaviour in padded arrays is known from their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jbn
from jbn.task import probe
from jbn.task.hyper import Structure
from jbn.task.losses import LOSSES
from jbn.task.member import Problem
from jbn.task.optimizers import OPTIMIZERS

MODEL = jbn.mlp(layers=1)


def structure(capacity, **others):
    values = {name: entry.default for name, entry in known().items() if entry.kind != "traced"}
    fixed = {name: value for name, value in values.items() if value is not None}
    return Structure(
        tuple(sorted({**fixed, "hidden_units": capacity, **others}.items())), padded=("hidden_units",)
    )


def known():
    return {entry.name: entry for entry in MODEL.hyperparameters}


def verdict(own, size=3, capacity=5, features=(4,), model=MODEL):
    problem = Problem(model, own, LOSSES["cross_entropy"], 2)
    return probe.exact_when_padded(problem, structure(capacity), {"hidden_units": size}, features=features)


def after(*first):
    """Transformations of the gradient before gradient descent."""
    return lambda learning_rate: optax.chain(*first, optax.sgd(learning_rate))


def adafactor(learning_rate):
    """Without clipping and scaling by the parameters' size: only the factored second moment is left."""
    return optax.adafactor(learning_rate, clipping_threshold=None, multiply_by_parameter_scale=False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_named_ones_are_exact_also_when_tried_out(name):
    assert verdict(OPTIMIZERS[name]) is True
    assert verdict(OPTIMIZERS[name]._replace(elementwise=None)) is True


def test_the_norm_of_all_gradients_is_the_same_with_zeros():
    def clipped(learning_rate, limit):
        return optax.chain(optax.clip_by_global_norm(limit), optax.adam(learning_rate))

    assert verdict(jbn.optimizer(clipped, limit=1.0)) is True


@pytest.mark.parametrize(
    "factory",
    [
        after(optax.clip_by_block_rms(1.0)),
        after(optax.clip_by_block_rms(1e9)),
        after(optax.clip_by_block_rms(1e-5)),
        after(optax.centralize()),
        after(optax.scale_by_trust_ratio()),
        after(optax.add_noise(0.1, 0.5, 0)),
        optax.adafactor,
        optax.contrib.muon,
    ],
    ids=["rms", "rms, high", "rms, low", "centralize", "trust ratio", "noise", "adafactor", "muon"],
)
def test_what_looks_at_a_whole_leaf_is_not_exact(factory):
    assert verdict(jbn.optimizer(factory)) is False


@pytest.mark.parametrize(
    ("size", "capacity", "expected"), [(50, 60, True), (60, 130, False), (130, 140, True)]
)
def test_adafactor_factors_from_128_on(size, capacity, expected):
    """Below, second moments are kept entry by entry; above, in factors whose product ignores zeros."""
    assert verdict(jbn.optimizer(adafactor), size, capacity, features=(128,)) is expected


def test_what_lies_in_the_padding_must_stay_0():
    """Pulled to 1, entries of the padding would leave 0, although the member's own are as they should be."""

    def pulled(learning_rate):
        pull = optax.stateless(lambda updates, params: jax.tree.map(lambda g, p: g + p - 1, updates, params))
        return optax.chain(pull, optax.sgd(learning_rate))

    assert verdict(jbn.optimizer(pulled)) is False


def test_the_parameters_scales_may_decay_in_the_padding():
    """There they are 1, and no gradient keeps them."""
    assert verdict(jbn.optimizer(lambda learning_rate: optax.lion(learning_rate, weight_decay=0.1))) is True


@pytest.mark.parametrize(("every", "expected"), [(4, True), (20, False)])
def test_six_steps_that_move_nothing_prove_nothing(every, expected):
    def accumulated(learning_rate):
        return optax.MultiSteps(optax.adam(learning_rate), every).gradient_transformation()

    assert verdict(jbn.optimizer(accumulated)) is expected


def test_an_optimizer_that_computes_in_float32_is_judged_all_the_same():
    def rounded(learning_rate):
        def norm(updates, params):
            squares = [jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(updates)]
            size = jnp.sqrt(sum(squares))
            return jax.tree.map(lambda g: g / size, updates)

        return optax.chain(
            optax.stateless(norm), optax.trace(0.9, accumulator_dtype=jnp.float32), optax.sgd(learning_rate)
        )

    assert verdict(jbn.optimizer(rounded), 60, 100, features=(64,)) is True


def test_what_its_author_says_is_taken_without_trying():
    wrong = after(optax.centralize())
    assert verdict(jbn.optimizer(wrong, elementwise=True)) is True
    assert verdict(jbn.optimizer(optax.sgd, elementwise=False)) is False


def test_the_answer_is_kept_for_all_batch_sizes():
    calls = []

    def counted(learning_rate):
        calls.append(learning_rate)
        return optax.sgd(learning_rate)

    problem = Problem(MODEL, jbn.optimizer(counted), LOSSES["cross_entropy"], 2)
    counts = []
    for batch_size in (32, 64, 32):
        own = structure(5, batch_size=batch_size)
        assert probe.exact_when_padded(problem, own, {"hidden_units": 3}, features=(4,))
        counts.append(len(calls))
    assert counts[0] == counts[1] == counts[2]
    assert probe.exact_when_padded(problem, structure(5), {"hidden_units": 2}, features=(4,))
    assert len(calls) > counts[0]


def test_it_changes_nothing_in_the_session():
    before = dict(jax.config.values)
    assert verdict(jbn.optimizer(optax.sgd), size=2)
    assert dict(jax.config.values) == before
    assert jnp.zeros(()).dtype == np.float32
