"""Runs that nobody trained: what a sweep would have recorded, in no time."""

import numpy as np
import pytest

from jbn import search, store
from jbn.search import Space

EVERY_AXIS = Space(
    rate=search.log_uniform(1e-4, 1.0),
    beta1=search.reverse_log_uniform(0.1, 0.999),
    layers=search.integers(1, 4),
    width=search.integers(1, 256, log=True),
    drop=search.quantized(search.uniform(0.0, 0.5), 0.1),
    units=search.quantized(search.integers(16, 128), 16),
    channels=search.quantized(search.integers(16, 128, log=True), 16),
    slow=search.quantized(search.reverse_log_uniform(0.5, 0.9), 0.1),
    optimizer=search.choice("adam", "sgd", "lion"),
    momentum=search.when(search.uniform(0.0, 0.9), optimizer="sgd"),
    nesterov=search.when(search.choice(True, False), optimizer=["sgd"]),
    name=search.when(search.choice("a", "b"), nesterov=True),
    size=search.choice(8, 16, 32, ordered=True),
    mixed=search.choice(True, "half"),
    epsilon=1e-8,
    kind="small",
)
STATUS = ("done", "stopped", "diverged", "running")


@pytest.fixture
def recorded(tmp_path):
    """A function that makes the folder of a run and returns it: its settings, sizes and parts may be given."""

    def make(name="run", *, rows=12, seeds=2, segments=3, space=EVERY_AXIS, configs=None, **settings):
        configs = search.random(space, rows, key=7) if configs is None else configs
        rows = len(next(iter(configs.values())))
        status = np.array(STATUS)[np.arange(rows) % len(STATUS)]
        about = {
            "space": None if space is None else space.to_spec(),
            "objective": {"metric": "accuracy", "maximize": True, "smoothing": 0.0, "over": "last"},
            "epochs": segments,
            "started": "2024-02-03T04:05:06+00:00",
            "finished": "2024-02-03T04:06:06+00:00",
            **settings,
        }
        folder = tmp_path / name
        with store.create(folder, settings=about, configs=configs, seeds=seeds) as own:
            curves = measured(rows, seeds, segments, status)
            for segment in range(segments):
                own.write_segment(segment, rows_of(curves, segment))
            final = {name: values[:, :, -1].mean(axis=1) for name, values in carried(curves).items()}
            diverged = status == "diverged"
            table = {name: np.where(diverged, np.nan, values) for name, values in final.items()}
            metrics = {name: table[name] for name in ("validation_accuracy", "validation_loss")}
            errors = {f"{name}_standard_error": values / 10 for name, values in metrics.items() if seeds > 1}
            steps = np.nanmax(curves["steps"], axis=(1, 2), initial=0).astype(int)
            objective = {"objective": metrics["validation_accuracy"]}
            own.write_table(np.arange(rows), status, steps, metrics | errors | objective)
        return folder

    return make


def measured(rows, seeds, segments, status):
    """Curves [rows, seeds, segments]: who was stopped or diverged has two, and who diverged NaN in the last one."""
    rng = np.random.default_rng(3)
    names = ("train_loss", "validation_accuracy", "validation_loss")
    curves = {name: rng.random((rows, seeds, segments)) for name in names}
    curves["steps"] = np.broadcast_to(10.0 * np.arange(1, segments + 1), (rows, seeds, segments)).copy()
    short = np.isin(status, ("stopped", "diverged"))
    for values in curves.values():
        values[short, :, 2:] = np.nan
    for name in names:
        curves[name][status == "diverged", 0, 1:2] = np.nan
    return curves


def rows_of(curves, segment):
    own = {name: values[:, :, segment] for name, values in curves.items()}
    config_id, seed = np.nonzero(~np.isnan(own["steps"]))
    own = {name: values[config_id, seed] for name, values in own.items()}
    validation = {"accuracy": own["validation_accuracy"], "loss": own["validation_loss"]}
    return store.SegmentRows(config_id, seed, own["steps"].astype(int), own["train_loss"], validation)


def carried(curves):
    """Each number until the next, written as a loop."""
    found = {name: values.copy() for name, values in curves.items()}
    for values in found.values():
        for segment in range(1, values.shape[2]):
            gaps = np.isnan(values[:, :, segment])
            values[:, :, segment][gaps] = values[:, :, segment - 1][gaps]
    return found
