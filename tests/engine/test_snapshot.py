"""The state of a population as arrays, and back into other chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbn
from jbn.engine.engine import Engine
from jbn.engine.plan import plan, plan_of
from jbn.engine.workers import Workers

TASK = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
SPACE = jbn.Space(learning_rate=jbn.log_uniform(1e-3, 1e-1), layers=jbn.integers(1, 2), hidden_units=16)
CONFIGS = jbn.search.random(SPACE, 11, key=0)
LAYOUT = plan(TASK, CONFIGS, platform="cpu")._replace(slots=8)
EVERYONE = np.ones(22, bool)


@pytest.fixture
def workers():
    crew = Workers(1)
    yield crew
    crew.close()


def engine(workers, slots=8):
    layout = LAYOUT._replace(slots=slots)
    return Engine(TASK, CONFIGS, layout, key=jax.random.key(1), seeds=2, workers=workers)


@pytest.mark.parametrize("slots", [8, 4])
def test_members_go_on_as_if_nothing_had_been(workers, slots):
    own, other = engine(workers), engine(workers, slots)
    own.advance(0, EVERYONE)
    other.restore([{name: np.array(values) for name, values in part.items()} for part in own.snapshot()])
    first, second = own.advance(1, EVERYONE), other.advance(1, EVERYONE)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    for member in (0, 13, 21):
        jax.tree.map(np.testing.assert_array_equal, own.member(member), other.member(member))


def test_only_members_are_in_it_with_their_numbers_and_paths(workers):
    own = engine(workers)
    assert list(own.snapshot()) == []
    own.advance(0, EVERYONE)
    parts = list(own.snapshot())
    members = np.concatenate([values for part in parts for name, values in part.items() if "members" in name])
    assert sorted(members.tolist()) == list(range(22))
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names))
    assert any(name.endswith("params/layer_1/kernel") for name in names)
    assert all(
        len(own) == len(part[f"{name.split('.')[0]}.members"]) for part in parts for name, own in part.items()
    )


def test_a_snapshot_of_other_members_is_refused(workers):
    own = engine(workers)
    own.advance(0, EVERYONE)
    parts = list(own.snapshot())
    with pytest.raises(ValueError, match=r"the states of \d+ members are missing"):
        engine(workers).restore(parts[1:])
    wrong = [{name: v[..., :3] if "kernel" in name else v for name, v in part.items()} for part in parts]
    with pytest.raises(ValueError, match=r"an array is float32\[.*3\], not float32\["):
        engine(workers).restore(wrong)


def test_types_of_other_packages_are_kept_bit_for_bit(workers):
    """A state with bfloat16 in it goes through whole numbers of the same size."""
    from jbn.engine import snapshot

    values = jnp.array([[1.5, -2.0]], jnp.bfloat16)
    plain = snapshot._plain(values)
    assert plain.dtype == np.uint16
    leaf = np.zeros((2, 2), jnp.bfloat16)
    snapshot._fill([leaf], 1, [plain], 0)
    np.testing.assert_array_equal(leaf[1].astype(np.float32), [1.5, -2.0])


def test_a_plan_comes_back_from_json(workers):
    import json

    back = plan_of(json.loads(json.dumps(LAYOUT.describe())))
    assert back._replace(programs=()) == LAYOUT._replace(programs=())
    for own, other in zip(LAYOUT.programs, back.programs, strict=True):
        for cohort, again in zip(own, other, strict=True):
            assert cohort.structure == again.structure
            assert hash(cohort.structure) == hash(again.structure)
            np.testing.assert_array_equal(cohort.rows, again.rows)
