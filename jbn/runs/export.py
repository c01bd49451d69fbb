"""Tables of recorded runs as files for other tools."""

import os
from pathlib import Path

from jbn import store
from jbn.errors import InputError, did_you_mean
from jbn.runs.table import ranked

FORMATS = ("csv",)


def export_table(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, to: str = "csv") -> None:
    """Writes the table of a run: one row per configuration, best first.

    Columns: `config_id`, each hyper-parameter by its name, `status`, the metrics on the validation part (by default
    `validation_accuracy`) and `validation_loss` after the last segment, `steps`; with several seed indices also
    `validation_loss_standard_error` and the like; and `objective` where that is more than one of these. Numbers are
    written so that reading them gives the same numbers.

    Args:
        folder: of the run.
        path: the file to write; an existing one is replaced.
        to: the format, "csv".

    Raises:
        InputError: no run in the folder, an unknown format, a file that cannot be written.
    """
    if to not in FORMATS:
        raise InputError(f"unknown format {to!r}: {did_you_mean(to, FORMATS)}")
    run = store.read(folder)
    table = ranked(run.configurations, maximize=bool(run.objective.maximize))
    metrics = [store.column(name) for name in run.measured]
    errors = [store.standard_error(name) for name in run.measured] if run.settings["seeds"] > 1 else []
    own = [] if run.objective.plain else ["objective"]
    try:
        table[["config_id", *run.hypers, "status", *metrics, "steps", *errors, *own]].to_csv(
            path, index=False
        )
    except OSError as error:
        raise InputError(f"cannot write {str(Path(path))!r}: {error.strerror or error}") from error
