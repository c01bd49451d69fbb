"""More configurations for a run that has ended."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jbn import store
from jbn.errors import InputError, did_you_mean
from jbn.policies import Policy
from jbn.runs.loop import Progress
from jbn.runs.reopened import ended
from jbn.runs.result import Result
from jbn.runs.resume import setup_of
from jbn.runs.sweep import sweep
from jbn.search import Configs
from jbn.task.task import Task


def extend(
    folder: str | Path,
    task: Task,
    configs: Mapping[str, Any],
    *,
    policy: Policy | None = None,
    workers: int | None = None,
    on_segment: Callable[[Progress], bool | None] | None = None,
    keep_models: bool = False,
) -> Result:
    """Trains more configurations, as if they had been among those of a recorded run from the beginning.

    Key, epochs, seeds and folds are the run's. They are recorded in the run's folder, as its next round: whatever
    reads the folder reads all as one run, with the number of the `round` that each configuration is of.

    Args:
        folder: of a run that has ended, or of the rounds of a search.
        task: the one that it trained.
        configs: with the hyper-parameters that the run has.
        policy: for the new configurations alone.
        workers: threads on a CPU; default: one a core.
        on_segment: as for `jbn.sweep`.
        keep_models: as for `jbn.sweep`.

    Returns:
        The result of the new configurations.

    Raises:
        InputError: no run in the folder, one that has not ended, another task, other hyper-parameters, or as for
            `jbn.sweep`. Nothing is written then.

    >>> import jax, jbn, tempfile
    >>> out = tempfile.mkdtemp() + "/run"
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> first = jbn.sweep(task, {"learning_rate": [0.01, 0.1]}, epochs=1, key=jax.random.key(0), out=out)
    >>> more = jbn.extend(out, task, {"learning_rate": [0.03]})
    >>> from jbn import store
    >>> store.read(out).configurations[["config_id", "round", "learning_rate"]].to_numpy().tolist()
    [[0.0, 1.0, 0.01], [1.0, 1.0, 0.1], [2.0, 2.0, 0.03]]
    """
    runs = store.rounds(folder)
    record = store.read(runs[0] if runs else folder, alone=True)
    if not ended(runs[-1]):
        raise InputError(f"the run in {str(runs[-1])!r} has not ended: go on with it first")
    _check_names(record.hypers, configs)
    own = setup_of(runs[0], record, task, epochs=None)
    columns = configs if isinstance(configs, Configs) else Configs(configs)
    settings: dict[str, Any] = {
        name: record.settings[name] for name in ("seed", "spec", "command") if name in record.settings
    }
    return sweep(
        task,
        Configs({name: np.asarray(columns[name]) for name in record.hypers}, space=own.shown.space),
        epochs=own.epochs,
        key=own.key,
        seeds=own.each,
        folds=own.folds,
        policy=policy,
        out=Path(folder, f"round-{len(runs) + 1}"),
        workers=workers,
        on_segment=on_segment,
        settings={**settings, "round": len(runs) + 1},
        keep_models=keep_models,
    )


def _check_names(wanted: list[str], configs: Mapping[str, Any]) -> None:
    for name in configs:
        if name not in wanted:
            raise InputError(f"the run does not vary {name!r}: {did_you_mean(name, wanted)}")
    for name in wanted:
        if name not in configs:
            raise InputError(f"the run varies {name!r}: give its values too")
