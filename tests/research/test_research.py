"""The scripts of research/: that they run, that their verdicts can turn out any way, and what they share."""

import datetime
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

RESEARCH = Path(__file__).parents[2] / "research"
SMOKED = 3  # a day; all come up in turn

RECORDED = {
    "claim": "Wide is better: by a point.",
    "verdict": "held",
    "because": "By 2 points (1 to 3) | of 32 pairs",
    "seconds": 61.4,
    "processor_seconds": 99.6,
    "versions": {"jbn": "0.1.0", "jax": "0.10.2"},
    "python": "3.11.7",
    "cores": 2,
}


@pytest.fixture(scope="module", autouse=True)
def _scripts_find_each_other():
    names = {path.stem for path in RESEARCH.glob("*.py")}  # such as `common`, which others use, too
    others = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, str(RESEARCH))
    yield
    sys.path.remove(str(RESEARCH))
    for name in names & set(sys.modules):
        del sys.modules[name]
    sys.modules.update(others)


def script(name):
    return importlib.import_module(name)


def interval(mean, half=0.1):
    return script("common").Interval(mean, mean - half, mean + half, 32)


@pytest.mark.parametrize("index", range(SMOKED))
def test_small_versions_run_and_write_nothing(index):
    names = script("run_all").scripts(RESEARCH)
    day = datetime.datetime.now(tz=datetime.UTC).timetuple().tm_yday
    path = RESEARCH / f"{names[(SMOKED * day + index) % len(names)]}.py"
    before = recorded_at()
    done = subprocess.run(
        [sys.executable, path, "--smoke"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{path.name}: {done.stderr}"
    assert "verdict: " in done.stdout, path.name
    assert recorded_at() == before


def recorded_at():
    return {path.name: path.stat().st_mtime_ns for path in RESEARCH.glob("results/*")}


class TestShared:
    def test_an_interval_of_a_mean_is_students(self):
        values = np.random.default_rng(0).normal(3.0, 2.0, 20)
        found = script("common").mean(values)
        known = stats.t.interval(0.95, 19, loc=values.mean(), scale=stats.sem(values))
        np.testing.assert_allclose(found, (values.mean(), *known, 20), rtol=1e-12)

    def test_what_is_not_finite_is_left_out_of_a_mean(self):
        common = script("common")
        assert common.mean([1.0, np.nan, 3.0, np.inf]) == common.mean([1.0, 3.0])
        np.testing.assert_equal(tuple(common.mean([2.0])), (2.0, np.nan, np.nan, 1))
        np.testing.assert_equal(tuple(common.mean([])), (np.nan, np.nan, np.nan, 0))

    def test_an_interval_of_pairs_is_that_of_their_differences(self):
        rng = np.random.default_rng(1)
        second = rng.normal(size=12)
        first = second + rng.normal(0.5, 0.1, 12)
        found = script("common").paired(first, second)
        known = stats.ttest_rel(first, second).confidence_interval()
        np.testing.assert_allclose(found[1:3], known, rtol=1e-12)

    def test_an_interval_of_a_share_is_wilsons(self):
        found, z, p, n = script("common").share(3, 20), stats.norm.ppf(0.975), 0.15, 20
        centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        np.testing.assert_allclose(found[1:3], np.array([centre - half, centre + half]) / (1 + z**2 / n))
        assert (found.mean, found.count) == (0.15, 20)

    def test_resampled_means_have_the_normal_interval(self):
        values = np.random.default_rng(2).normal(size=(400, 1))
        found = script("common").bootstrap(values, np.mean)
        known = values.mean() + np.array([-1, 1]) * stats.norm.ppf(0.975) * values.std() / 20
        np.testing.assert_allclose(found[1:3], known, atol=0.01)
        assert script("common").bootstrap(values, np.mean) == found

    def test_segments_until_a_target_by_hand(self):
        curve = np.array([[0.1, 0.1, 0.9], [0.5, 0.2, 0.1], [0.4, 0.3, 0.1]])
        np.testing.assert_array_equal(script("common").until(curve, 0.5), [2, np.inf, 1])
        np.testing.assert_array_equal(script("common").until(curve, 0.3, steps=10), [20, 30, 10])

    def test_crossed_settings_and_geometric_means_by_hand(self):
        arms = script("arms")
        configs = arms.crossed(rate=(0.1, 0.2), name=("a", "b"))
        assert arms.rows_of(configs) == [
            {"rate": rate, "name": name} for rate in (0.1, 0.2) for name in ("a", "b")
        ]
        assert arms.factor(np.log([2.0, 8.0])).mean == pytest.approx(4.0)


class TestVerdicts:
    """Every verdict is possible: none is written into a script."""

    @pytest.mark.parametrize(
        ("lost", "verdict"), [((2, 2), "held"), ((2, 0), "depends"), ((0, 0.5), "not held")]
    )
    def test_scale_and_shift(self, lost, verdict):
        networks = zip(("relu", "sigmoid"), lost, strict=True)
        rows = [
            {
                "activation": activation,
                "layers": 2,
                "parameters": parameters,
                "learning_rate": 0.01,
                "lost_points": interval(value if parameters == "neither" else 0.0),
            }
            for activation, value in networks
            for parameters in ("both", "neither")
        ]
        assert script("scale_and_shift").judge(rows, {}).verdict == verdict

    @pytest.mark.parametrize(
        ("less", "verdict"), [((0, 0), "held"), ((0, -2), "depends"), ((-2, 0.45), "not held")]
    )
    def test_inference_statistics(self, less, verdict):
        names = ("equal-weight average", "corrected, 0.99", "uncorrected, 0.99")
        rows = [
            {
                "batch_size": 64,
                "steps": 16,
                "statistics": name,
                "less_population_pass_points": interval(value),
            }
            for name, value in zip(names, (*less, -20), strict=True)
        ]
        assert script("inference_statistics").judge(rows, {}).verdict == verdict

    @pytest.mark.parametrize(
        ("gradients", "verdict"),
        [((1e-8, 1e-8), "held"), ((1e-8, 1e-3), "depends"), ((1e-3, 1e-3), "not held")],
    )
    def test_bias_before_norm(self, gradients, verdict):
        rows = [
            {
                "optimiser": name,
                "gradient_of_bias_over_kernel_at_start": interval(1e-8, 1e-9),
                "after_training": interval(gradient, 1e-9),
                "largest_bias": interval(0.0),
                "accuracy_with_bias_less_without_points": interval(0.0),
                "pair_apart_over_twins": interval(1.0),
            }
            for name, gradient in zip(("sgd", "adam"), gradients, strict=True)
        ]
        assert script("bias_before_norm").judge(rows, {}).verdict == verdict

    @pytest.mark.parametrize(
        ("less", "verdict"), [((0, 1), "held"), ((0, -2), "depends"), ((-2, -0.5), "not held")]
    )
    def test_before_or_after(self, less, verdict):
        rows = [
            {"activation": name, "layers": 2, "before_less_after_points": interval(value)}
            for name, value in zip(("relu", "tanh"), less, strict=True)
        ]
        assert script("before_or_after").judge(rows, {}).verdict == verdict

    @pytest.mark.parametrize(
        ("won", "drift", "cost", "withstood", "true"),
        [
            (1, 0.2, 1, 3, "held"),
            (-1, 0.2, -1, 3, "drift, later layers"),
            (-1, 0.9, -1, 0, "not held"),
        ],
    )
    def test_covariate_shift(self, won, drift, cost, withstood, true):
        own = script("covariate_shift")
        rows = [
            *(
                own.row("colouring", name, "won back less half of lost", interval(won))
                for name in own.COLOURINGS
            ),
            own.row("drift", own.NORM, "over none", interval(drift)),
            own.row("drift", own.NOISE, "over none", interval(2)),
            *(
                own.row("smoothness", name, "change of gradient over none", interval(1))
                for name in (own.NORM, own.NOISE)
            ),
            own.row("speed", own.NORM, "times as fast as none", interval(2)),
            own.row("speed", own.NOISE, "steps over batch norm", interval(1.5)),
            own.row("speed", own.NOISE, "cost less half of gain (log)", interval(cost)),
            own.row("later layers", "all", "lost less than none", interval(withstood)),
        ]
        found = own.judge(rows, {"learning_rates": {own.NORM: 0.1}})
        assert found.verdict == (true if "held" in true else "depends")
        assert "," not in true or found.because.startswith(f"True for {true}. ")

    @pytest.mark.parametrize(
        ("less", "verdict"),
        [((0, 2, 0, 2), "held"), ((2, 2, 0, 0), "depends"), ((0, 1, 0, 0), "not held")],
    )
    def test_stale_settings(self, less, verdict):
        cases = [("steady", 3), ("steady", 4)]
        cases += [(stream, part) for stream in ("wrong labels", "shrinking") for part in (3, 4)]
        rows = [
            {
                "stream": stream,
                "part": part,
                "gain_points": interval(value),
                "less_control_points": interval(value),
            }
            for (stream, part), value in zip(cases, (0, 0, *less), strict=True)
        ]
        assert script("stale_settings").judge(rows, {}).verdict == verdict

    @pytest.mark.parametrize(
        ("lines", "times", "verdict"),
        [
            ((10, 20, 40), (1, 2, 8), "held"),
            ((10, 30, 30), (1, 1, 1), "depends"),
            ((9, 10, 9), (1, 1, 1.5), "not held"),
        ],
    )
    def test_frameworks(self, lines, times, verdict):
        rows = [
            {
                "framework": f"{name} 1.0",
                "lines": count,
                "accuracy": 0.9,
                "over_jbn": interval(ratio),
                "licence": "MIT",
                "log_over_jbn": np.log([ratio, 1.01 * ratio, 0.99 * ratio]).tolist(),
            }
            for name, count, ratio in zip(("jbn", "one", "two"), lines, times, strict=True)
        ]
        found = script("frameworks").judge(rows, {"not_measured": ["three"]})
        assert found.verdict == verdict
        assert found.because.endswith("Not measured: three")


class TestParts:
    """What single scripts measure by."""

    def test_code_is_counted_without_comments_docstrings_and_blank_lines(self, tmp_path):
        path = tmp_path / "program.py"
        path.write_text(
            '"""A\nprogram."""\n\nimport sys  # one\n\n\ndef f():\n    """Two."""\n    # three\n'
            "    return (\n        1,\n    )\n"
        )
        lines, tokens = script("frameworks").code(path)
        assert (lines, tokens) == (5, 2 + 5 + 5)

    def test_time_until_a_loss_is_interpolated_on_a_logarithmic_scale(self):
        own = script("shifts").soon(np.array([[1.0, 1.0, 0.01], [0.25, 0.9, 0.01]]), 0.5)
        start = np.log(np.log(10) / 0.5) / np.log(np.log(10) / 0.01)
        np.testing.assert_allclose(own, [1.5, 3.0, start])

    def test_a_distance_is_in_deviations(self):
        values = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        distance = script("shifts").distance
        assert distance(values, values) == pytest.approx(0.0, abs=1e-6)
        assert distance(values, values + 0.5) == pytest.approx(0.5, rel=1e-4)
        assert distance(values, 1.5 * values) == pytest.approx(0.5, rel=1e-4)

    def test_a_part_of_a_stream_repeats_its_rows_and_keeps_the_unseen_apart(self):
        own = script("stale_settings")
        x, y = np.arange(1200.0)[:, None], np.arange(1200) % 10
        part = own.draw_part(x, y, np.random.default_rng(0), rows=80)
        assert [len(y) for _, y in part] == [640, 320, 240]
        assert [len(np.unique(x)) for x, _ in part] == [80, 40, 240]
        assert len(np.unique(np.concatenate([x for x, _ in part]))) == 360
        assert set(part.train[1]) == set(range(10))

    def test_labels_of_a_part_are_wrong_but_those_to_judge_by(self):
        own = script("stale_settings")
        x, y = np.arange(1200.0)[:, None], np.arange(1200) % 10
        part = own.draw_part(x, y, np.random.default_rng(0), wrong=0.3)
        wrong = [np.mean(y[x[:, 0].astype(int)] != labels) for x, labels in part]
        assert wrong[2] == 0
        np.testing.assert_allclose(wrong[:2], 0.3, atol=0.08)


class TestRunAll:
    """A folder of made-up scripts and results."""

    @pytest.fixture
    def folder(self, tmp_path):
        body = '"""A claim."""\nimport sys\n\n\ndef measure(options):\n    pass\n\n\n'
        for name, end in (
            ("right_scale", "print('verdict: not held. 3', sys.argv[1:])"),
            ("importance_order", "print('verdict: depends. 4')"),
            ("anything", "raise SystemExit('out of luck')"),
        ):
            (tmp_path / f"{name}.py").write_text(body + end)
        (tmp_path / "common.py").write_text("raise SystemExit('is no script')")
        (tmp_path / "results").mkdir()
        return tmp_path

    @pytest.fixture
    def recorded(self, folder):
        for name, more in (
            ("right_scale", {"verdict": "depends", "because": "True for 2 | 3. By 2 points (1 to 3)"}),
            ("importance_order", {}),
            ("anything", {}),
        ):
            (folder / "results" / f"{name}.json").write_text(json.dumps(RECORDED | more))
        return folder

    def test_scripts_are_those_that_measure_in_the_order_of_the_course(self, folder):
        assert script("run_all").scripts(folder) == ["importance_order", "right_scale", "anything"]
        assert set(script("run_all").scripts(RESEARCH)) <= set(script("run_all").COURSE)

    def test_one_that_fails_is_named_and_the_others_still_run(self, folder, capsys):
        assert script("run_all").main(["--smoke"], folder) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in lines[:3]] == [
            ["importance_order", "depends"],
            ["right_scale", "not"],
            ["anything", "failed"],
        ]
        assert lines[3:] == ["out of luck", "failed: anything"]
        assert not (folder / "README.md").exists()

    def test_some_run_alone_and_a_full_run_writes_the_page(self, recorded, capsys):
        assert script("run_all").main(["--only", "right_scale", "importance_order"], recorded) == 0
        assert len(capsys.readouterr().out.splitlines()) == 3
        assert (recorded / "README.md").exists()

    def test_options_are_passed_on(self, folder, monkeypatch):
        own, passed = script("run_all"), []
        monkeypatch.setattr(own, "run_all", lambda folder, names, given: passed.append((names, given)) or [])
        own.main(["--smoke", "--data-dir", "mnist", "--only", "right_scale"], folder)
        assert passed == [(["right_scale"], ["--smoke", "--data-dir", "mnist"])]

    def test_the_page_has_a_row_and_a_section_for_each_result(self, recorded):
        own = script("run_all")
        assert own.main(["--readme"], recorded) == 0
        lines = (recorded / "README.md").read_text().splitlines()
        rows = [line for line in lines if line.startswith("| [")]
        assert [row.split("(")[0] for row in rows] == ["| [1]", "| [3]", "| [-]"]
        assert rows[1] == (
            "| [3](#right_scale) | Wide is better: by a point. | "
            r"**depends**: True for 2 \| 3 | 61 (100) |"
        )
        assert [line for line in lines if line.startswith("## ")] == [
            "## importance_order",
            "## right_scale",
            "## anything",
        ]
        assert "Of 3 claims 2 held, 1 depend, 0 did not hold." in lines
        assert "Wide is better: by a point. **Depends.** True for 2 | 3. By 2 points (1 to 3)." in lines
        assert "![Wide is better: by a point.](results/right_scale.png)" in lines
        assert lines[-1].endswith("61 (100) s on 2 cores with Python 3.11.7, jbn 0.1.0, jax 0.10.2.")

    def test_ctrl_c_ends_it_in_one_line(self, folder, capsys, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(script("run_all"), "run", interrupted)
        assert script("run_all").main([], folder) == 130
        assert capsys.readouterr().out.splitlines()[1:] == [
            "interrupted; what had ended is recorded, README.md stays as it was"
        ]

    @pytest.mark.parametrize(
        ("content", "said"), [("{", "is not a script's result"), ('{"claim": 1}', "it lacks verdict")]
    )
    def test_a_damaged_result_is_named(self, recorded, content, said):
        (recorded / "results" / "right_scale.json").write_text(content)
        with pytest.raises(SystemExit, match=rf"right_scale\.json {said}|right_scale\.json.*{said}"):
            script("run_all").main(["--readme"], recorded)

    def test_without_results_there_is_no_page(self, folder):
        with pytest.raises(SystemExit, match="no results yet"):
            script("run_all").main(["--readme"], folder)

    def test_an_unknown_script_is_refused_with_those_that_there_are(self, folder, capsys):
        with pytest.raises(SystemExit):
            script("run_all").main(["--only", "wrong_scale"], folder)
        assert "no script wrong_scale; there are importance_order, right_scale" in capsys.readouterr().err
