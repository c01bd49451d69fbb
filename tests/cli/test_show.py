"""The end of a sweep in words: it fits the terminal, and pipes get whole lines."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

import jbn
from jbn.cli.show import _cell, show_table

SPACE = jbn.search.defaults(all=True)


def swept(seeds):
    small = jbn.Space(**{**SPACE, "layers": 1, "hidden_units": jbn.integers(50, 100), "batch_size": 256})
    task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
    return jbn.sweep(task, jbn.search.random(small, 12, key=1), epochs=1, key=jax.random.key(1), seeds=seeds)


@pytest.fixture(scope="module")
def result():
    return swept(1)


@pytest.fixture(scope="module")
def result_of_seeds():
    return swept(2)


def shown(result, **options):
    file = io.StringIO()
    show_table(Console(file=file, color_system=None, **options), result)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("options", [{"width": 80, "force_terminal": True}, {"width": 80}, {"width": 200}])
def test_the_ten_best_have_all_eight_hyper_parameters_in_a_line_each(result, options):
    lines = shown(result, **options)
    rows = [line.split() for line in lines[-10:]]
    assert [int(row[0]) for row in rows] == result.table().config_id.head(10).tolist()
    assert {len(row) for row in rows} == {11}  # number, eight hyper-parameters, accuracy, loss
    narrow = "force_terminal" in options
    assert (max(len(line.rstrip()) for line in lines) <= 80) == narrow
    for name in SPACE:
        for word in name.split("_") if narrow else [name]:
            assert any(word in line for line in lines[1:-10])


def test_a_wide_terminal_has_the_standard_error_beside_its_mean(result_of_seeds):
    lines = shown(result_of_seeds, width=120, force_terminal=True)
    best = result_of_seeds.table().iloc[0]
    accuracy, loss = (
        f"{best[name]:{digits}} ± {best[name + '_standard_error']:{digits}}"
        for name, digits in (("validation_accuracy", ".4f"), ("validation_loss", ".3f"))
    )
    assert lines[0].rstrip() == "The best 10 of 12 configurations, mean ± standard error over 2 seeds"
    assert len(lines) == 2 + 10
    assert lines[2].rstrip().endswith(f" {accuracy} {loss}")
    assert all(name in lines[1] for name in SPACE)


def test_a_narrow_terminal_has_the_standard_error_below_its_mean(result_of_seeds):
    lines = shown(result_of_seeds, width=80, force_terminal=True)
    assert max(len(line.rstrip()) for line in lines) <= 80
    best = result_of_seeds.table().iloc[0]
    means, errors = (line.split() for line in lines[-20:-18])
    assert means[0] == str(best.config_id)
    assert means[-2:] == [f"{best.validation_accuracy:.4f}", f"{best.validation_loss:.3f}"]
    assert errors == [
        f"±{best.validation_accuracy_standard_error:.4f}",
        f"±{best.validation_loss_standard_error:.3f}",
    ]


def test_small_losses_have_digits_that_tell_them_apart():
    assert _cell("validation_loss", 0.0164, 0.0004, " ± ", small=True) == "0.01640 ± 0.00040"
    assert _cell("validation_loss", 0.0804, 0.004, " ± ", small=False) == "0.080 ± 0.004"


def test_a_diverged_configuration_has_a_dash():
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8, batch_norm="none"), data=jbn.data.digits())
    configs = {"learning_rate": np.array([0.01, 0.02]), "initial_scale": np.array([1.0, 1e38])}
    lines = shown(jbn.sweep(task, configs, epochs=1, key=jax.random.key(1), seeds=2), width=80)
    assert lines[-2].split().count("±") == 2
    assert lines[-1].split()[-3:] == ["diverged", "-", "-"]
