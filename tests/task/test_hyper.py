import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn.errors import InputError
from jbn.nn.mlp import mlp
from jbn.nn.model import HyperParameter, Padded, check_values
from jbn.task.hyper import Structure, bind, check_names, numbers
from jbn.task.optimizers import OPTIMIZERS, Beta

RATE = HyperParameter("learning_rate", "traced", 1e-3, low=0)
BETA = HyperParameter("beta2", "traced", 0.999, low=0, high=1, open_high=True, complement=True)
DROPOUT = HyperParameter("dropout", "traced", 0.0, low=0, high=1, open_high=True, off=0)
EPSILON = HyperParameter("epsilon", "traced", 1e-8, low=0, open_low=True)
LAYERS = HyperParameter("layers", "structural", 2, low=1, high=64, whole=True)
ACTIVATION = HyperParameter("activation", "compiled", "relu", options=("relu", "tanh"))
BIAS = HyperParameter("bias", "structural", True, options=(True, False))
FREE = HyperParameter("anything", "traced", 0.5)
KNOWN = {entry.name: entry for entry in (RATE, BETA, DROPOUT, EPSILON, LAYERS, ACTIVATION, BIAS, FREE)}


# numbers


def test_numbers_are_the_traced_ones_with_their_defaults():
    given = numbers(KNOWN, {"learning_rate": 0.5, "layers": 3, "activation": "tanh"})
    assert set(given) == {"learning_rate", "beta2", "epsilon", "anything"}
    assert given["learning_rate"] == 0.5
    assert given["epsilon"] == np.float32(1e-8)
    chex.assert_type(jax.tree.leaves(given), np.float32)
    chex.assert_rank(jax.tree.leaves(given), 0)


def test_what_is_off_is_left_out_unless_it_is_given():
    assert "dropout" not in numbers(KNOWN, {})
    assert numbers(KNOWN, {"dropout": 0.0})["dropout"] == 0
    on = {**KNOWN, "dropout": DROPOUT._replace(default=0.25)}
    assert numbers(on, {})["dropout"] == 0.25


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.99999, 1 - 2.0**-40])
def test_1_minus_beta_is_taken_in_float64(beta):
    given = numbers(KNOWN, {"beta2": beta})["beta2"]
    assert given == Beta(np.float32(beta), np.float32(1 - beta))
    assert_allclose(given.complement, 1 - beta, rtol=6e-8)


def test_the_case_close_to_1_is_one_where_float32_alone_is_off():
    assert abs((1 - np.float32(0.99999)) / (1 - 0.99999) - 1) > 1e-3


def test_many_configurations_have_a_leading_axis():
    betas, rates = np.array([0.9, 0.99999]), np.array([1e-3, 1.0])
    given = numbers(KNOWN, {"beta2": betas, "learning_rate": rates})
    assert given["beta2"].complement.tolist() == (1 - betas).astype(np.float32).tolist()
    assert given["learning_rate"].shape == (2,)


def test_whole_numbers_become_floats():
    chex.assert_type(numbers(KNOWN, {"learning_rate": 1})["learning_rate"], np.float32)


def test_float64_where_jax_has_it():
    with jax.enable_x64(True):
        given = numbers(KNOWN, {"beta2": 0.99999})
    chex.assert_type(jax.tree.leaves(given), np.float64)
    assert given["beta2"] == Beta(0.99999, 1 - 0.99999)


def test_tracers_pass_with_their_derivatives():
    def weighted(beta, rate):
        given = numbers(KNOWN, {"beta2": beta, "learning_rate": rate})
        return 3 * given["beta2"].value + 5 * given["beta2"].complement + 7 * given["learning_rate"]

    derivatives = jax.jit(jax.grad(weighted, argnums=(0, 1)))(0.9, 0.1)
    assert jax.tree.map(float, derivatives) == (3 - 5, 7)
    assert_allclose(jax.vmap(weighted)(jnp.array([0.5, 1.0]), jnp.array([0.0, 1.0])), [4, 10], rtol=1e-6)


# structure


STRUCTURE = Structure((("activation", "tanh"), ("batch_size", 32), ("hidden_units", 100), ("layers", 2)))


def test_bind_puts_structure_and_numbers_under_one_roof():
    hyper = bind(STRUCTURE, {"learning_rate": 0.1})
    assert hyper == {**dict(STRUCTURE.values), "learning_rate": 0.1}


def test_bind_makes_padded_sizes_of_a_capacity_and_a_number():
    size = jnp.asarray(7)
    hyper = bind(STRUCTURE._replace(padded=("hidden_units",)), {"hidden_units": size, "learning_rate": 0.1})
    assert hyper["hidden_units"] == Padded(size, 100)
    assert (hyper["layers"], hyper["learning_rate"]) == (2, 0.1)


def test_without_leaves_one_out():
    assert dict(STRUCTURE.without("batch_size").values) == {
        "activation": "tanh",
        "hidden_units": 100,
        "layers": 2,
    }
    other = STRUCTURE.sized({"batch_size": 64})
    assert other != STRUCTURE
    assert other.without("batch_size") == STRUCTURE.without("batch_size")
    padded = STRUCTURE._replace(padded=("hidden_units",))
    assert padded.without("batch_size").padded == ("hidden_units",)


def test_sized_puts_exact_sizes_in_the_place_of_padded_ones():
    exact = STRUCTURE._replace(padded=("hidden_units",)).sized({"hidden_units": 7})
    assert bind(exact, {}) == {**dict(STRUCTURE.values), "hidden_units": 7}


def test_structures_are_keys():
    same = Structure(tuple(STRUCTURE.values))
    assert {STRUCTURE: 1}[same] == 1
    assert {STRUCTURE: 1}.get(STRUCTURE._replace(padded=("hidden_units",))) is None


# checks


def test_known_names_pass():
    check_names(KNOWN, list(KNOWN))
    check_names(KNOWN, [])


def test_an_unknown_name_is_shown_with_its_nearest_and_all_known():
    with pytest.raises(
        InputError, match="unknown hyper-parameter 'learning_rat': did you mean 'learning_rate'"
    ) as error:
        check_names(KNOWN, ["layers", "learning_rat"])
    assert all(name in str(error.value) for name in KNOWN)


def test_the_long_row_of_numbered_names_is_shortened():
    known = {entry.name: entry for entry in mlp().hyperparameters}
    check_names(known, ["hidden_units_64"])
    with pytest.raises(InputError, match="unknown hyper-parameter 'hidden_units_65'") as error:
        check_names(known, ["hidden_units_65"])
    assert "hidden_units_1" in str(error.value)
    assert "hidden_units_2" not in str(error.value)


def test_names_that_are_not_there_are_not_offered():
    known = {entry.name: entry for entry in OPTIMIZERS["sgd"].hyperparameters}
    with pytest.raises(InputError, match="did you mean 'optimizer_momentum'") as error:
        check_names(known, ["momentum"])
    assert "hidden_units" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        (RATE, [0, 1e-3, 1e3]),
        (RATE, 0.5),
        (RATE, np.array([0.1, 0.2])),
        (BETA, [0.0, 0.99999]),
        (EPSILON, [1e-300]),
        (LAYERS, [1, 2.0, 64]),
        (LAYERS, np.array([1, 64])),
        (ACTIVATION, "tanh"),
        (ACTIVATION, np.array(["relu", "tanh"], object)),
        (BIAS, [True, False]),
        (FREE, [-1e9, 1e9]),
    ],
)
def test_values_inside_pass(entry, values):
    check_values(entry, values)


@pytest.mark.parametrize(
    ("entry", "values", "message"),
    [
        (RATE, -0.5, "learning_rate must be a number of at least 0, but got -0.5"),
        (RATE, [0.1, -2.0, -3.0], "learning_rate must be a number of at least 0, but got -2.0"),
        (RATE, np.nan, "learning_rate must be a number of at least 0, but got nan"),
        (RATE, [0.1, np.inf], "but got inf"),
        (RATE, "fast", "learning_rate must be a number of at least 0, but got fast"),
        (RATE, None, "learning_rate must be a number of at least 0, but got"),
        (FREE, np.nan, "anything must be a number, but got nan"),
        (BETA, 1.0, "beta2 must be a number of at least 0 and below 1, but got 1.0"),
        (EPSILON, 0.0, "epsilon must be a number above 0, but got 0.0"),
        (LAYERS, 0, "layers must be a whole number of at least 1 and at most 64, but got 0"),
        (LAYERS, 65, "but got 65"),
        (LAYERS, 2.5, "layers must be a whole number of at least 1 and at most 64, but got 2.5"),
        (LAYERS, np.array([1, 2, 99]), "but got 99"),
        (ACTIVATION, "gelu", "activation must be one of relu, tanh, but got gelu"),
        (ACTIVATION, np.array(["relu", "sin"], object), "activation must be one of relu, tanh, but got sin"),
        (BIAS, "yes", "bias must be one of True, False, but got yes"),
    ],
)
def test_the_first_value_outside_is_named_with_the_rule(entry, values, message):
    with pytest.raises(InputError) as error:
        check_values(entry, values)
    assert message in str(error.value)
