"""Stores of sweeps that nobody trained: curves from a formula, written as a run writes them."""

import contextlib
import datetime
import threading

import numpy as np
import pytest

import jbn
from jbn.report import server
from jbn.store import EventRow, SegmentRows, create

SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-4, 1.0),
    beta1=jbn.reverse_log_uniform(0.9, 0.999),
    epsilon=jbn.log_uniform(1e-9, 1e-5),
    layers=jbn.integers(1, 4),
    hidden_units=jbn.integers(20, 100),
    dropout=jbn.uniform(0.0, 0.5),
    activation=jbn.choice("relu", "tanh", "sigmoid"),
    batch_size=jbn.choice(32, 64, 128, 256),
)
ABOUT = {
    "task": {"model": "mlp", "data": "Data(digits)", "loss": "cross_entropy", "optimizer": "adam"},
    "objective": {"metric": "accuracy", "maximize": True, "smoothing": 0.0, "over": "last"},
    "expected": {
        "programs": 4,
        "compile_seconds": 12.5,
        "run_seconds": 25.0,
        "workers": 2,
        "peak_bytes": 8e8,
    },
    "versions": {"jbn": "0.1.0", "jax": "0.10.2"},
    "device": {"kind": "cpu", "machine": "x86_64"},
}
ENDED = {
    "seconds": 20.0,
    "run_seconds": 24.0,
    "peak_bytes": 9e8,
    "timings": {"trace": 1.0, "compile": 9.0, "programs": 12},
}


def now(later):
    """The time so many seconds later, as runs write it."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=later)
    return moment.isoformat(timespec="seconds")


def curves(configs, segments, seeds, rng):
    """Errors that fall from chance to what the learning rate allows, [segments, configurations, seeds]."""
    count = len(next(iter(configs.values())))
    rate = np.log10(configs.get("learning_rate", np.full(count, 0.01)))
    floor = 0.01 + 0.08 * (rate + 2) ** 2 + 0.02 * rng.random(count)
    floor = np.clip(floor[:, None] + 0.004 * rng.normal(size=(count, seeds)), 0.003, 0.9)
    time = np.arange(1, segments + 1)[:, None, None]
    noise = 0.002 * rng.normal(size=(segments, count, seeds))
    return np.clip(floor + (0.9 - floor) * np.exp(-time / (2 + segments / 12)) + noise, 0.0, 1.0)


def record(
    folder,
    *,
    configs=24,
    segments=6,
    seeds=1,
    folds=1,
    space=SPACE,
    diverged=0.0,
    halved=(),
    ended=True,
    written=None,
    spreads=True,
    events=(),
    **settings,
):
    """Writes a run: `diverged` is a share, `halved` are segments after which the better third goes on.

    With `ended=False` it has not ended; `written` are the segments that there are then.
    """
    rng = np.random.default_rng(0)
    if isinstance(configs, int):
        drawn = jbn.search.random(space, configs, key=0)
        configs, settings = dict(drawn), {"space": space.to_spec(), **settings}
    count = len(next(iter(configs.values())))
    error = curves(configs, segments, seeds, rng)
    lost = np.arange(count) >= round(count * (1 - diverged))
    alive, status = np.ones(count, bool), np.full(count, "running", object)
    written = segments if written is None else written
    last = np.full(count, written - 1)
    with create(
        folder,
        settings={**ABOUT, "started": now(-20), "epochs": segments, "folds": folds, **settings},
        configs=configs,
        seeds=seeds,
    ) as store:
        for segment in range(written):
            ids, seed = (
                index.ravel() for index in np.meshgrid(np.flatnonzero(alive), np.arange(seeds), indexing="ij")
            )
            own = error[segment, ids, seed]
            gone = lost[ids] & (segment == 1)
            loss = np.where(gone, np.nan, 3 * own)
            names = ("layer_1/mean", "layer_1/var", "layer_2/mean", "layer_2/var") if spreads else ()
            middle = {name: (0.1 if "mean" in name else 1.0) * np.exp(-own) for name in names}
            found = {name: np.stack([0.5 * own, own, 2 * own], axis=1) for name, own in middle.items()}
            metrics = {"accuracy": np.where(gone, np.nan, 1 - own), "loss": loss}
            steps = np.full(len(ids), 10 * segment + 10)
            rows = SegmentRows(ids, seed, steps, loss, metrics, found)
            store.write_segment(segment, rows, seconds=2.5 * (segment + 1))
            happened = [event for event in events if event.segment == segment]
            if segment == 1:
                status[lost & alive], last[lost & alive], alive = "diverged", 0, alive & ~lost
            if segment + 1 in halved:
                order = np.flatnonzero(alive)[np.argsort(error[segment, alive].mean(axis=1))]
                out = order[max(1, len(order) // 3) :]
                alive[out], status[out], last[out] = False, "stopped", segment
                happened += [
                    EventRow(segment, int(one), k, "stopped", {}) for one in out for k in range(seeds)
                ]
            store.write_events(happened)
        ids = np.arange(count)
        if ended:
            status[status == "running"] = "done" if written == segments else "stopped"
        final = 1 - error[last, ids].mean(axis=1)
        spread = (
            error[last, ids].std(axis=1, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(count, np.nan)
        )
        blank = np.where(status == "diverged", np.nan, 1.0)
        table = {"validation_accuracy": final, "validation_loss": 3 * (1 - final), "objective": final,
                 "validation_accuracy_standard_error": spread}  # fmt: skip
        if written:
            store.write_table(ids, status, 10 * last + 10, {name: blank * own for name, own in table.items()})
        if ended:
            able = np.where(status == "diverged", -1, final)
            best = int(np.argmax(able))
            chosen = {"config_id": best, "seed": 0, **{name: own[best] for name, own in configs.items()}}
            winner = chosen if able[best] >= 0 else None
            store.write_settings(
                winner=winner,
                test={"accuracy": 0.97, "loss": 0.1} if winner else {},
                segments=written,
                finished=now(1),
                **ENDED,
            )
    return folder


@pytest.fixture(scope="session")
def recorded():
    """The function that writes a run."""
    return record


@contextlib.contextmanager
def serving(folder):
    """The address at which the report of a folder is served."""
    with server._listening(0, server.Live(folder)) as own:
        thread = threading.Thread(target=own.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{own.server_port}/"
        finally:
            own.shutdown()
            thread.join()


@pytest.fixture
def served():
    """The function that serves a folder, in a `with` statement."""
    return serving
