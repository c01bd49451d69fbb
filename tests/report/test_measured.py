import numpy as np
import pandas as pd
import pytest

from jbn.errors import InputError
from jbn.report.measured import measured
from jbn.store import Record

NAN = float("nan")


def record(curves, *, status=None, table=None, loss=None, objective=None, **hypers):
    """A record from accuracies [configurations, segments], or [seeds, configurations, segments]."""
    curves = np.asarray(curves, float)
    curves = curves[None] if curves.ndim == 2 else curves
    n = curves.shape[1]
    seed, row, segment = (index.ravel() for index in np.indices(curves.shape))
    losses = np.zeros(curves.shape) if loss is None else np.broadcast_to(loss, curves.shape)
    return Record(
        settings={} if objective is None else {"objective": objective},
        configurations=pd.DataFrame(
            {
                "config_id": np.arange(n) + 10,
                **hypers,
                "status": pd.Series(status or ["done"] * n, dtype=object),
                "steps": 1,
                "validation_accuracy": np.full(n, NAN) if table is None else table,
                "validation_loss": np.full(n, NAN),
                "objective": np.full(n, NAN) if table is None else table,
            }
        ),
        curves=pd.DataFrame(
            {
                "config_id": row + 10,
                "seed": seed,
                "segment": segment,
                "validation_loss": losses.ravel(),
                "validation_accuracy": curves.ravel(),
            }
        ),
    )


def test_curves_are_the_mean_over_the_seeds():
    sweep = measured(record([[[0.25, 0.5], [0.5, NAN]], [[0.75, 1.0], [0.25, 0.5]]]))
    np.testing.assert_array_equal(sweep.curves, [[0.5, 0.75], [0.375, 0.5]])
    np.testing.assert_array_equal(sweep.final, [0.75, 0.5])
    assert sweep.config_id.tolist() == [10, 11]


def test_standard_errors_are_of_the_seeds_that_were_there():
    seeds = [[[0.25, 0.5], [0.5, NAN]], [[0.75, 1.0], [0.25, 0.5]], [[0.5, NAN], [0.75, NAN]]]
    expected = [[0.25 / 3**0.5, 0.25], [0.25 / 3**0.5, NAN]]  # spreads 0.25 of three, 0.25 * sqrt(2) of two
    np.testing.assert_allclose(measured(record(seeds)).standard_error, expected, rtol=1e-12)
    assert np.isnan(measured(record(seeds[0])).standard_error).all()


def test_standard_errors_of_folds_are_of_their_means():
    """Two folds of two seeds: means 0.375 and 0.75, whose deviation is 0.375 / sqrt(2)."""
    whole = record([[[0.25]], [[0.5]], [[0.625]], [[0.875]]])
    whole.settings.update(folds=2, seeds=4)
    sweep = measured(whole)
    assert sweep.over == "folds"
    np.testing.assert_allclose(sweep.standard_error, [[0.375 / 2]], rtol=1e-12)


def test_final_is_the_last_there_is_and_the_table_wins():
    sweep = measured(record([[0.5, 0.25, NAN], [0.5, 0.75, 0.5]], table=[NAN, 0.875]))
    np.testing.assert_array_equal(sweep.final, [0.25, 0.875])


def test_best_is_of_the_last_segment_not_of_all():
    assert measured(record([[1.0, 0.5], [0.25, 0.75]])).best == 1


def test_ties_by_loss_then_by_id():
    loss = np.array([[3.0], [2.0], [2.0], [1.0]])
    assert measured(record([[0.5], [0.75], [0.75], [0.5]], loss=loss)).best == 1
    assert measured(record([[0.75], [0.75], [0.75], [0.5]], loss=loss)).best == 1


def test_what_is_minimised_is_best_at_its_lowest():
    objective = {"metric": "loss", "maximize": False, "smoothing": 0.0, "over": "last"}
    sweep = measured(record([[0.5], [0.25]], loss=[[3.0], [2.0]], objective=objective))
    assert (sweep.best, sweep.objective.metric, sweep.worst_first.tolist()) == (1, "loss", [0, 1])
    np.testing.assert_array_equal(sweep.curves, [[3.0], [2.0]])
    kept = {**objective, "over": "best"}
    sweep = measured(record([[0.5], [0.25]], loss=[[3.0], [2.0]], table=[1.0, 2.0], objective=kept))
    assert (sweep.best, sweep.objective.plain) == (0, False)


@pytest.mark.parametrize(("status", "best"), [("running", 0), ("stopped", 0), ("done", 0), ("diverged", 1)])
def test_only_diverged_ones_cannot_win(status, best):
    assert measured(record([[0.75], [0.5]], status=[status, "done"])).best == best


def test_none_is_best_if_all_diverged():
    sweep = measured(record([[0.75], [0.5]], status=["diverged"] * 2))
    assert sweep.best is None
    assert sweep.diverged.tolist() == [True, True]


def test_configurations_without_a_curve_are_gaps():
    whole = record([[0.5, 0.75], [0.5, NAN], [NAN, NAN]])
    whole = Record({}, whole.configurations, whole.curves.dropna())
    np.testing.assert_array_equal(measured(whole).curves, [[0.5, 0.75], [0.5, NAN], [NAN, NAN]])


@pytest.mark.parametrize(
    ("rates", "seen"),
    [
        ([0.1, 1.0], [0.1, 1.0]),
        ([0.1, 0.1], None),
        ([0.1, NAN], None),
        ([0.1, 1.0, 0.0, NAN, -1.0], [0.1, 1.0, NAN, NAN, NAN]),
        (np.array([1, 0.5, None, "auto"], object), [1.0, 0.5, NAN, NAN]),
    ],
)
def test_learning_rates(rates, seen):
    sweep = measured(record(np.full((len(rates), 1), 0.5), learning_rate=rates))
    assert (sweep.learning_rate is None) == (seen is None)
    if seen is not None:
        np.testing.assert_array_equal(sweep.learning_rate, seen)


def test_no_learning_rate():
    assert measured(record([[0.5]], beta1=[0.9])).learning_rate is None


@pytest.mark.parametrize("curves", [np.zeros((2, 0)), np.full((2, 1), NAN)])
def test_nothing_to_draw_yet(curves):
    with pytest.raises(InputError, match=r"at least one segment with a validation accuracy.*ask again"):
        measured(record(curves))
