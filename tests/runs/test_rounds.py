"""Coarse to fine on networks: rounds that share programs, and are one search."""

import json

import jax
import numpy as np
import pytest

import jbn
from jbn import store
from jbn.errors import InputError
from jbn.runs.importance import importance_of_run
from jbn.runs.rounds import split

TASK = jbn.Task(model=jbn.mlp(layers=1), data=jbn.data.digits())
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-5, 1.0),
    hidden_units=jbn.integers(4, 16),
    batch_size=jbn.choice(64, 128),
    beta1=jbn.uniform(0.8, 0.95),
)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("rounds") / "run"
    seen = []
    result = jbn.coarse_to_fine(
        TASK,
        SPACE,
        configs=62,
        rounds=3,
        epochs=2,
        key=KEY,
        out=out,
        on_round=lambda place, space, configs: seen.append((place, space, configs.count)),
    )
    return result, out, seen


def test_shares_are_equal_and_spaces_nest(found):
    result, _, seen = found
    assert [(place, count) for place, _, count in seen] == [(0, 21), (1, 21), (2, 20)]
    assert result.spaces == tuple(space for _, space, _ in seen)
    assert result.spaces[0] == SPACE
    for wide, fine in zip(result.spaces[:-1], result.spaces[1:], strict=True):
        assert wide["learning_rate"].low <= fine["learning_rate"].low
        assert fine["learning_rate"].high <= wide["learning_rate"].high
    last = result.spaces[-1]["learning_rate"]
    assert np.log10(last.high / last.low) < 3  # of five decades
    for result_of_round, space in zip(result.results, result.spaces, strict=True):
        rates = result_of_round.configs["learning_rate"]
        assert ((rates >= space["learning_rate"].low) & (rates <= space["learning_rate"].high)).all()


def test_later_rounds_compile_nothing(found):
    assert [result.timings.programs for result in found[0].results][1:] == [0, 0]


def test_the_rounds_are_one_search(found):
    result, _, _ = found
    table = result.table()
    assert sorted(table.config_id) == list(range(62))
    assert table["round"].value_counts().to_dict() == {1: 21, 2: 21, 3: 20}
    best = result.best()
    assert best.config_id == table.config_id[0]
    assert best.config["learning_rate"] == table.learning_rate[0]
    assert result.scores.shape == (62,)
    assert np.nanmax(result.scores) == table.validation_accuracy[0]
    assert result.configs["learning_rate"][best.config_id] == table.learning_rate[0]
    np.testing.assert_allclose(
        best.accuracy(*TASK.data.test), result.test["accuracy"], rtol=1e-6
    )  # that of the round it is from


def test_a_round_is_the_sweep_of_its_configurations(found):
    result, _, _ = found
    again = jbn.sweep(TASK, result.results[1].configs, epochs=2, key=KEY)
    np.testing.assert_array_equal(again.history.train_loss, result.results[1].history.train_loss)


def test_the_folder_is_read_as_one_run(found, tmp_path):
    from jbn.report import learning_curves
    from jbn.runs.export import export_table

    result, out, _ = found
    run = store.read(out)
    assert run.settings["rounds"] == 3
    assert run.configurations.config_id.tolist() == list(range(62))
    assert run.curves.groupby("config_id").size().tolist() == [2] * 62
    export_table(out, tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0].startswith("config_id,round,learning_rate")
    assert int(lines[1].split(",")[0]) == result.best().config_id
    learning_curves(out, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_all_rounds_are_one_dataset_one_study_and_one_table(found, tmp_path):
    import optuna
    import xarray as xr

    from jbn.runs.export import export_run

    result, out, _ = found
    for to, name in {"netcdf": "curves.nc", "jsonl": "run.jsonl", "optuna": "study.log"}.items():
        export_run(out, tmp_path / name, to=to)
    rounds = [1] * 21 + [2] * 21 + [3] * 20
    with xr.open_dataset(tmp_path / "curves.nc") as file:
        assert file["round"].values.tolist() == rounds
        xr.testing.assert_equal(file.load(), result.curves())
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert sorted(line["round"] for line in lines) == rounds
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(journal))
    assert [trial.user_attrs["round"] for trial in study.trials] == rounds
    known = jbn.search.from_optuna(study)
    assert known.space == SPACE
    np.testing.assert_array_equal(known.scores, result.scores)


def test_importance_is_that_of_the_first_round(found):
    result, out, _ = found
    table = result.importance(resamples=3)
    recorded = importance_of_run(out, resamples=3)
    np.testing.assert_allclose(recorded.share, table.share)
    first = result.results[0].importance(resamples=0)
    assert first.index.tolist() == table.index.tolist()
    assert set(table.index) == set(SPACE)


def test_a_wish_to_end_ends_the_rounds(tmp_path):
    calls = []

    def on_segment(state):
        calls.append(state)
        return len(calls) == 3  # in the second round

    result = jbn.coarse_to_fine(TASK, SPACE, configs=30, rounds=3, epochs=2, key=KEY, on_segment=on_segment)
    assert len(result.results) == 2
    assert result.interrupted


def test_a_hyper_parameter_that_is_gone_is_empty_in_later_rounds():
    """Here the option that it needs is much worse than the other."""
    space = jbn.Space(
        learning_rate=jbn.log_uniform(1e-3, 1e-2),
        optimizer=jbn.choice("adam", "sgd"),
        optimizer_momentum=jbn.search.when(jbn.uniform(0.0, 0.5), optimizer="sgd"),
    )
    result = jbn.coarse_to_fine(TASK, space, configs=40, rounds=2, epochs=2, key=KEY)
    first, second = result.results
    gone = "optimizer_momentum" not in result.spaces[1]
    assert gone
    assert not np.isnan(first.configs["optimizer_momentum"]).all()
    assert np.isnan(second.configs["optimizer_momentum"]).all()
    assert set(second.configs["optimizer"]) == {"adam"}


@pytest.mark.parametrize(
    ("configs", "rounds", "message"),
    [(30, 0, "rounds must be at least 1, got 0"), (29, 3, "at least 10 configurations, got 29 for 3 rounds")],
)
def test_what_is_refused(configs, rounds, message):
    with pytest.raises(InputError, match=message):
        jbn.coarse_to_fine(TASK, SPACE, configs=configs, rounds=rounds, epochs=1, key=KEY)
    assert split(30, 3) == [10, 10, 10]


def test_a_folder_that_holds_rounds_is_taken(found):
    with pytest.raises(InputError, match="already"):
        jbn.coarse_to_fine(TASK, SPACE, configs=30, rounds=3, epochs=1, key=KEY, out=found[1])


def test_where_all_of_a_round_diverged_the_next_tries_other_places(tmp_path):
    task = jbn.Task(model=jbn.mlp(layers=1, batch_norm="none", initial_scale=1e38), data=jbn.data.digits())
    result = jbn.coarse_to_fine(task, SPACE, configs=20, rounds=2, epochs=1, key=KEY, out=tmp_path / "run")
    assert len(result.results) == 2
    assert result.spaces[1] == SPACE
    assert result.winning is None
    with pytest.raises(InputError, match="did not diverge"):
        result.best()
    assert (result.table().status == "diverged").all()


def test_the_record_of_all_rounds_names_no_winner_of_one(found):
    settings = store.read(found[1]).settings
    assert not {"winner", "test", "seconds", "region"} & set(settings)
    assert len(settings["regions"]) == 3
