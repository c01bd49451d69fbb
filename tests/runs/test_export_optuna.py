"""Runs as Optuna studies, read back by Optuna itself, and back again to configurations."""

import datetime
import warnings

import numpy as np
import optuna
import pytest

import jbn
from jbn import store
from jbn.runs.export import export_run, sqlite
from jbn.search.conditions import missing

FILES = ("study.log", "study.db")
FLOAT, INT, CHOICE = (
    optuna.distributions.FloatDistribution,
    optuna.distributions.IntDistribution,
    optuna.distributions.CategoricalDistribution,
)
DISTRIBUTIONS = {
    "rate": FLOAT(1e-4, 1.0, log=True),
    "1 - beta1": FLOAT(1 - 0.999, 1 - 0.1, log=True),
    "layers": INT(1, 4),
    "width": INT(1, 256, log=True),
    "drop": FLOAT(0.0, 0.5, step=0.1),
    "units": INT(16, 128, step=16),
    "channels": INT(16, 128, log=True),
    "1 - slow": FLOAT(1 - 0.9, 1 - 0.5, log=True),
    "optimizer": CHOICE(("adam", "sgd", "lion")),
    "momentum": FLOAT(0.0, 0.9),
    "nesterov": CHOICE((True, False)),
    "name": CHOICE(("a", "b")),
    "size": CHOICE((8, 16, 32)),
    "mixed": CHOICE((True, "half")),
    "epsilon": CHOICE((1e-8,)),
    "kind": CHOICE(("small",)),
}


_DATABASES = []


@pytest.fixture(autouse=True)
def _closed():
    """Optuna itself never closes a database."""
    yield
    while _DATABASES:
        storage = _DATABASES.pop()
        storage.remove_session()
        storage.engine.dispose()


def database(path):
    _DATABASES.append(optuna.storages.RDBStorage(f"sqlite:///{path}"))
    return _DATABASES[-1]


def opened(path):
    if path.suffix == ".log":
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    else:
        storage = database(path)
    return optuna.load_study(study_name=None, storage=storage)


def exported(folder, path):
    export_run(folder, path, to="optuna")
    return opened(path)


@pytest.mark.parametrize("file", FILES)
def test_a_study_has_all_that_a_run_has(recorded, tmp_path, file):
    folder = recorded(rows=24)
    study, run = exported(folder, tmp_path / file), store.read(folder)
    assert study.study_name == "run"
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == ["validation_accuracy"]
    assert study.user_attrs["jbn_settings"]["epochs"] == 3
    assert [trial.number for trial in study.trials] == list(range(24))
    states = {"done": "COMPLETE", "stopped": "PRUNED", "diverged": "FAIL", "running": "RUNNING"}
    seen = {}
    for trial, row in zip(study.trials, run.configurations.to_dict("records"), strict=True):
        seen |= trial.distributions
        assert trial.state.name == states[row["status"]]
        if row["status"] == "diverged":
            assert trial.value is None
        else:
            assert trial.value == row["objective"]
        for key, value in trial.params.items():
            name = key.removeprefix("1 - ")
            assert value == (row[name] if name == key else 1 - row[name])
            kinds = {FLOAT: float, INT: int}
            assert isinstance(value, kinds.get(type(DISTRIBUTIONS[key]), object))
            if name != key:
                assert trial.user_attrs[name] == row[name]
        there = {name for name in run.hypers if not missing(np.array([row[name]], object))[0]}
        assert {key.removeprefix("1 - ") for key in trial.params} == there
        assert trial.user_attrs["config_id"] == trial.number
        assert trial.user_attrs["status"] == row["status"]
        assert trial.user_attrs["steps"] == row["steps"]
        curves = run.curves[run.curves.config_id == trial.number]
        mean = curves.groupby("segment").validation_accuracy.apply(lambda own: own.mean(skipna=False))
        assert list(trial.intermediate_values) == mean.index.tolist()
        np.testing.assert_allclose(list(trial.intermediate_values.values()), mean)
        last = curves.groupby("seed").validation_accuracy.last().tolist()
        assert trial.user_attrs["validation_accuracy_of_seeds"] == last
        assert trial.user_attrs["objective_of_seeds"] == last
        assert len(trial.user_attrs["validation_loss_of_seeds"]) == 2
    assert seen == DISTRIBUTIONS
    began = datetime.datetime(2024, 2, 3, 4, 5, 6, tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
    assert study.trials[0].datetime_start == began
    assert study.trials[0].duration == datetime.timedelta(minutes=1)
    assert study.trials[3].datetime_complete is None  # still running


@pytest.mark.parametrize("file", FILES)
def test_there_and_back_again(recorded, tmp_path, file):
    """All configurations that have ended, with their very values, and the very space."""
    folder = recorded(rows=24)
    known, run = jbn.search.from_optuna(exported(folder, tmp_path / file)), store.read(folder)
    assert known.space.to_spec() == run.settings["space"]
    table = run.configurations[run.configurations.status != "running"]
    for name, values in known.configs.items():
        given = table[name].to_numpy()
        np.testing.assert_array_equal(missing(values), missing(given))
        assert values[~missing(values)].tolist() == given[~missing(given)].tolist()
    np.testing.assert_array_equal(known.scores, table.objective)
    assert np.isnan(known.scores).sum() == 6
    assert jbn.search.refine(known.space, known).keys() <= known.space.keys()


def test_a_search_goes_on_from_a_study(recorded, tmp_path):
    space = jbn.Space(rate=jbn.log_uniform(1e-4, 1.0), beta1=jbn.reverse_log_uniform(0.1, 0.999))
    configs = jbn.search.random(space, 40, key=3)
    study = exported(recorded(space=space, configs=configs, seeds=1), tmp_path / "study.log")
    known = jbn.search.from_optuna(study)
    asked = jbn.search.optuna(known.space, known=known, n=4, key=0)
    assert asked.ask().count == 4
    assert asked.configs.count == 0  # what is known is not what was told
    study.optimize(lambda trial: trial.suggest_float("1 - beta1", 0.001, 0.9, log=True), n_trials=2)
    more = jbn.search.from_optuna(study)  # trials that Optuna added, without the exact beta1 beside
    assert more.configs.count == known.configs.count + 2
    np.testing.assert_allclose(more.configs["beta1"][-2:], 1 - more.scores[-2:])
    assert np.isnan(more.configs["rate"][-2:]).all()


def test_the_tables_are_written_as_optuna_writes_them(recorded, tmp_path, monkeypatch):
    """Optuna's own way to add trials, which is slow, is the oracle."""
    folder = recorded(rows=8)
    fast = exported(folder, tmp_path / "fast.db").trials
    monkeypatch.setattr(sqlite, "_KNOWN", -1)  # tables of another version are left to Optuna
    slow = exported(folder, tmp_path / "slow.db").trials
    for ours, theirs in zip(fast, slow, strict=True):
        assert repr(vars(ours)) == repr(vars(theirs))  # NaN is equal to itself in words


def test_infinite_and_missing_numbers_are_written_as_optuna_writes_them(tmp_path, monkeypatch):
    now = datetime.datetime(2024, 7, 1, 12, 30, 5, 250)
    trial = optuna.trial.FrozenTrial(
        number=-1,
        trial_id=-1,
        state=optuna.trial.TrialState.COMPLETE,
        value=float("-inf"),
        datetime_start=now,
        datetime_complete=now,
        params={"a": 2},
        distributions={"a": INT(1, 3)},
        user_attrs={"note": None},
        system_attrs={},
        intermediate_values={0: float("nan"), 1: float("inf"), 2: float("-inf"), 5: 0.1},
    )
    found = []
    for name, write in {
        "ours.db": lambda study, path: sqlite.add_trials(path, [trial, trial]),
        "theirs.db": lambda study, path: study.add_trials([trial, trial]),
    }.items():
        study = optuna.create_study(storage=database(tmp_path / name))
        write(study, tmp_path / name)
        found.append([repr(vars(own)) for own in opened(tmp_path / name).trials])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("objective", "along"),
    [
        ({"smoothing": 0.5, "over": "last"}, [0.5, (0.25 + 1.0) / 1.5, (0.125 + 0.5 + 0.6) / 1.75]),
        ({"smoothing": 0.0, "over": "best"}, [0.5, 1.0, 1.0]),
        ({"smoothing": 0.0, "over": "best", "maximize": False}, [0.5, 0.5, 0.5]),
    ],
)
def test_values_along_the_way_are_those_of_the_objective(tmp_path, objective, along):
    about = {"objective": {"metric": "accuracy", "maximize": True, **objective}}
    one, zero = np.array([0]), np.array([0])
    with store.create(tmp_path / "run", settings=about, configs={"a": np.array([1])}, seeds=1) as own:
        for segment, accuracy in enumerate([0.5, 1.0, 0.6]):
            metrics = {"accuracy": np.array([accuracy]), "loss": np.array([1.0])}
            own.write_segment(segment, store.SegmentRows(one, zero, one + segment + 1, one * 1.0, metrics))
        final = {"objective": np.array([along[-1]])}
        own.write_table(one, np.array(["done"]), one + 3, final)
    study = exported(tmp_path / "run", tmp_path / "study.log")
    np.testing.assert_allclose(list(study.trials[0].intermediate_values.values()), along)
    wanted = "MAXIMIZE" if about["objective"]["maximize"] else "MINIMIZE"
    assert study.direction.name == wanted
    known = jbn.search.from_optuna(study)
    np.testing.assert_allclose(known.scores, along[-1] if wanted == "MAXIMIZE" else -along[-1])


def test_a_seed_that_was_stopped_counts_with_its_last_value(tmp_path):
    about = {"objective": {"metric": "loss", "maximize": False}}
    with store.create(tmp_path / "run", settings=about, configs={"a": np.array([1])}, seeds=2) as own:
        for segment, losses in enumerate([[4.0, 2.0], [1.0]]):
            seeds = np.arange(len(losses))
            metrics = {"accuracy": seeds * 1.0, "loss": np.array(losses)}
            own.write_segment(segment, store.SegmentRows(0 * seeds, seeds, seeds + 1, seeds * 1.0, metrics))
    study = exported(tmp_path / "run", tmp_path / "study.log")
    assert study.trials[0].intermediate_values == {0: 3.0, 1: 1.5}


def test_without_a_space_the_values_are_the_range(recorded, tmp_path):
    configs = {
        "rate": np.array([0.1, 0.3, 0.2, np.nan]),
        "layers": np.array([1, 4, 2, 2]),
        "clip": np.array([1.0, np.inf, 1.0, 1.0]),
        "same": np.array([0.5] * 4),
        "lists": np.array([[1], None, [1, 2], [1]], object),
        "never": np.full(4, np.nan),
    }
    study = exported(recorded(configs=configs, space=None, seeds=1), tmp_path / "study.log")
    distributions = {name: own for trial in study.trials for name, own in trial.distributions.items()}
    assert distributions == {
        "rate": FLOAT(0.1, 0.3),
        "layers": INT(1, 4),
        "clip": CHOICE((1.0, float("inf"))),
        "same": CHOICE((0.5,)),
        "lists": CHOICE(("[1]", "[1, 2]")),
    }
    assert "rate" not in study.trials[3].params
    assert "jbn_space" not in study.user_attrs


def test_values_outside_their_axis_are_the_range(recorded, tmp_path):
    space = jbn.Space(rate=jbn.log_uniform(1e-4, 1.0), size=jbn.choice(1, 2))
    configs = {"rate": np.array([1e-4, 2.0]), "size": np.array([1, 3])}
    study = exported(recorded(configs=configs, space=space, seeds=1), tmp_path / "study.log")
    assert study.trials[0].distributions == {"rate": FLOAT(1e-4, 2.0), "size": INT(1, 3)}
    assert jbn.search.from_optuna(study).space == space


def test_a_value_that_rounding_moved_beyond_the_last_step_is_the_last_step(recorded, tmp_path):
    space = jbn.Space(drop=jbn.search.quantized(jbn.uniform(0.0, 0.6), 0.1))
    configs = {"drop": np.array([3 * 0.2, 3 * 0.1])}
    assert configs["drop"][0] > 0.6
    study = exported(recorded(configs=configs, space=space, seeds=1), tmp_path / "study.log")
    assert [trial.params["drop"] for trial in study.trials] == [0.6, 3 * 0.1]


def test_one_that_is_done_without_a_number_is_a_failure(tmp_path):
    """A metric of one's own may be NaN where nothing diverged; a complete trial has a value."""
    with store.create(tmp_path / "run", settings={}, configs={"a": np.array([1])}, seeds=1) as own:
        own.write_table(
            np.array([0]), np.array(["done"]), np.array([3]), {"validation_loss": np.array([1.0])}
        )
    (trial,) = exported(tmp_path / "run", tmp_path / "study.log").trials
    assert trial.state == optuna.trial.TrialState.FAIL
    assert trial.user_attrs["status"] == "done"


def test_what_a_policy_did_is_beside(tmp_path):
    with store.create(tmp_path / "run", settings={}, configs={"a": np.array([0.5, 0.7])}, seeds=1) as own:
        own.write_events([store.EventRow(0, 1, 0, "set", {"a": 0.9}), store.EventRow(1, 1, 0, "stopped", {})])
    first, second = exported(tmp_path / "run", tmp_path / "study.log").trials
    assert "events" not in first.user_attrs
    assert second.user_attrs["events"] == [
        {"segment": 0, "seed": 0, "event": "set", "detail": {"a": 0.9}},
        {"segment": 1, "seed": 0, "event": "stopped", "detail": {}},
    ]


def test_optuna_s_own_tools_take_it(recorded, tmp_path):
    folder = recorded(rows=24, seeds=1)
    study = exported(folder, tmp_path / "study.log")
    run = store.read(folder).configurations
    done = run[run.status == "done"]
    assert study.best_trial.number == done.config_id[done.objective.idxmax()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of interfaces that Optuna calls experimental
        frame = study.trials_dataframe()
        importances = optuna.importance.get_param_importances(study)
    assert len(frame) == 24
    assert set(importances) <= set(DISTRIBUTIONS)
    trial = study.ask(fixed_distributions={"rate": DISTRIBUTIONS["rate"]})
    study.tell(trial, 0.5)
    assert trial.number == 24


def test_a_disk_that_refuses_is_said(recorded, tmp_path, monkeypatch):
    def refuses(path, trials):
        raise optuna.exceptions.StorageInternalError("the disk is full")

    monkeypatch.setattr("jbn.runs.export.studies.add_trials", refuses)
    with pytest.raises(jbn.InputError, match=r"cannot write 'study.db': the disk is full"):
        export_run(recorded(rows=4), tmp_path / "study.db", to="optuna")
    assert not (tmp_path / "study.db").exists()


@pytest.mark.parametrize("name", ["a%20b?c=1{x}.db", "ä #.sqlite3"])
def test_a_file_may_have_any_name(recorded, tmp_path, name):
    (tmp_path / "50%?").mkdir()
    export_run(recorded(rows=2), tmp_path / "50%?" / name, to="optuna")
    assert [own.name for own in (tmp_path / "50%?").iterdir()] == [name]
    (tmp_path / "50%?" / name).rename(tmp_path / "study.db")
    assert len(opened(tmp_path / "study.db").trials) == 2
