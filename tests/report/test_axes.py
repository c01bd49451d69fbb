"""Scales of hyper-parameters: those of the space, or what values suggest."""

import numpy as np
import pytest

import jbn
from jbn.report.axes import axes
from jbn.store import create, read

NAN = float("nan")


def kinds(folder, configs, space=None):
    about = {} if space is None else {"space": space.to_spec()}
    create(folder, settings=about, configs=configs, seeds=1).close()
    return {axis.name: axis for axis in axes(read(folder))}


def test_the_space_says_the_scale_and_the_ends(tmp_path):
    space = jbn.Space(
        rate=jbn.log_uniform(1e-4, 1.0),
        beta=jbn.reverse_log_uniform(0.9, 0.999),
        plain=jbn.uniform(-1.0, 1.0),
        layers=jbn.integers(1, 5),
        units=jbn.integers(16, 256, log=True),
        stepped=jbn.search.quantized(jbn.uniform(0.0, 1.0), 0.25),
        momentum=jbn.search.when(jbn.log_uniform(0.1, 0.9), name="sgd"),
        name=jbn.choice("sgd", "adam"),
        size=jbn.choice(64, 32, 128),
    )
    found = kinds(tmp_path, jbn.search.random(space, 16, key=0), space)
    assert {name: axis.kind for name, axis in found.items()} == {
        "rate": "log",
        "beta": "reverse_log",
        "plain": "linear",
        "layers": "integer",
        "units": "log",
        "stepped": "linear",
        "momentum": "log",
        "name": "choice",
        "size": "choice",
    }
    ends = {name: (axis.low, axis.high) for name, axis in found.items()}
    expected = {
        "rate": (1e-4, 1.0),
        "beta": (0.9, 0.999),
        "plain": (-1, 1),
        "layers": (1, 5),
        "units": (16, 256),
    }
    for name, pair in expected.items():
        np.testing.assert_allclose(ends[name], pair, rtol=1e-12)
    assert found["size"].options == ("64", "32", "128")
    assert found["name"].options == ("sgd", "adam")


def test_a_choice_has_the_number_of_its_option_and_what_is_missing_has_none(tmp_path):
    space = jbn.Space(
        optimizer=jbn.choice("adam", "sgd"),
        nesterov=jbn.search.when(jbn.choice(True, False), optimizer="sgd"),
    )
    configs = {
        "optimizer": np.array(["sgd", "adam", "sgd"], object),
        "nesterov": np.array([False, None, True], object),
    }
    found = kinds(tmp_path, configs, space)
    assert found["optimizer"].values.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(found["nesterov"].values, [1, NAN, 0])
    assert found["nesterov"].options == ("true", "false")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([1e-4, 1e-1]), "log"),
        (np.array([0.5, 2.0]), "linear"),
        (np.array([0.9, 0.999]), "reverse_log"),
        (np.array([0.9, 0.95]), "linear"),
        (np.array([-1.0, 100.0]), "linear"),
        (np.array([1, 1000]), "integer"),
        (np.array(["a", "b"], object), "choice"),
        (np.array([True, 2], object), "choice"),
        (np.array([NAN, NAN]), "linear"),
        (np.array([np.inf, 1.0]), "linear"),
    ],
)
def test_without_a_space_values_suggest_it(tmp_path, values, kind):
    axis = kinds(tmp_path, {"a": values})["a"]
    assert axis.kind == kind
    assert np.isfinite([axis.low, axis.high]).all()
    assert axis.low <= axis.high


def test_values_outside_of_the_space_are_still_on_the_axis(tmp_path):
    space = jbn.Space(rate=jbn.log_uniform(1e-2, 1e-1), name=jbn.choice("a", "b"))
    configs = {"rate": np.array([1e-3, 1.0]), "name": np.array(["c", "a"], object)}
    found = kinds(tmp_path, configs, space)
    assert (found["rate"].low, found["rate"].high) == (1e-3, 1.0)
    assert found["name"].options == ("a", "b", "c")
    assert found["name"].high == 2


def test_what_varies(tmp_path):
    configs = {"same": np.array([1.0, 1.0]), "some": np.array([1.0, NAN]), "all": np.array([1.0, 2.0])}
    assert {name: axis.varies for name, axis in kinds(tmp_path, configs).items()} == {
        "same": False,
        "some": True,
        "all": True,
    }
