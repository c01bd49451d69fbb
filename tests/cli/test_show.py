"""The end of a sweep in words: it fits the terminal, and pipes get whole lines."""

import io

import jax
import pytest
from rich.console import Console

import jbn
from jbn.cli.show import show_table

SPACE = jbn.search.defaults(all=True)


@pytest.fixture(scope="module")
def result():
    small = jbn.Space(**{**SPACE, "layers": 1, "hidden_units": jbn.integers(50, 100), "batch_size": 256})
    task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
    return jbn.sweep(task, jbn.search.random(small, 12, key=1), epochs=1, key=jax.random.key(1))


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
