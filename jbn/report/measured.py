"""What a picture of a sweep is made of: a store's tables as arrays, one row per configuration."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.store import Record, column
from jbn.task.objectives import Objective

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """A sweep as arrays.

    Attributes:
        config_id: Int64 [configurations].
        status: Strings [configurations].
        objective: What configurations are ranked by.
        curves: The metric on the validation part [configurations, segments], the mean over the seeds; NaN where
            there is none.
        standard_error: Of these means [configurations, segments], with folds over those; NaN where there are fewer
            than two.
        final: What configurations are ranked by [configurations]; NaN where there is none.
        learning_rate: [configurations], NaN where a configuration has none above 0; None if fewer than two
            different ones were tried.
        over: What the curves are means over, "seeds" or "folds".
        best: The row of the best configuration, None if all have diverged.
    """

    config_id: npt.NDArray[np.int64]
    status: npt.NDArray[Any]
    objective: Objective
    curves: FloatArray
    standard_error: FloatArray
    final: FloatArray
    learning_rate: FloatArray | None
    best: int | None
    over: str

    @property
    def diverged(self) -> npt.NDArray[np.bool_]:
        """Which configurations have diverged, [configurations]."""
        return self.status == "diverged"

    @property
    def worst_first(self) -> npt.NDArray[np.int64]:
        """The rows in the order of `final`, the best last."""
        return np.argsort(self.objective.scores(self.final))


def measured(record: Record) -> Measured:
    """The arrays of a record.

    Raises:
        InputError: No segment with the metric has been written yet.

    >>> import tempfile
    >>> from jbn.store import SegmentRows, create, read
    >>> folder, two = tempfile.mkdtemp(), np.arange(2)
    >>> with create(folder, settings={}, configs={"learning_rate": np.array([0.1, 1.0])}, seeds=1) as store:
    ...     store.write_segment(0, SegmentRows(two, 0 * two, two, two, {"loss": two, "accuracy": two / 2}))
    >>> measured(read(folder)).best
    1
    """
    table, objective = record.configurations, record.objective
    name = column(objective.metric)
    curves = by_segment(record, name, "mean")
    if not np.isfinite(curves).any():
        raise InputError(
            f"a picture needs at least one segment with a {name.replace('_', ' ')}, and the sweep has none yet; "
            "ask again when its first segment is done"
        )
    final = final_of(record)
    return Measured(
        config_id=table["config_id"].to_numpy(np.int64),
        status=table["status"].to_numpy(object),
        objective=objective,
        curves=curves,
        standard_error=by_segment(record, name, "sem"),
        final=final["objective"].to_numpy(np.float64),
        learning_rate=_learning_rate(table),
        best=best_row(final, maximize=bool(objective.maximize)),
        over="folds" if record.settings.get("folds", 1) > 1 else "seeds",
    )


def final_of(record: Record) -> "pd.DataFrame":
    """The table of configurations with the last objective and loss that there are.

    Where the run has not entered them yet, they are the last of the curves.
    """
    table = record.configurations
    curves, loss = (
        by_segment(record, name, "mean") for name in (column(record.objective.metric), "validation_loss")
    )
    return table.assign(  # the table wins: it is what the run itself ranks by
        objective=table["objective"].fillna(_last(curves, table)),
        validation_loss=table["validation_loss"].fillna(_last(loss, table)),
    )


def by_segment(record: Record, column: str, statistic: str) -> FloatArray:
    """A column of the curves over the seeds, [configurations, segments]; NaN where there is nothing.

    Args:
        record: Of the sweep.
        column: Which one.
        statistic: "mean", or "sem", the standard error of the mean; with folds, of the folds' means.
    """
    curves, ids = record.curves, record.configurations["config_id"]
    if statistic == "sem" and (folds := record.settings.get("folds", 1)) > 1:  # over the folds' means
        fold = curves["seed"] // (record.settings["seeds"] // folds)
        means = curves.assign(fold=fold).groupby(["config_id", "segment", "fold"])
        curves = means[column].mean().reset_index()
    over_seeds = curves.groupby(["config_id", "segment"])[column].agg(statistic).unstack("segment")
    segments = range(int(curves["segment"].max()) + 1 if len(curves) else 0)
    return over_seeds.reindex(index=ids, columns=segments).to_numpy(np.float64)


def _last(curves: FloatArray, table: "pd.DataFrame") -> "pd.Series":
    import pandas as pd

    whole = pd.DataFrame(curves, index=table.index).ffill(axis=1)
    return whole.iloc[:, -1] if whole.shape[1] else pd.Series(np.nan, index=table.index)


def _learning_rate(table: "pd.DataFrame") -> FloatArray | None:
    import pandas as pd

    if "learning_rate" not in table:
        return None
    rates = pd.to_numeric(table["learning_rate"], errors="coerce").to_numpy(np.float64)
    rates = np.where(np.isfinite(rates) & (rates > 0), rates, np.nan)
    return rates if len(np.unique(rates[~np.isnan(rates)])) > 1 else None


def best_row(table: "pd.DataFrame", *, maximize: bool) -> int | None:
    """The best row of a table, ties by validation loss, then by `config_id`; None if all have diverged."""
    ranked = table["status"].isin(("running", "done", "stopped"))
    able = table[ranked & table["objective"].notna()]
    order = able.sort_values(
        ["objective", "validation_loss", "config_id"], ascending=[not maximize, True, True]
    )
    return int(order.index[0]) if len(order) else None
