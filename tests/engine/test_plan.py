"""Which configurations share a program."""

import jax
import numpy as np
import optax
import pytest

import jbn
from jbn.engine.cost import compile_seconds, epoch_seconds, rates
from jbn.engine.layout import lay_out
from jbn.engine.plan import plan

DATA = jbn.data.digits()
TASK = jbn.Task(model=jbn.mlp(), data=DATA)


def cohorts(configs, task=TASK):
    return [cohort for program in plan(task, configs, platform="cpu").programs for cohort in program]


def test_every_configuration_is_in_one_cohort_with_its_own_structure():
    configs = jbn.search.random(jbn.search.defaults(all=True), 100, key=0)
    rows = np.concatenate([cohort.rows for cohort in cohorts(configs)])
    assert sorted(rows) == list(range(100))
    for cohort in cohorts(configs):
        values = dict(cohort.structure.values)
        assert (configs["layers"][cohort.rows] == values["layers"]).all()
        assert (configs["batch_size"][cohort.rows] == values["batch_size"]).all()
        assert (configs["hidden_units"][cohort.rows] <= values["hidden_units"]).all()


def test_the_plan_depends_on_the_space_and_not_on_the_sample():
    space = jbn.search.defaults(all=True)
    plans = [plan(TASK, jbn.search.random(space, n, key=n), platform="cpu") for n in (3, 20, 256)]
    few, some, many = [{tuple(c.structure for c in program) for program in p.programs} for p in plans]
    assert few < some == many  # three configurations have no more than three batch sizes
    assert len(many) == 4


def test_depths_are_compiled_together_and_batch_sizes_apart():
    configs = jbn.search.random(jbn.search.defaults(all=True), 256, key=0)
    programs = plan(TASK, configs, platform="cpu").programs
    assert len(programs) == 4
    for program in programs:
        assert [dict(c.structure.values)["layers"] for c in program] == [2, 3, 4]
        assert len({dict(c.structure.values)["batch_size"] for c in program}) == 1


def test_a_width_that_does_not_vary_is_exact():
    (cohort,) = cohorts({"hidden_units": np.array([48, 48]), "learning_rate": np.array([0.1, 0.2])})
    assert dict(cohort.structure.values)["hidden_units"] == 48
    assert cohort.structure.padded == ()


def widths(configs, **options):
    programs = plan(TASK, configs, platform="cpu", **options).programs
    return {
        (dict(c.structure.values)["hidden_units"], bool(c.structure.padded)) for own in programs for c in own
    }


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (1, {(128, True)}),
        (2, {(60, True), (128, False)}),
        (3, {(16, False), (60, False), (128, False)}),
        ("exact", {(16, False), (60, False), (128, False)}),
    ],
)
def test_a_capacity_that_only_its_own_size_has_is_exact(classes, expected):
    space = jbn.Space(hidden_units=jbn.choice(16, 60, 128))
    assert widths(jbn.search.random(space, 50, key=1), classes=classes) == expected


def test_little_work_is_padded_and_much_work_gets_more_capacities():
    space = jbn.Space(hidden_units=jbn.integers(8, 256))
    configs = jbn.search.random(space, 64, key=0)
    few, some, many = (len(widths(configs, epochs=epochs)) for epochs in (1, 1_000, 100_000))
    assert few == 1
    assert few <= some <= many
    assert many > 2


def test_a_few_configurations_more_change_no_program():
    space = jbn.Space(hidden_units=jbn.integers(8, 256))
    for count in (47, 55, 64, 90):
        configs = jbn.search.random(space, count, key=count)
        assert (
            plan(TASK, configs, platform="cpu", epochs=500).classes
            == plan(TASK, jbn.search.random(space, 64, key=0), platform="cpu", epochs=500).classes
        )


def test_the_plan_is_the_cheapest_by_its_own_reckoning():
    space = jbn.Space(hidden_units=jbn.integers(8, 256), layers=jbn.integers(1, 3))
    configs, own = jbn.search.random(space, 256, key=0), rates("cpu")
    for epochs in (1, 256, 4096):  # 256 members times a power of two: nothing is rounded

        def seconds(classes, epochs=epochs):
            programs = plan(TASK, configs, platform="cpu", epochs=epochs, classes=classes).programs
            return compile_seconds(TASK, programs, own) + epochs * epoch_seconds(TASK, programs, own) / 2

        chosen = plan(TASK, configs, platform="cpu", epochs=epochs).classes
        assert seconds(chosen) <= 1.02 * min(map(seconds, (1, 2, 3, 4)))  # the reference is another sample


def test_an_optimiser_that_notices_padding_gets_exact_shapes():
    def factory(learning_rate):
        return optax.chain(optax.clip_by_block_rms(1e-3), optax.sgd(learning_rate))

    task = jbn.Task(model=jbn.mlp(), data=DATA, optimizer=jbn.optimizer(factory))
    configs = jbn.search.random(jbn.Space(hidden_units=jbn.choice(5, 6, 8)), 30, key=1)
    found = plan(task, configs, platform="cpu")
    assert found.classes == "exact"
    assert not any(cohort.structure.padded for program in found.programs for cohort in program)


def test_widths_without_a_space_are_rounded_up():
    found = {
        dict(c.structure.values)["hidden_units"] for c in cohorts({"hidden_units": np.array([51, 70, 97])})
    }
    assert found == {104}


def test_single_layers_may_have_their_own_width():
    space = jbn.Space(hidden_units_1=jbn.integers(20, 40), hidden_units_2=jbn.integers(4, 8))
    (cohort,) = cohorts(jbn.search.random(space, 20, key=1))
    assert set(cohort.structure.padded) == {"hidden_units_1", "hidden_units_2"}
    values = dict(cohort.structure.values)
    assert (values["hidden_units_1"], values["hidden_units_2"]) == (40, 8)


def test_columns_changed_by_hand_leave_the_space():
    configs = jbn.search.random(jbn.Space(hidden_units=jbn.integers(50, 100), layers=2), 5, key=0)
    configs["hidden_units"] = np.array([50, 60, 70, 80, 500])
    configs["layers"] = np.array([1, 2, 3, 4, 9])
    found = {dict(c.structure.values)["hidden_units"] for c in cohorts(configs)}
    assert max(found) == 504
    assert {dict(c.structure.values)["layers"] for c in cohorts(configs) if len(c.rows)} == {1, 2, 3, 4, 9}


def test_many_depths_are_compiled_a_few_at_a_time():
    configs = jbn.search.random(jbn.Space(layers=jbn.integers(1, 10)), 60, key=0)
    programs = plan(TASK, configs, platform="cpu").programs
    assert max(map(len, programs)) <= 4
    assert sum(map(len, programs)) == 10


def test_an_accelerator_gets_larger_tiles():
    configs = {"learning_rate": np.array([0.1])}
    assert plan(TASK, configs, platform="cpu").tile == 1
    assert plan(TASK, configs, platform="gpu").tile > 1


def test_laying_out_traces_no_more_for_more_configurations():
    base, traces = jbn.mlp(), []

    def init(*arguments, **options):
        traces.append(1)
        return base.init(*arguments, **options)

    task = jbn.Task(model=base._replace(init=init), data=DATA)
    space, counts = jbn.search.defaults(all=True), []
    for count in (64, 2000):
        configs = jbn.search.random(space, count, key=0)
        layout = plan(task, configs, platform="cpu", classes=1)
        before = len(traces)
        chunks = lay_out(task, configs, layout, 1, jax.local_devices())
        counts.append(len(traces) - before)
        assert len(chunks) >= count / (3 * layout.slots)
    assert counts[1] <= counts[0] <= 24  # at most once for each of 12 cohorts, and once for the usual sizes


# configurations that choose their optimiser

CHOICES = jbn.Space(
    optimizer=jbn.choice("adam", "sgd", "lion"),
    nesterov=jbn.choice(False, True),
    hidden_units=jbn.integers(8, 256),
    batch_size=jbn.choice(64, 256),
)


def structures_of(found):
    return {cohort.structure for program in found.programs for cohort in program}


def test_every_optimizer_has_its_own_programs_and_only_what_it_knows():
    configs = jbn.search.random(CHOICES, 60, key=0)
    found = plan(TASK, configs, platform="cpu")
    rows = np.concatenate([cohort.rows for program in found.programs for cohort in program])
    assert sorted(rows) == list(range(60))
    for program in found.programs:
        assert len({cohort.structure.optimizer for cohort in program}) == 1
        for cohort in program:
            values = dict(cohort.structure.values)
            assert set(configs["optimizer"][cohort.rows]) == {values["optimizer"]}
            assert ("nesterov" in values) == (values["optimizer"] == "sgd")
            assert set(configs["batch_size"][cohort.rows]) == {values["batch_size"]}
            if values["optimizer"] == "sgd":
                assert set(configs["nesterov"][cohort.rows]) == {values["nesterov"]}
    assert len(found.programs) == 2 + 4 + 2
    assert found.classes.keys() == {"adam", "sgd", "lion"}


@pytest.mark.parametrize("epochs", [1, 500])
def test_the_plan_of_an_optimizer_is_that_of_a_sweep_with_it_alone(epochs):
    """Other samples of the same space, large enough that every structure occurs."""
    found = plan(TASK, jbn.search.random(CHOICES, 768, key=2), platform="cpu", epochs=epochs)
    for name in ("adam", "sgd", "lion"):
        own = {n: d for n, d in CHOICES.items() if n != "optimizer" and (n != "nesterov" or name == "sgd")}
        task = jbn.Task(model=TASK.model, data=DATA, optimizer=name)
        configs = jbn.search.random(jbn.Space(**own), 256, key=5)
        alone = plan(task, configs, platform="cpu", epochs=epochs)
        assert found.classes[name] == alone.classes
        mine = {s.without("optimizer") for s in structures_of(found) if s.optimizer == name}
        assert mine == structures_of(alone)


@pytest.mark.parametrize("count", [48, 61, 90])
def test_how_often_an_optimizer_was_drawn_changes_no_capacity(count):
    own, other = (
        plan(TASK, jbn.search.random(CHOICES, n, key=n), platform="cpu", epochs=2000) for n in (64, count)
    )
    assert own.classes == other.classes
    assert max(own.classes.values()) > 1


def test_missing_values_of_other_optimizers_change_no_plan():
    configs = jbn.search.random(CHOICES, 40, key=1)
    blank = jbn.search.Configs(configs, space=CHOICES)
    blank["nesterov"] = np.where(configs["optimizer"] == "sgd", configs["nesterov"], None)
    both = [plan(TASK, own, platform="cpu", epochs=500) for own in (configs, blank)]
    assert both[0].describe() == both[1].describe()
    plain = {name: values[:9] for name, values in blank.items()}
    found = structures_of(plan(TASK, plain, platform="cpu"))
    used = {(name, turn) for name, turn in zip(plain["optimizer"], plain["nesterov"], strict=True)}
    assert {(s.optimizer, dict(s.values).get("nesterov")) for s in found} == used


def test_only_the_optimiser_that_notices_padding_gets_exact_shapes():
    def factory(learning_rate):
        return optax.chain(optax.clip_by_block_rms(1e-3), optax.sgd(learning_rate))

    task = jbn.Task(
        model=jbn.mlp(),
        data=DATA,
        optimizer=("adam", jbn.optimizer(factory), jbn.optimizer(optax.sgd, name="plain")),
    )
    space = jbn.Space(optimizer=jbn.choice("adam", "own", "plain"), hidden_units=jbn.choice(5, 6, 8))
    found = plan(task, jbn.search.random(space, 30, key=1), platform="cpu")
    assert found.classes == {"adam": 1, "own": "exact", "plain": 1}
    assert {(s.optimizer, bool(s.padded)) for s in structures_of(found)} == {
        ("adam", True),
        ("own", False),
        ("plain", True),
    }


def test_optimizers_share_the_limit_of_programs():
    """Of two with eight batch sizes each, none may avoid padding by compiling 32 programs more."""
    space = jbn.Space(
        optimizer=jbn.choice("adam", "lion"),
        batch_size=jbn.choice(*range(32, 40)),
        hidden_units_1=jbn.integers(8, 256),
        hidden_units_2=jbn.integers(8, 256),
    )
    found = plan(TASK, jbn.search.random(space, 400, key=0), platform="cpu", epochs=100_000)
    assert len(found.programs) <= 32
