"""Population-based training: on histories made by hand, and in sweeps that are replayed."""

import logging

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jbn
from jbn.errors import InputError
from jbn.policies import DIVERGED, RUNNING, STOPPED, Event, History, Schedule, schedule_of
from jbn.search import Configs
from jbn.task.objectives import Objective
from jbn.task.optimizers import OPTIMIZERS

KEY = jax.random.key(0)
LIMITS = {entry.name: entry for entry in OPTIMIZERS["adam"].hyperparameters}
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-4, 1.0), beta1=jbn.reverse_log_uniform(0.9, 0.999), batch_size=64
)


def history(accuracy, *, status=None, groups=None, rates=None, segments=1):
    accuracy = np.tile(np.asarray(accuracy, float), (segments, 1))
    count = accuracy.shape[1]
    status = np.full(count, RUNNING) if status is None else np.asarray(status)
    groups = np.zeros(count, int) if groups is None else np.asarray(groups)
    rates = np.geomspace(1e-3, 1e-1, count) if rates is None else np.asarray(rates, float)
    configs = {"learning_rate": rates, "beta1": np.full(count, 0.99), "batch_size": np.full(count, 64)}
    changeable = {name: LIMITS[name] for name in ("learning_rate", "beta1")}
    steps = np.cumsum(np.ones(accuracy.shape, int), axis=0)
    validation = {"accuracy": accuracy, "loss": 1 - accuracy}
    objective = Objective("accuracy", maximize=True)
    return History(1 - accuracy, validation, steps, status, objective, 1, configs, changeable, groups)


def pairs(policy, own, key=KEY):
    return policy(own, key).copies.tolist()


def test_the_worst_quarter_copies_from_the_best_quarter():
    own = history([0.1, 0.9, 0.3, 0.8, 0.5, 0.6, 0.7, 0.2])
    for seed in range(20):
        found = pairs(jbn.pbt(SPACE), own, jax.random.key(seed))
        assert sorted(target for _, target in found) == [0, 7]
        assert {source for source, _ in found} <= {1, 3}


def test_every_one_of_the_best_is_copied_at_times():
    own = history([0.1, 0.9, 0.3, 0.8, 0.5, 0.6, 0.7, 0.2])
    sources = [source for seed in range(40) for source, _ in pairs(jbn.pbt(SPACE), own, jax.random.key(seed))]
    share = sources.count(1) / len(sources)
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / len(sources))


def test_populations_do_not_mix():
    own = history([0.9, 0.1, 0.8, 0.7, 0.2, 0.3, 0.4, 0.5], groups=[0, 1, 0, 0, 1, 1, 1, 0])
    found = pairs(jbn.pbt(SPACE), own)
    assert found == [[0, 7], [7, 1]] or sorted(found) == [[0, 7], [6, 1]]
    assert {(source in (0, 2, 3, 7), target in (0, 2, 3, 7)) for source, target in found} <= {
        (True, True),
        (False, False),
    }


def test_diverged_members_go_on_from_the_best_and_stopped_ones_do_not():
    status = [DIVERGED, RUNNING, DIVERGED, RUNNING, DIVERGED, STOPPED, RUNNING, RUNNING]
    own = history([np.nan, 0.9, np.nan, 0.2, np.nan, 0.99, 0.5, 0.6], status=status)
    found = pairs(jbn.pbt(SPACE), own)
    assert sorted(target for _, target in found) == [0, 2, 4]
    assert {source for source, _ in found} == {1}
    assert pairs(jbn.pbt(SPACE), history([np.nan] * 4, status=[DIVERGED] * 4)) == []


def test_equal_members_are_left_alone_and_other_segments_too():
    assert pairs(jbn.pbt(SPACE), history([0.5] * 8)) == []
    own = [0.1, 0.9, 0.3, 0.8]
    assert pairs(jbn.pbt(SPACE, every=2), history(own, segments=3)) == []
    assert len(pairs(jbn.pbt(SPACE, every=2), history(own, segments=4))) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.1, 0.4]))
def test_settings_move_by_a_step_on_their_own_scale(seed, step):
    own = history([0.1, 0.9, 0.3, 0.8])
    edits = jbn.pbt(SPACE, step=step, resample=0.0)(own, jax.random.key(seed))
    ((source, target),) = edits.copies.tolist()
    for name, before in (("learning_rate", own.configs["learning_rate"][source]), ("beta1", 0.99)):
        values = edits.values[name]
        assert np.flatnonzero(~np.isnan(values)).tolist() == [target]
        decades = np.log10([1e-4, before, values[target], 1.0])
        if name == "beta1":
            decades = np.log10(1 - np.array([0.9, before, values[target], 0.999]))
        u = (decades - decades[0]) / (decades[3] - decades[0])
        expected = [np.clip(u[1] + sign * step, 0, 1) for sign in (-1, 1)]
        assert np.min(np.abs(u[2] - expected)) < 1e-9


def test_a_setting_is_drawn_anew_with_the_stated_probability():
    own = history([0.1, 0.9, 0.3, 0.8])
    moved = [
        jbn.pbt(SPACE, step=0.01, resample=0.3)(own, jax.random.key(seed)).values["learning_rate"][0]
        for seed in range(200)
    ]
    steps = np.abs(np.log10(np.array(moved)) - np.log10(own.configs["learning_rate"][1])) / 4
    share = np.mean(steps > 0.0101)
    # of those drawn anew, 2 % land within a step
    assert abs(share - 0.3 * 0.98) < 4 * np.sqrt(0.3 * 0.7 / 200)


def test_what_does_not_vary_is_copied_as_it_is():
    space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1.0), beta1=0.95)
    own = history([0.1, 0.9, 0.3, 0.8])
    edits = jbn.pbt(space)(own, KEY)
    assert edits.values["beta1"][0] == 0.99
    assert np.isnan(edits.values["beta1"][1:]).all()


def test_who_copies_whom_does_not_depend_on_others_of_the_population_order():
    own = history([0.1, 0.9, 0.3, 0.8])
    first, second = (jbn.pbt(SPACE)(own, KEY) for _ in range(2))
    np.testing.assert_array_equal(first.copies, second.copies)
    np.testing.assert_array_equal(first.values["beta1"], second.values["beta1"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0.0}, r"share must be a number in \(0, 0.5\], got 0.0"),
        ({"share": 0.6}, r"share must be a number in \(0, 0.5\], got 0.6"),
        ({"share": float("nan")}, r"share must be a number in \(0, 0.5\], got nan"),
        ({"step": 0.0}, r"step must be a number in \(0, 1\], got 0.0"),
        ({"resample": 1.5}, r"resample must be a number in \[0, 1\], got 1.5"),
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
    ],
)
def test_numbers_out_of_range(options, words):
    with pytest.raises(InputError, match=words):
        jbn.pbt(SPACE, **options)


def test_it_needs_a_space_with_something_to_change_and_somebody_to_copy():
    fixed = jbn.Space(learning_rate=0.1, batch_size=jbn.choice(32, 64))
    with pytest.raises(InputError, match="of learning_rate, batch_size none is one that varies"):
        jbn.pbt(fixed).check(history([0.1] * 8))
    with pytest.raises(InputError, match="none is an argument of the programs"):
        jbn.pbt(SPACE).check(history([0.1] * 8)._replace(changeable={}))
    with pytest.raises(InputError, match=r"needs 4 members of equal structure .* the largest group has 3"):
        jbn.pbt(SPACE).check(history([0.1] * 5, groups=[0, 0, 0, 1, 1]))


def test_several_populations_are_announced():
    assert jbn.pbt(SPACE).check(history([0.1] * 8)) is None
    words = jbn.pbt(SPACE).check(history([0.1] * 7, groups=[0, 0, 0, 0, 1, 1, 2]))
    assert words == (
        "pbt: 3 populations, one for each structure and seed index, of 1 to 4 members; 3 members are in one too "
        "small to copy within and only train"
    )


def test_a_lineage_goes_back_through_those_that_were_copied():
    """2 copies 1 after segment 1, and 1 had copied 0 after segment 0; what 1 does after that is not 2's."""
    rates = {member: {"learning_rate": float(member)} for member in range(3)}
    events = [
        Event(0, 1, "copied", 0),
        Event(0, 1, "set", None, {"learning_rate": 0.5}),
        Event(1, 1, "copied", 0),  # in the same segment: 2 has 1 as it was before
        Event(1, 2, "copied", 1),
        Event(1, 1, "set", None, {"learning_rate": 7.0}),
        Event(1, 2, "set", None, {"learning_rate": 0.7}),
        Event(2, 0, "stopped"),
    ]
    expected = {0: {"learning_rate": 0.5}, 1: {"learning_rate": 0.7}}
    assert schedule_of(2, events, rates) == Schedule({"learning_rate": 0.0}, expected)
    assert schedule_of(0, events, rates) == Schedule({"learning_rate": 0.0}, {})


TASK = jbn.Task(model=jbn.mlp(layers=1), data=jbn.data.digits())
MIXED = jbn.Space(
    learning_rate=jbn.log_uniform(1e-6, 10.0),
    beta1=jbn.reverse_log_uniform(0.5, 0.999),
    hidden_units=jbn.choice(8, 12),
    batch_size=256,
)


@pytest.fixture(scope="module")
def configs():
    return jbn.search.random(MIXED, 16, key=1)


@pytest.fixture(scope="module")
def trained(configs, tmp_path_factory):
    out = tmp_path_factory.mktemp("pbt") / "run"
    return jbn.sweep(TASK, configs, epochs=5, key=KEY, seeds=2, policy=jbn.pbt(MIXED), out=out), out


def test_nothing_is_compiled_for_it_and_it_helps(configs, trained):
    plain = jbn.sweep(TASK, configs, epochs=5, key=KEY, seeds=2)
    assert plain.timings.programs == 0
    median = [np.median(own.history.validation_accuracy[-1]) for own in (trained[0], plain)]
    assert median[0] > median[1] + 0.05


def test_copies_stay_within_structure_and_seed(configs, trained):
    lineage = trained[0].lineage()
    copied = lineage[lineage.event == "copied"]
    assert len(copied) > 10
    units = configs["hidden_units"]
    assert (units[copied.config_id] == units[copied.source_config_id]).all()
    assert (copied.seed == copied.source_seed).all()
    assert set(lineage.segment) == {0, 1, 2, 3}  # nobody goes on from what is copied after the last


def test_the_winner_is_what_its_schedule_makes_of_a_fresh_network():
    """The lineage is a path of one network: replayed from the start it gives the same weights, bit for bit."""
    for number in range(8):  # until the winner is one that was changed on its way
        key, configs = jax.random.key(number), jbn.search.random(MIXED, 16, key=number + 1)
        result = jbn.sweep(TASK, configs, epochs=5, key=key, seeds=2, policy=jbn.pbt(MIXED))
        best, schedule = result.best(), result.schedule()
        if schedule.changes:
            break
    assert schedule.changes
    columns = Configs({name: [value] for name, value in schedule.config.items()}, space=MIXED)
    again = jbn.sweep(TASK, columns, epochs=5, key=key, seeds=2, policy=schedule)
    own = again.history.validation_loss[:, best.seed]
    member = best.config_id * 2 + best.seed
    assert own[-1] == result.history.validation_loss[-1, member]
    if again.best().seed == best.seed:
        jax.tree.map(np.testing.assert_array_equal, again.best().params, best.params)
    last = schedule.at(4)
    assert {name: best.config[name] for name in last} == last


def test_the_lineage_is_in_the_store(trained):
    result, out = trained
    record = jbn.store.read(out)
    lineage = result.lineage()
    assert record.events[["segment", "config_id", "seed", "event"]].equals(
        lineage[["segment", "config_id", "seed", "event"]]
    )
    for row, detail in zip(lineage.itertuples(), record.events.detail, strict=True):
        if row.event == "copied":
            assert detail == {"config_id": row.source_config_id, "seed": row.source_seed}
        else:
            assert detail == {"learning_rate": row.learning_rate, "beta1": row.beta1}


def test_members_that_diverged_are_back(configs):
    wild = Configs({**configs, "learning_rate": np.where(np.arange(16) < 3, 1e30, 0.01)}, space=MIXED)
    result = jbn.sweep(TASK, wild, epochs=3, key=KEY, policy=jbn.pbt(MIXED))
    assert (result.table().status == "done").all()


def test_a_sweep_says_that_there_are_several_populations(configs, caplog):
    with caplog.at_level(logging.WARNING, "jbn"):
        jbn.sweep(TASK, configs, epochs=1, key=KEY, policy=jbn.pbt(MIXED))
    assert "pbt: 2 populations" in caplog.text


def test_schedules_of_members_that_do_not_exist(trained):
    with pytest.raises(InputError, match="a member must be one of 16 configurations with 2 seeds"):
        trained[0].schedule(16)
