import jax
import numpy as np
import pandas as pd
import pytest

import jbn
from jbn.errors import InputError
from jbn.task.data import arrays, load, table


def people(rows=100, seed=0):
    """A table in which the town and the age decide: mostly text, gaps everywhere but in the target and the row."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "row": np.arange(rows),
            "age": rng.uniform(18, 90, rows),
            "town": rng.choice(["Ulm", "Rome", "Bari"], rows),
            "member": rng.choice(np.array([True, False], object), rows),
            "zone": rng.integers(1, 5, rows),
        }
    )
    frame["verdict"] = np.where((frame.town == "Ulm") ^ (frame.age > 50), "yes", "no")
    for name in ("age", "town", "member"):
        frame.loc[rng.random(rows) < 0.1, name] = None
    return frame


def parts(data):
    return data.train, data.validation, data.test


class TestParts:
    def test_the_split_is_that_of_arrays(self):
        frame = people()
        x, y = frame[["row", "zone"]].to_numpy(float), (frame.verdict == "yes").to_numpy()
        ours = table(frame[["row", "verdict", "zone"]], target="verdict", seed=3)
        for part, other in zip(parts(ours), parts(arrays(x, y, seed=3)), strict=True):
            np.testing.assert_array_equal(part.x, other.x)
            np.testing.assert_array_equal(part.y, other.y)

    def test_what_is_said_of_it(self):
        data = table(people(), target="verdict", categorical=["zone"], drop=["row"])
        assert repr(data) == (
            "Data('table': 60 training, 20 validation, 20 test rows of 13 features, 2 classes)"
        )
        assert data.columns.names == (
            *("age", "age is missing", "town=Bari", "town=Rome", "town=Ulm", "town is missing"),
            *("member=False", "member=True", "member is missing", "zone=1", "zone=2", "zone=3", "zone=4"),
        )
        assert data.class_names == ("no", "yes")
        assert table(people(), target="verdict", name="people").name == "people"

    def test_a_single_column_may_be_named_without_a_list(self):
        listed = table(people(), target="verdict", categorical=["zone"], drop=["row"])
        assert table(people(), target="verdict", categorical="zone", drop="row").columns == listed.columns

    def test_other_sources_have_neither_columns_nor_names(self):
        data = arrays([[0.0], [1.0]] * 5, [0, 1] * 5)
        assert data.columns is data.class_names is None

    def test_rows_keep_their_target(self):
        frame = people()
        for part in parts(table(frame, target="verdict")):
            rows = part.x[:, 0].astype(int)
            np.testing.assert_array_equal(np.array(["no", "yes"])[part.y], frame.verdict[rows])

    def test_every_part_is_the_encoding_of_its_rows(self):
        frame = people()
        data = table(frame, target="verdict")
        for part in parts(data):
            own = frame.iloc[part.x[:, 0].astype(int)]
            np.testing.assert_array_equal(data.columns.encode(own), part.x)

    def test_nothing_is_learned_from_other_parts_than_the_training_part(self):
        frame = people()
        before = table(frame, target="verdict")
        others = np.concatenate([part.x[:, 0] for part in parts(before)[1:]]).astype(int)
        frame.loc[others, ["age", "town", "zone"]] = [1e6, "Paris", None]
        after = table(frame, target="verdict")
        assert after.columns == before.columns
        np.testing.assert_array_equal(after.train.x, before.train.x)
        assert not after.test.x[:, [name.startswith("town") for name in after.columns.names]].any()

    def test_the_fill_is_0_after_normalisation(self):
        data = table(people(), target="verdict")
        fitted = jbn.Task(model=jbn.mlp(), data=data).arrays().normalizer
        age, missing = (data.columns.names.index(name) for name in ("age", "age is missing"))
        absent = data.train.x[:, missing] == 1
        assert absent.any()
        np.testing.assert_allclose(np.asarray(fitted.apply(data.train.x))[absent, age], 0, atol=1e-6)

    def test_a_constant_column_is_0_after_normalisation(self):
        data = table(people().assign(one=1, same="x"), target="verdict")
        fitted = jbn.Task(model=jbn.mlp(), data=data).arrays().normalizer
        constant = [data.columns.names.index(name) for name in ("one", "same=x")]
        assert not np.asarray(fitted.apply(data.test.x))[:, constant].any()

    def test_a_frame_given_is_not_changed_and_its_index_means_nothing(self):
        frame = people()
        before = frame.copy(deep=True)
        first = table(frame, target="verdict")
        pd.testing.assert_frame_equal(frame, before)
        other = table(frame.set_axis(frame.index[::-1] * 0), target="verdict")
        np.testing.assert_array_equal(first.train.x, other.train.x)

    def test_the_order_of_columns_changes_the_order_of_features_only(self):
        frame = people()
        first, other = table(frame, target="verdict"), table(frame[frame.columns[::-1]], target="verdict")
        places = [other.columns.names.index(name) for name in first.columns.names]
        np.testing.assert_array_equal(other.validation.x[:, places], first.validation.x)
        np.testing.assert_array_equal(other.validation.y, first.validation.y)

    def test_a_class_of_one_row_is_trained_on(self):
        frame = people()
        frame.loc[17, "verdict"] = "perhaps"
        data = table(frame, target="verdict")
        assert data.class_names == ("no", "perhaps", "yes")
        assert 17 in data.train.x[data.train.y == 1, 0]


class TestFiles:
    def test_csv_and_parquet_give_what_the_frame_gives(self, tmp_path):
        frame = people()
        frame.to_csv(tmp_path / "people.csv", index=False)
        frame.assign(town=frame.town.astype("category")).to_parquet(tmp_path / "people.parquet")
        expected = table(frame, target="verdict", seed=2)
        for name in ("people.csv", "people.parquet"):
            data = table(tmp_path / name, target="verdict", seed=2)
            assert data.name == name
            assert data.columns == expected.columns
            for ours, theirs in zip(parts(data), parts(expected), strict=True):
                np.testing.assert_array_equal(ours.x, theirs.x)
                np.testing.assert_array_equal(ours.y, theirs.y)

    def test_load_takes_the_same_options(self, tmp_path):
        people().to_csv(tmp_path / "people.csv", index=False)
        options = dict(target="verdict", categorical=["zone"], drop=["row"], seed=5)
        ours, theirs = load(tmp_path / "people.csv", **options), table(tmp_path / "people.csv", **options)
        assert ours.columns == theirs.columns
        np.testing.assert_array_equal(ours.test.x, theirs.test.x)

    def test_the_home_directory_is_known(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        people().to_csv(tmp_path / "people.csv", index=False)
        assert load("~/people.csv", target="verdict").classes == 2

    def test_a_table_without_a_target(self, tmp_path):
        with pytest.raises(
            InputError,
            match=r"people.csv must have target, but got none; name the column to predict .--target",
        ):
            load(tmp_path / "people.csv")

    @pytest.mark.parametrize("option", ["target", "categorical", "drop"])
    def test_options_of_tables_for_other_sources(self, option):
        with pytest.raises(InputError, match=f"{option} is for tables .* but data is 'digits'; leave it out"):
            load("digits", **{option: ["a"]})


def wrong(message, frame=None, **options):
    with pytest.raises(InputError, match=message):
        table(people() if frame is None else frame, **{"target": "verdict", **options})


class TestWrong:
    def test_an_unknown_column(self):
        wrong("there is no column 'verdikt'; did you mean 'verdict'", target="verdikt")
        wrong("there is no column 'zones'; did you mean 'zone'", categorical=["zones"])
        wrong("there is no column 'rows'; did you mean 'row'", drop=["rows"])

    def test_a_target_that_is_dropped_or_alone(self):
        wrong("the target 'verdict' must stay, but is in drop", drop="verdict")
        wrong("there must be a column beside the target 'verdict'", people()[["verdict"]])
        wrong("there must be a column beside the target", people()[["verdict", "age"]], drop="age")

    @pytest.mark.parametrize("name", ["age", "verdict"])
    def test_a_name_that_is_there_twice(self, name):
        frame = people()
        wrong(f"column names must differ, but 2 are '{name}'", pd.concat([frame, frame[[name]]], axis=1))

    def test_a_column_without_a_name(self, tmp_path):
        people().to_csv(tmp_path / "people.csv")
        wrong(
            "column 0 must have a name, .* write the file with index=False, or drop it",
            tmp_path / "people.csv",
        )
        assert table(tmp_path / "people.csv", target="verdict", drop="").columns.names[0] == "row"

    def test_no_rows(self, tmp_path):
        people(0).to_csv(tmp_path / "people.csv", index=False)
        wrong("people.csv must have rows, but has none", tmp_path / "people.csv")
        wrong("table must have rows, but has none", people(0))

    def test_too_few_rows(self):
        frame = pd.DataFrame({"age": [1, 2, 3], "verdict": ["no", "no", "yes"]})
        wrong("splitting leaves no rows for the validation part: .* give more rows", frame)

    def test_rows_in_messages_are_those_of_the_table(self):
        frame = people()
        frame.loc[71, "age"] = np.inf
        wrong("column 'age' must hold finite numbers, but has inf in row 71", frame)

    def test_dates_and_nothing(self):
        wrong("'day' must hold .* but holds datetime64", people().assign(day=pd.Timestamp("2026-01-01")))
        wrong("'gap' must have values, but all are missing", people().assign(gap=np.nan))

    def test_what_is_no_table(self):
        wrong("rows must be a pandas data frame, but got dict", {"verdict": [1]})

    def test_a_target_of_text_that_is_to_be_numbers(self):
        wrong("target 'verdict' must hold numbers, but holds", target="verdict", targets="numbers")
        wrong(
            'targets must be "classes" or "numbers", but got \'number\'', target="verdict", targets="number"
        )


def test_a_target_of_numbers_is_a_regression():
    frame = people(400).dropna()
    data = table(frame, target="age")
    assert (data.classes, data.class_names) == (None, None)
    whole = np.concatenate([data.train.y, data.validation.y, data.test.y])
    np.testing.assert_array_equal(np.sort(whole), np.sort(frame.age))
    frame["grade"] = np.arange(len(frame)) % 5
    assert table(frame, target="grade").classes == 5
    assert table(frame, target="grade", targets="numbers").classes is None
    result = jbn.sweep(
        jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=data),
        {"batch_size": np.array([16])},
        epochs=1,
        key=jax.random.key(0),
    )
    assert "validation_mean_absolute_error" in result.table()


def test_a_model_of_a_table_predicts_new_rows_by_name():
    frame = people(400)
    task = jbn.Task(model=jbn.mlp(), data=table(frame, target="verdict", drop="row"))
    configs = {
        "learning_rate": np.array([0.01, 0.03]),
        "layers": np.array([1, 1]),
        "hidden_units": np.array([16, 16]),
    }
    result = jbn.sweep(task, configs, epochs=40, key=jax.random.key(0))
    best, names = result.best(), np.array(task.data.class_names)
    assert result.test_accuracy > 0.75  # a row of five misses what decides
    new = people(300, seed=1).dropna()
    predicted = names[np.asarray(best.predict(task.data.columns.encode(new[reversed(new.columns)])))]
    assert (predicted == new.verdict).mean() > 0.9
    assert best.predict(task.data.columns.encode(pd.DataFrame([{**new.iloc[0], "town": "Paris"}]))).shape == (
        1,
    )
