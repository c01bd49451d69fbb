"""Candidates for tile and chunk capacity, timed on the devices at hand."""

import jax
import numpy as np

import jbn
from jbn import store
from jbn.engine.plan import plan
from jbn.engine.tune import tune
from jbn.engine.workers import Workers

TASK = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
CONFIGS = jbn.search.random(jbn.Space(learning_rate=jbn.log_uniform(1e-3, 1e-1)), 5, key=0)


def test_the_fastest_candidate_is_taken():
    workers = Workers(2)
    before = plan(TASK, CONFIGS, platform="cpu")
    found, trials = tune(TASK, CONFIGS, before, workers=workers)
    workers.close()
    assert {trial.tile for trial in trials} == {1, 2, 4}
    assert {trial.slots for trial in trials} == {8, 16, 32}
    assert all(0 < trial.seconds < 0.1 for trial in trials)
    fastest = min((t for t in trials if t.slots == before.slots), key=lambda trial: trial.seconds)
    assert found.tile == fastest.tile
    same = [trial for trial in trials if trial.tile == found.tile]
    assert found.slots == min(same, key=lambda trial: trial.seconds).slots
    assert found._replace(tile=before.tile, slots=before.slots) == before


def test_the_choice_is_recorded_and_changes_no_result(tmp_path):
    options = dict(epochs=1, key=jax.random.key(1))
    tuned = jbn.sweep(TASK, CONFIGS, tuned=True, out=tmp_path / "run", **options)
    plain = jbn.sweep(TASK, CONFIGS, **options)
    np.testing.assert_allclose(tuned.history.train_loss, plain.history.train_loss, rtol=1e-3)
    settings = store.read(tmp_path / "run").settings
    assert len(settings["tuning"]) == 5
    assert settings["plan"]["tile"] in (1, 2, 4)
