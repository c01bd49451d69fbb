"""What a sweep writes, and its export."""

import csv
import json

import jax
import numpy as np
import pytest

import jbn
from jbn import store
from jbn.runs.export import export_table

TASK = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
SPACE = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1e-1), beta1=jbn.reverse_log_uniform(0.9, 0.999))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    configs = jbn.search.random(SPACE, 6, key=0)
    bad = {"initial_scale": np.where(np.arange(6) == 4, 1e38, 1.0)}
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8, batch_norm="none"), data=TASK.data)
    result = jbn.sweep(
        task, configs | bad, epochs=3, key=jax.random.key(1), out=folder, settings={"note": "mine"}
    )
    return folder, result


def test_the_database_holds_what_the_result_says(run):
    folder, result = run
    record = store.read(folder)
    table = result.table().sort_values("config_id").reset_index(drop=True)
    for name in table.columns:
        np.testing.assert_array_equal(record.configurations[name].to_numpy(), table[name].to_numpy())
    assert record.settings["note"] == "mine"
    assert record.settings["epochs"] == 3
    assert record.settings["winner"]["config_id"] == result.best().config_id
    assert record.settings["test_accuracy"] == result.test_accuracy
    assert record.settings["plan"]["tile"] == 1
    assert record.settings["versions"]["jax"] == jax.__version__


def test_there_is_a_row_for_every_configuration_and_segment_it_took_part_in(run):
    folder, result = run
    curves = store.read(folder).curves
    for config_id in range(6):
        own = curves[curves.config_id == config_id]
        assert own.segment.tolist() == ([0] if config_id == 4 else [0, 1, 2])
        if config_id != 4:
            np.testing.assert_array_equal(own.train_loss, result.history.train_loss[:, config_id])
            np.testing.assert_array_equal(own.validation_loss, result.history.validation_loss[:, config_id])
            np.testing.assert_array_equal(own.steps, result.history.steps[:, config_id])


def test_what_was_expected_and_what_it_took_are_there(run):
    folder, result = run
    settings = store.read(folder).settings
    assert settings["expected"]["programs"] == len(settings["plan"]["programs"])
    assert settings["expected"]["run_seconds"] > 0
    assert settings["expected"]["peak_bytes"] > 1e7
    assert settings["run_seconds"] == result.run_seconds
    assert settings["peak_bytes"] > 1e8


def test_the_table_is_brought_up_to_date_after_events_and_seldom_else(tmp_path, monkeypatch):
    """A policy's stop is in it at once; in between it is left alone, and in the end it is that of the result."""
    monkeypatch.setattr("jbn.runs.record._TABLE_SHARE", 1e-9)
    written, seen = [], {}
    write = store.Store.write_table
    monkeypatch.setattr(store.Store, "write_table", lambda *a: (written.append(a), write(*a)))

    def look(now):
        table = store.read(tmp_path / "run").configurations
        seen[now.segment] = (int((table["status"] == "stopped").sum()), len(written))

    result = jbn.sweep(
        TASK, {"learning_rate": np.geomspace(1e-4, 0.1, 9)}, epochs=27, key=jax.random.key(1),
        policy=jbn.halving(), out=tmp_path / "run", on_segment=look,
    )  # fmt: skip
    for rung, stopped in {1: 6, 3: 8}.items():
        assert seen[rung][0] == stopped
    assert seen[27][1] == seen[3][1]
    table = store.read(tmp_path / "run").configurations
    assert table["steps"].tolist() == result.history.steps[-1].tolist()
    assert (table["status"] == "done").sum() == 1


def curves_seen(folder, monkeypatch, together):
    """Segments that a reader finds after each of six, none of which a policy looks at."""
    monkeypatch.setattr("jbn.runs.record._TOGETHER", together)
    monkeypatch.setattr("jbn.runs.record._TABLE_SHARE", 1e-9)
    seen = []
    jbn.sweep(TASK, {"learning_rate": [0.01, 0.1]}, epochs=6, key=jax.random.key(1), out=folder,
              on_segment=lambda now: seen.append(store.read(folder).curves.segment.nunique()))  # fmt: skip
    return seen, store.read(folder).curves


def test_segments_are_written_after_each_or_those_that_follow_at_once_together(tmp_path, monkeypatch):
    each, curves = curves_seen(tmp_path / "each", monkeypatch, together=0.0)
    assert each == [1, 2, 3, 4, 5, 6]
    some, same = curves_seen(tmp_path / "some", monkeypatch, together=1000.0)
    assert some == [1] * 6
    assert same.equals(curves)
    assert len(curves) == 12


def test_after_an_error_all_segments_before_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr("jbn.runs.record._TOGETHER", 1000.0)

    def broken(now):
        if now.segment == 4:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        jbn.sweep(TASK, {"learning_rate": [0.01]}, epochs=6, key=jax.random.key(1), out=tmp_path / "run",
                  on_segment=broken)  # fmt: skip
    assert store.read(tmp_path / "run").curves.segment.tolist() == [0, 1, 2, 3]


def test_a_checkpoint_comes_after_the_segments_before_it(tmp_path, monkeypatch):
    """Going on from it needs them; what was not written then must not be missing."""
    monkeypatch.setattr("jbn.runs.record._TOGETHER", 1000.0)
    there, write = [], store.Store.write_checkpoint
    monkeypatch.setattr("jbn.runs.pace.Pace.due", lambda *_: True)

    def written(own, checkpoint):
        there.append((checkpoint.segment, store.read(tmp_path / "run").curves.segment.nunique()))
        write(own, checkpoint)

    monkeypatch.setattr(store.Store, "write_checkpoint", written)
    # nothing runs more than 16 segments ahead of whoever asks for a checkpoint
    jbn.sweep(TASK, {"learning_rate": [0.01]}, epochs=40, key=jax.random.key(1), out=tmp_path / "run")
    assert len(there) > 1
    assert all(segments == seen for segments, seen in there)


def test_the_spreads_of_running_statistics_are_those_of_the_member(tmp_path, monkeypatch):
    """Layers and widths differ, so there is padding; the last ones are those of the winner itself."""
    monkeypatch.setattr("jbn.task.spread._SHARE", 1.0)
    space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1e-1), layers=jbn.choice(1, 2),
                      hidden_units=jbn.integers(3, 9), batch_size=256)  # fmt: skip
    configs = jbn.search.random(space, 6, key=0)
    task = jbn.Task(model=jbn.mlp(), data=TASK.data)
    result = jbn.sweep(task, configs, epochs=2, key=jax.random.key(1), seeds=2, out=tmp_path / "run")
    best = result.best()
    found = store.read_spreads(tmp_path / "run", lambda segment: (best.config_id, best.seed))
    assert sorted(found) == [0, 1]
    assert {name.split("/")[0] for name in found[1]} == set(best.stats)
    for name, (low, mean, high) in found[1].items():
        layer, field = name.split("/")
        own = np.asarray(getattr(best.stats[layer], field), np.float64)
        np.testing.assert_allclose([low, mean, high], [own.min(), own.mean(), own.max()], rtol=1e-5)


def test_the_winner_s_weights_are_there(run):
    folder, result = run
    weights = store.load_weights(folder / "best.npz")
    np.testing.assert_array_equal(weights["params/layer_1/kernel"], result.best().params["layer_1"]["kernel"])
    np.testing.assert_allclose(weights["normalizer/mean"], TASK.data.train.x.mean(axis=0), rtol=1e-5)


def test_the_export_has_the_columns_order_and_numbers_of_the_table(run, tmp_path):
    folder, result = run
    path = tmp_path / "table.csv"
    export_table(folder, path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    table = result.table()
    assert list(rows[0]) == list(table.columns)
    assert [int(row["config_id"]) for row in rows] == table.config_id.tolist()
    assert [float(row["beta1"]) for row in rows] == table.beta1.tolist()
    assert rows[-1]["status"] == "diverged"
    assert rows[-1]["validation_accuracy"] == ""


def test_several_seeds_are_stored_and_exported_with_their_standard_errors(tmp_path):
    folder, path = tmp_path / "run", tmp_path / "table.csv"
    bad = {"initial_scale": np.array([1.0, 1e38, 1.0]), "learning_rate": np.array([0.01, 0.01, 0.1])}
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8, batch_norm="none"), data=TASK.data)
    result = jbn.sweep(task, bad, epochs=1, key=jax.random.key(1), seeds=3, out=folder)
    table, record = result.table(), store.read(folder)
    for name in table.columns:
        expected = table.sort_values("config_id")[name].to_numpy()
        np.testing.assert_array_equal(record.configurations[name].to_numpy(), expected)
    assert sorted(set(record.curves.seed)) == [0, 1, 2]
    export_table(folder, path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(table.columns)
    for name in map(store.standard_error, ("accuracy", "loss")):
        assert [float(row[name]) for row in rows[:2]] == table[name].tolist()[:2]
        assert rows[2][name] == ""  # diverged


@pytest.mark.parametrize(
    ("folder", "path", "to", "message"),
    [
        ("nowhere", "a.csv", "csv", "there is no sweep in"),
        (None, "a.csv", "cvs", "unknown format 'cvs': did you mean 'csv'"),
        (None, "missing/a.csv", "csv", "cannot write"),
    ],
)
def test_what_cannot_be_exported(run, tmp_path, folder, path, to, message):
    with pytest.raises(jbn.InputError, match=message):
        export_table(folder or run[0], tmp_path / path, to=to)


def test_a_folder_that_holds_a_sweep_is_refused(run):
    folder, _ = run
    before = (folder / "sweep.sqlite").read_bytes()
    with pytest.raises(jbn.InputError, match="already holds a sweep"):
        jbn.sweep(TASK, {"learning_rate": [0.1]}, epochs=1, key=jax.random.key(0), out=folder)
    assert (folder / "sweep.sqlite").read_bytes() == before


def test_settings_are_plain_json(run):
    json.dumps(store.read(run[0]).settings)
