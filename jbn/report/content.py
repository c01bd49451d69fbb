"""All that a page about a sweep says, as values that JSON knows; arrays are packed."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jbn.errors import InputError
from jbn.report.axes import Axis, axes, space_of
from jbn.report.measured import best_row, by_segment, final_of
from jbn.report.reproduce import command
from jbn.report.timeline import Lineage, lineage, of_rounds, timeline
from jbn.search import Space
from jbn.store import Record, column
from jbn.task.metrics import SHARES, part_of

if TYPE_CHECKING:
    import pandas as pd

Spreads = Mapping[int, Mapping[str, np.ndarray]]


def content(
    record: Record,
    *,
    name: str,
    importance: Callable[[], "pd.DataFrame"],
    spreads: Callable[[Callable[[int], tuple[int, int]], int], Spreads],
) -> dict[str, Any]:
    """What a page says about a record.

    Args:
        record: Of the sweep.
        name: Of its folder.
        importance: What mattered, as `Result.importance`; asked only where there is a score, and may raise an
            InputError, whose words are shown then.
        spreads: The running statistics of members, as `store.read_spreads(folder, member)`, and of which round
            (from 1).

    Returns:
        By name; see `jbn/report/assets/data.js`, which reads it.
    """
    final = final_of(record)
    best = best_row(final, maximize=bool(record.objective.maximize))
    status = _status(record)
    return {
        "name": name,
        "state": _state(record),
        "about": _about(record, status),
        "objective": _objective(record),
        "metrics": _metrics(record),
        "configs": _configs(record, final, status),
        "best": best,
        "axes": [_axis(axis) for axis in axes(record) if axis.varies],
        "constants": {axis.name: _constant(axis) for axis in axes(record) if not axis.varies},
        "regions": _regions(record),
        "importance": _importance(importance, best),
        "timeline": timeline(record),
        "winner": _winner(record, best, spreads),
        "cost": _cost(record.settings),
        "command": command(record.settings)._asdict(),
    }


def packed(values: Any, dtype: str = "f4") -> dict[str, str]:
    """An array as its numbers in base64, by the name of their type; NaN stays NaN.

    >>> packed([1.0])
    {'f4': 'AACAPw=='}
    """
    return {dtype: base64.b64encode(np.asarray(values, f"<{dtype}").tobytes()).decode()}


def _state(record: Record) -> str:
    """Whether the run is "running" (or was killed), "interrupted" by a person, or "done"."""
    settings = record.settings
    runs = of_rounds(settings)
    if any("finished" not in own for own in runs):
        return "running"
    wanted = (settings.get("spec") or {}).get("rounds") or len(runs)
    return "interrupted" if len(runs) < wanted or _cut(record).any() else "done"


def _cut(record: Record) -> np.ndarray:
    """Which configurations ended because the run did, not by a policy."""
    table, events = record.configurations, record.events
    by_policy = table["config_id"].isin(events.loc[events["event"] == "stopped", "config_id"])
    return ((table["status"] == "stopped") & ~by_policy).to_numpy()


def _status(record: Record) -> list[str]:
    return np.where(_cut(record), "interrupted", record.configurations["status"].to_numpy(str)).tolist()


def _about(record: Record, status: Sequence[str]) -> dict[str, Any]:
    settings = record.settings
    runs = of_rounds(settings)
    task = settings.get("task", {})
    return {
        "counts": {word: status.count(word) for word in dict.fromkeys(sorted(status))},
        "epochs": settings.get("epochs"),
        "seeds": _seeds(settings),
        "folds": settings.get("folds", 1),
        "rounds": settings.get("rounds", 1),
        "policy": (settings.get("spec") or {}).get("policy"),
        "data": _data(task),
        "model": task.get("model"),
        "loss": task.get("loss"),
        "optimizer": task.get("optimizer"),
        "started": runs[0].get("started"),
        "finished": runs[-1].get("finished"),
        "versions": settings.get("versions", {}),
        "device": settings.get("device", {}),
    }


def _data(task: Mapping[str, Any]) -> str | None:
    """What it was trained on, and whether as it is."""
    data = task.get("data")
    return data if task.get("normalize", True) else f"{data}, not normalised"


def _seeds(settings: Mapping[str, Any]) -> int:
    """Seed indices of one fold."""
    return int(settings.get("seeds", 1)) // int(settings.get("folds", 1))


def _objective(record: Record) -> dict[str, Any]:
    own = record.objective
    words = "" if own.plain else " (smoothed, or the best of all epochs)"
    label = f"validation {own.metric.replace('_', ' ')}{words}"
    return {"metric": column(own.metric), "maximize": bool(own.maximize), "label": label, "plain": own.plain}


def _metrics(record: Record) -> list[dict[str, Any]]:
    """The curves: means over seeds, or over folds of these; and standard errors where there are several."""
    first = record.objective.metric
    names = [first, *(name for name in record.measured if name != first)]
    parts = [part_of(name) for name in names]
    found = [("_".join(own), " ".join(own).replace("_", " "), own[1] in SHARES) for own in parts]
    found.append(("train_loss", "training loss", False))
    several = record.settings.get("seeds", 1) > 1
    return [
        {
            "name": name,
            "label": label,
            "share": share,
            "mean": packed(by_segment(record, name, "mean")),
            "error": packed(by_segment(record, name, "sem")) if several else None,
        }
        for name, label, share in found
    ]


def _configs(record: Record, final: "pd.DataFrame", status: Sequence[str]) -> dict[str, Any]:
    """The table; the objective of what diverged is NaN."""
    table = record.configurations
    lost = (table["status"] == "diverged").to_numpy()
    errors = f"{column(record.objective.metric)}_standard_error"
    several = errors in table and record.settings.get("seeds", 1) > 1
    return {
        "id": table["config_id"].tolist(),
        "round": table["round"].tolist() if "round" in table else None,
        "status": status,
        "steps": table["steps"].tolist(),
        "final": packed(np.where(lost, np.nan, final["objective"].to_numpy(float)), "f8"),
        "loss": packed(np.where(lost, np.nan, final["validation_loss"].to_numpy(float)), "f8"),
        "error": packed(table[errors].to_numpy(float), "f8") if several else None,
    }


def _axis(axis: Axis) -> dict[str, Any]:
    return {**axis._asdict(), "options": list(axis.options), "values": packed(axis.values, "f8")}


def _constant(axis: Axis) -> str:
    known = axis.values[~np.isnan(axis.values)]
    if not len(known):
        return "none"
    return axis.options[int(known[0])] if axis.kind == "choice" else f"{known[0]:.6g}"


def _regions(record: Record) -> list[dict[str, Any]]:
    """Of a search in rounds: what each one searched, for every hyper-parameter that was narrowed."""
    specs = [spec for spec in record.settings.get("regions", ()) if spec is not None]
    if len(specs) < 2:
        return []
    spaces = [Space.from_spec(spec) for spec in specs]
    known, whole = {axis.name: axis for axis in axes(record)}, space_of(record)
    moved = [name for name in whole if any(space.get(name) != whole[name] for space in spaces)]
    return [
        {"name": name, "ends": [_ends(known[name], space.get(name)) for space in spaces]}
        for name in moved
        if name in known
    ]


def _ends(axis: Axis, own: Any) -> list[float] | None:
    """The least and the greatest value, in those of the axis; None where there is none."""
    if own is None:
        return None
    options = getattr(own, "options", None)
    if options is not None and axis.kind == "choice":
        places = [place for place, word in enumerate(axis.options) if word in set(map(_word, options))]
        return [float(min(places)), float(max(places))] if places else None
    return [float(value) for value in own.from_unit([0.0, np.nextafter(1.0, 0.0)])]


def _word(option: Any) -> str:
    return option if isinstance(option, str) else {True: "true", False: "false"}.get(option, str(option))


def _importance(found: Callable[[], "pd.DataFrame"], best: int | None) -> dict[str, Any]:
    if best is None:
        return {"refused": "importance needs configurations with a score"}
    try:
        table = found()
    except InputError as error:
        return {"refused": str(error)}
    columns = {name: [_number(value) for value in table[name]] for name in ("share", "low", "high")}
    return {"names": [str(name) for name in table.index], **columns}


def _winner(record: Record, best: int | None, spreads: Callable[..., Spreads]) -> dict[str, Any] | None:
    """The best configuration: its values, its way, and its running statistics over time."""
    if best is None:
        return None
    row = record.configurations.iloc[best]
    chosen = _chosen(record.settings, row)
    seed = int(chosen.get("seed", 0))
    first, number = _round(record, row)
    way = lineage(record, int(row["config_id"]), seed)
    return {
        "config_id": int(row["config_id"]),
        "seed": seed,
        "chosen": bool(chosen),
        "config": {
            name: _plain(value) for name, value in chosen.items() if name not in ("config_id", "seed")
        },
        "test": {name: _number(value) for name, value in _test(record.settings, number).items()},
        "changes": [_change(change) for change in way.changes],
        "statistics": _statistics(spreads(_local(way, first), number)),
    }


def _round(record: Record, row: "pd.Series") -> tuple[int, int]:
    """The first `config_id` of the round that a configuration is of, and the round's number from 1."""
    table = record.configurations
    if "round" not in table:
        return 0, 1
    return int(table.loc[table["round"] == row["round"], "config_id"].min()), int(row["round"])


def _local(way: Lineage, first: int) -> Callable[[int], tuple[int, int]]:
    """The same members, numbered as in their round."""

    def member(segment: int) -> tuple[int, int]:
        config_id, seed = way.member(segment)
        return config_id - first, seed

    return member


def _of_round(settings: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    return of_rounds(settings)[number - 1]


def _chosen(settings: Mapping[str, Any], row: "pd.Series") -> Mapping[str, Any]:
    """The winner as the run has it, once it has ended; else nothing."""
    number = int(row.get("round", 1))
    return _of_round(settings, number).get("winner") or {}


def _test(settings: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    return _of_round(settings, number).get("test") or {}


def _change(change: Any) -> dict[str, Any]:
    return {**change._asdict(), "values": {name: _plain(value) for name, value in change.values.items()}}


def _statistics(found: Spreads) -> list[dict[str, Any]]:
    """By layer and statistic: after which segments, and the lowest, mean and highest channel then."""
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    series = []
    for name in names:
        layer, _, statistic = name.rpartition("/")
        own = {segment: values[name] for segment, values in sorted(found.items()) if name in values}
        low, mean, high = np.array(list(own.values()), float).T
        series.append(
            {
                "layer": layer,
                "statistic": statistic,
                "segment": [segment + 1 for segment in own],
                **{key: [_number(value) for value in values] for key, values in
                   (("low", low), ("mean", mean), ("high", high))},
            }
        )  # fmt: skip
    return series


def _cost(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was planned and what happened, all rounds together; None where it is not known."""
    runs = of_rounds(settings)
    planned = [own.get("expected") or {} for own in runs]
    whole = [
        {} if own.get("resumed") else own for own in runs
    ]  # one that was resumed knows its last process alone
    timings = [own.get("timings") or {} for own in whole]
    compiling = [_sum([own.get("trace"), own.get("compile")]) for own in timings]
    rows = [
        (
            "programs",
            "",
            [own.get("programs") for own in planned[:1]],
            [own.get("programs") for own in timings],
        ),
        ("tracing and compiling", "s", [own.get("compile_seconds") for own in planned[:1]], compiling),
        (
            "training, all workers together",
            "s",
            [own.get("run_seconds") for own in planned],
            [own.get("run_seconds") for own in whole],
        ),
        ("whole run", "s", [None], [own.get("seconds") for own in runs]),
    ]
    found = [
        {"name": name, "unit": unit, "planned": _sum(before), "happened": _sum(after)}
        for name, unit, before, after in rows
    ]
    peaks = {
        "planned": [own.get("peak_bytes") for own in planned],
        "happened": [own.get("peak_bytes") for own in runs],
    }
    highest = {
        name: max((value / 1e9 for value in values if value), default=None) for name, values in peaks.items()
    }
    return [*found, {"name": "peak memory", "unit": "GB", **highest}]


def _sum(values: Sequence[Any]) -> float | None:
    return None if not values or any(value is None for value in values) else float(sum(values))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | np.number) and math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """A value as people write it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
