"""What a sweep is to do: defaults, a TOML file, options that win over it."""

import pytest

import jbn
from jbn.cli.spec import Spec, resolve
from jbn.cli.sweep import task_of


def write(tmp_path, text):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return path


def test_without_anything_it_is_the_default_sweep():
    assert resolve(None, {}) == Spec(data="digits", configs=256, epochs=50, seed=0, seeds=1, space=None)


def test_options_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = write(tmp_path, 'data = "digits"\nconfigs = 7\nepochs = 3\n[space]\nepsilon = 1e-8\n')
    spec = resolve(path, {"epochs": 5, "seed": None})
    assert (spec.configs, spec.epochs, spec.seed) == (7, 5, 0)
    assert spec.space == jbn.Space(epsilon=1e-8)


def test_what_is_minimised_and_judged_by(tmp_path):
    text = "targets = 'numbers'\nloss = 'huber'\nmetrics = ['r2']\nobjective = 'r2'"
    spec = resolve(write(tmp_path, text), {})
    assert (spec.targets, spec.loss, spec.metrics, spec.objective) == ("numbers", "huber", ("r2",), "r2")


def test_inputs_are_standardised_unless_told_otherwise(tmp_path):
    assert not resolve(None, {"raw_inputs": None}).raw_inputs
    assert resolve(None, {"raw_inputs": True}).raw_inputs
    raw = resolve(write(tmp_path, "raw_inputs = true"), {})
    assert raw.raw_inputs
    assert (task_of(Spec()).normalize, task_of(raw).normalize) == (True, False)


def test_a_number_of_configurations_wins_over_the_grid_of_the_file(tmp_path):
    assert resolve(write(tmp_path, "grid = 2"), {"configs": 3}).grid is None
    assert resolve(write(tmp_path, "grid = 2"), {}).grid == 2


def test_columns_of_a_table_are_lists_of_names_and_options_win_as_a_whole(tmp_path):
    path = write(tmp_path, 'data = "a.csv"\ntarget = "y"\ndrop = ["a", "b"]\ncategorical = ["c"]\n')
    spec = resolve(path, {"drop": ["d"], "categorical": []})
    assert (spec.target, spec.drop, spec.categorical) == ("y", ["d"], ["c"])
    assert (Spec().target, Spec().drop, Spec().categorical) == (None, (), ())


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("configs = 0", {}, "configs in .*spec.toml' must be a whole number of at least 1, but got 0"),
        ("epochs = 2.5", {}, "epochs in .* must be a whole number of at least 1, but got 2.5"),
        ("epochs = true", {}, "epochs in .* must be a whole number of at least 1, but got True"),
        ("", {"epochs": 0}, "--epochs must be a whole number of at least 1, but got 0"),
        ("", {"configs": -3}, "--configs must be a whole number of at least 1, but got -3"),
        ("", {"seed": -1}, "--seed must be a whole number of at least 0, but got -1"),
        ("seeds = 0", {}, "seeds in .*spec.toml' must be a whole number of at least 1, but got 0"),
        ("seeds = 'three'", {}, "seeds in .* must be a whole number of at least 1, but got 'three'"),
        ("", {"seeds": -2}, "--seeds must be a whole number of at least 1, but got -2"),
        ("epoch = 3", {}, "unknown key 'epoch' in the spec: did you mean 'epochs'"),
        ("data = 3", {}, "data in .* must be a text, but got 3"),
        ("metrics = 'r2'", {}, r"metrics in .* must be a list of texts, but got 'r2'"),
        ("raw_inputs = 1", {}, "raw_inputs in .* must be true or false, but got 1"),
        ("target = 3", {}, "target in .* must be a text, but got 3"),
        ("drop = 'id'", {}, "drop in .*spec.toml' must be a list of texts, but got 'id'"),
        ("categorical = [3]", {}, r"categorical in .* must be a list of texts, but got \[3\]"),
        ("space = 3", {}, r"must be a table of hyper-parameters, \[space\], but got 3"),
        ("epochs = = 3", {}, "spec.toml' is no TOML: "),
        ("", {"configs": 2, "grid": 2}, "--configs and --grid exclude each other"),
        ("[space]\nlearning_rate = {log_uniform = [0.0, 1.0]}", {}, "low > 0 must hold on a log axis"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, options, message):
    with pytest.raises(jbn.InputError, match=message):
        resolve(write(tmp_path, text), options)


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(jbn.InputError, match=r"cannot read the spec .*: No such file"):
        resolve(tmp_path / "none.toml", {})
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(jbn.InputError, match="is no TOML"):
        resolve(tmp_path / "bytes.toml", {})
