"""Sweeps in which every configuration has its own optimiser: each is that of a sweep with this optimiser alone."""

import csv
import functools
import itertools

import chex
import jax
import numpy as np
import optax
import pytest

import jbn
from jbn import store
from jbn.runs.export import export_table

DATA = jbn.data.digits()
MODEL = jbn.mlp(layers=1, hidden_units=8)
KEY = jax.random.key(1)


def averaged(learning_rate, beta2):
    """Its beta2 is a plain number, where adam's and lion's come with their complement."""
    return optax.rmsprop(learning_rate, decay=beta2, eps=1e-6)


def centralized(learning_rate):
    """Padding would change it."""
    return optax.chain(optax.centralize(), optax.sgd(learning_rate))


OWN = jbn.optimizer(averaged, name="averaged", beta2=0.5, learning_rate=0.02)
CENTRAL = jbn.optimizer(centralized, name="centralized")
OFFERED = {"adam": "adam", "sgd": "sgd", "lion": "lion", "averaged": OWN, "centralized": CENTRAL}
SPACE = jbn.Space(
    optimizer=jbn.choice(*OFFERED),
    beta2=jbn.uniform(0.8, 0.999),
    optimizer_momentum=jbn.uniform(0.0, 0.9),
    nesterov=jbn.choice(False, True),
    schedule=jbn.choice("inverse", "cosine"),
    hidden_units=jbn.choice(6, 9, 12),
    batch_size=256,
)
HAS = {
    "adam": {"beta2"},
    "sgd": {"optimizer_momentum", "nesterov"},
    "lion": {"beta2"},
    "averaged": {"beta2"},
    "centralized": set(),
}
SHARED = {"schedule", "hidden_units", "batch_size"}


def drawn(count):
    """One schedule does for all but adam: it is compiled, as the optimiser is."""
    configs = jbn.search.random(SPACE, count, key=0)
    configs["schedule"][configs["optimizer"] != "adam"] = "inverse"
    return configs


CONFIGS = drawn(30)
EVERY = tuple(OFFERED.values())


def task(optimizer=EVERY):
    return jbn.Task(model=MODEL, data=DATA, optimizer=optimizer)


@pytest.fixture(scope="module")
def mixed():
    return jbn.sweep(task(), CONFIGS, epochs=2, key=KEY)


def rows_of(name, configs=CONFIGS):
    return np.flatnonzero(configs["optimizer"] == name)


def alone(name, **changed):
    """A sweep of the rows of one optimiser, which the task has and the configurations do not say."""
    own = {n: v[rows_of(name)] for n, v in CONFIGS.items() if n in HAS[name] | SHARED}
    space = jbn.Space(**{n: d for n, d in SPACE.items() if n in own})
    return jbn.sweep(task(OFFERED[name]), jbn.search.Configs(own, space=space), epochs=2, key=KEY, **changed)


def curves(history, members=slice(None)):
    return [values[:, members] for values in (history.train_loss, history.validation_loss, history.steps)]


@pytest.mark.parametrize("name", OFFERED)
def test_a_member_is_that_of_a_sweep_with_its_optimizer_alone_bit_for_bit(mixed, name):
    """And it is trained by the very same programs."""
    one = alone(name)
    assert one.timings.programs == 0
    chex.assert_trees_all_equal(curves(mixed.history, rows_of(name)), curves(one.history))
    assert len(rows_of(name)) > 2


def test_other_optimizers_in_the_sweep_change_nothing(mixed):
    kept = np.isin(CONFIGS["optimizer"], ["adam", "averaged"])
    few = jbn.search.Configs({name: values[kept] for name, values in CONFIGS.items()}, space=SPACE)
    result = jbn.sweep(task(), few, epochs=2, key=KEY, workers=1)
    chex.assert_trees_all_equal(curves(mixed.history, np.flatnonzero(kept)), curves(result.history))


@pytest.fixture(scope="module")
def few():
    """Two configurations of each of three optimisers."""
    rows = np.sort([rows_of(name)[:2] for name in ("adam", "sgd", "averaged")], axis=None)
    return jbn.search.Configs({name: values[rows] for name, values in CONFIGS.items()}, space=SPACE)


@pytest.fixture(scope="module")
def in_float64(few):
    with jax.enable_x64(True):
        return jbn.sweep(task(), few, epochs=2, key=KEY)


@pytest.mark.parametrize("name", ["adam", "sgd", "averaged"])
def test_a_row_of_the_configurations_alone_is_the_same_experiment(few, in_float64, name):
    """As the result has it, with what is missing; as a function of the row as it was drawn."""
    many, index = in_float64, int(rows_of(name, few)[0])
    train = jbn.train_function(task(), epochs=2)
    with jax.enable_x64(True):
        row = {n: v[index : index + 1] for n, v in many.configs.items()}
        assert any(value[0] is None or value[0] != value[0] for value in row.values())
        one = jbn.sweep(task(), row, epochs=2, key=KEY)
        found = [jax.jit(functools.partial(train, own.row(index)))(KEY) for own in (few, many.configs)]
    chex.assert_trees_all_equal(*found)
    expected = many.history.validation_loss[:, index]
    np.testing.assert_allclose(one.history.validation_loss[:, 0], expected, rtol=1e-8)
    np.testing.assert_allclose(found[0][0].validation_loss, expected, rtol=1e-8)


def test_the_table_has_nothing_where_a_configuration_ignores_something(mixed):
    table = mixed.table().set_index("config_id").sort_index()
    assert list(table.columns[: len(SPACE)]) == list(SPACE)
    assert table.optimizer.tolist() == CONFIGS["optimizer"].tolist()
    for name, index in itertools.product(OFFERED, ["beta2", "optimizer_momentum", "nesterov"]):
        rows = rows_of(name)
        own = table[index].iloc[rows].tolist()
        if index in HAS[name]:
            assert own == CONFIGS[index][rows].tolist()
        else:
            assert all(value is None or np.isnan(value) for value in own)
    assert mixed.configs.space == SPACE
    assert not np.isnan(CONFIGS["beta2"]).any()  # the caller's are as they were


def test_the_winner_has_the_hyper_parameters_of_its_optimizer_and_its_defaults(mixed):
    best = mixed.best()
    assert best.config["optimizer"] == CONFIGS["optimizer"][best.config_id]
    own = task(OFFERED[best.config["optimizer"]])
    assert best.config.keys() == own.defaults().keys() | {"optimizer"}
    assert best.problem == own.problem
    assert best.config["learning_rate"] == own.defaults()["learning_rate"]
    assert None not in best.config.values()
    for name in HAS[best.config["optimizer"]] | SHARED:
        assert best.config[name] == CONFIGS[name][best.config_id]
    validation = DATA.validation
    assert best.accuracy(validation.x, validation.y) == pytest.approx(np.nanmax(mixed.scores), abs=1e-6)


def test_every_optimizer_s_own_defaults_hold():
    """Without a column for it, a configuration has what the paper of its optimiser says."""
    configs = {"optimizer": ["adam", "lion", "rmsprop", "sgd"], "batch_size": [256] * 4}
    spelt = {
        "adam": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        "lion": {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 1e-3},
        "rmsprop": {"learning_rate": 1e-3, "beta2": 0.9, "epsilon": 1e-8},
        "sgd": {"learning_rate": 1e-3, "optimizer_momentum": 0.9},
    }
    result = jbn.sweep(task("adam"), configs, epochs=1, key=KEY)
    for row, (name, given) in enumerate(spelt.items()):
        columns = {key: [value] for key, value in {**given, "batch_size": 256}.items()}
        one = jbn.sweep(task(name), columns, epochs=1, key=KEY)
        chex.assert_trees_all_equal(curves(result.history, [row]), curves(one.history))


def test_the_optimizer_may_be_all_that_varies():
    result = jbn.sweep(task(), {"optimizer": ["sgd", "adam"], "batch_size": [256] * 2}, epochs=1, key=KEY)
    assert set(result.table().optimizer) == {"sgd", "adam"}
    assert len(set(result.history.train_loss[0])) == 2


def test_one_choice_is_as_if_the_task_had_it():
    space = jbn.Space(optimizer="sgd", optimizer_momentum=jbn.uniform(0, 0.9), batch_size=256)
    configs = jbn.search.random(space, 3, key=0)
    chosen = jbn.sweep(task("adam"), configs, epochs=1, key=KEY)
    plain = {name: values for name, values in configs.items() if name != "optimizer"}
    given = jbn.sweep(task("sgd"), plain, epochs=1, key=KEY)
    chex.assert_trees_all_equal(curves(chosen.history), curves(given.history))
    with pytest.raises(jbn.InputError, match="unknown hyper-parameter 'beta1'"):
        jbn.sweep(task("adam"), {**configs, "beta1": [0.9] * 3}, epochs=1, key=KEY)


def test_without_a_choice_a_sequence_is_its_first():
    configs = {"learning_rate": [0.01, 0.1], "beta2": [0.9, 0.7], "batch_size": [256, 256]}
    both, first = (jbn.sweep(task(own), configs, epochs=1, key=KEY) for own in ((OWN, "sgd"), OWN))
    chex.assert_trees_all_equal(curves(both.history), curves(first.history))
    assert both.best().config == first.best().config
    assert "optimizer" not in both.best().config
    with pytest.raises(jbn.InputError, match="unknown hyper-parameter 'optimizer_momentum'"):
        jbn.sweep(task((OWN, "sgd")), {"optimizer_momentum": [0.9]}, epochs=1, key=KEY)


def test_several_seeds_and_a_policy_that_stops_some():
    def stop(history, key):
        return jbn.Edits(stop=np.array([0, 1]) if len(history.steps) == 1 else np.zeros(0, int))

    configs = {"optimizer": ["adam", "sgd", "lion"], "batch_size": [256] * 3}
    result = jbn.sweep(task(), configs, epochs=2, key=KEY, seeds=2, policy=stop)
    assert result.standing.status.tolist() == ["stopped", "done", "done"]
    one = jbn.sweep(task("sgd"), {"batch_size": [256]}, epochs=2, key=KEY, seeds=2)
    chex.assert_trees_all_equal(curves(result.history, [2, 3]), curves(one.history))


def test_one_that_diverges_leaves_the_others_alone(mixed):
    """With a learning rate that no weights survive, whatever the optimiser of the others."""
    rows = [int(rows_of(name)[0]) for name in ("adam", "sgd", "lion")]
    configs = {name: values[rows] for name, values in CONFIGS.items()}
    rates = np.array([1e-3, 1e38, 1e-4])
    result = jbn.sweep(task(), {**configs, "learning_rate": rates}, epochs=2, key=KEY)
    calm = jbn.sweep(task(), {**configs, "learning_rate": [1e-3, 0.1, 1e-4]}, epochs=2, key=KEY)
    assert result.standing.status.tolist() == ["done", "diverged", "done"]
    chex.assert_trees_all_equal(curves(result.history, [0, 2]), curves(calm.history, [0, 2]))


def test_the_record_and_its_export_have_the_optimizers(tmp_path):
    configs = {"optimizer": ["sgd", "averaged", "sgd"], "beta2": [0.9] * 3, "nesterov": [True, True, False]}
    jbn.sweep(task(), {**configs, "batch_size": [256] * 3}, epochs=1, key=KEY, out=tmp_path / "run")
    record = store.read(tmp_path / "run")
    table = record.configurations
    assert table.optimizer.tolist() == ["sgd", "averaged", "sgd"]
    np.testing.assert_array_equal(table.beta2, [np.nan, 0.9, np.nan])
    assert table.nesterov.tolist() == [True, None, False]
    about = record.settings["task"]
    assert about["optimizer"] == ["sgd", "averaged"]
    assert about["defaults"]["averaged"]["beta2"] == 0.5
    assert about["defaults"]["sgd"]["optimizer_momentum"] == 0.9
    assert "beta2" not in about["defaults"]["sgd"]
    structures = [cohort["structure"] for own in record.settings["plan"]["programs"] for cohort in own]
    assert sorted((s["optimizer"], s.get("nesterov")) for s in structures if s["optimizer"] == "sgd") == [
        ("sgd", False),
        ("sgd", True),
    ]
    assert record.settings["winner"]["optimizer"] in ("sgd", "averaged")
    export_table(tmp_path / "run", tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["config_id"])
    assert [(row["optimizer"], row["beta2"], row["nesterov"]) for row in rows] == [
        ("sgd", "", "True"),
        ("averaged", "0.9", ""),
        ("sgd", "", "False"),
    ]


def test_a_record_without_a_choice_is_as_it_was(tmp_path):
    jbn.sweep(task("sgd"), {"batch_size": [256]}, epochs=1, key=KEY, out=tmp_path / "run")
    settings = store.read(tmp_path / "run").settings
    assert settings["task"]["optimizer"] == "sgd"
    assert settings["task"]["defaults"] == task("sgd").defaults()
    assert settings["plan"]["classes"] == 1
    assert "optimizer" not in settings["plan"]["programs"][0][0]["structure"]


def test_tile_and_chunk_can_be_timed(monkeypatch):
    """Two of each are enough here: each costs a compile."""
    for name, candidates in {"_TILES": (1, 2), "_SLOTS": (8, 16)}.items():
        monkeypatch.setattr(f"jbn.engine.tune.{name}", dict.fromkeys(("cpu", "accelerator"), candidates))
    configs = {"optimizer": ["sgd", "adam"] * 4, "hidden_units": [4, 6] * 4, "batch_size": [256] * 8}
    result = jbn.sweep(task(), configs, epochs=1, key=KEY, tuned=True)
    assert set(result.standing.status) == {"done"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"optimizer": ["adam", "sdg"]}, "unknown optimizer 'sdg': did you mean 'sgd'"),
        ({"optimizer": ["adam", "rmsprop"]}, "optimizer must be one of the task's, adam, .* but got rmsprop"),
        (
            {"optimizer": ["adam", "sgd"], "weight_decay": [0.1, 0.1]},
            "unknown hyper-parameter 'weight_decay'",
        ),
        ({"optimizer": ["adam", "sgd"], "beta1": [np.nan, 0.1]}, "got nan .where optimizer is adam"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(columns, message, tmp_path):
    with pytest.raises(jbn.InputError, match=message):
        jbn.sweep(task(), columns, epochs=1, key=KEY, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
