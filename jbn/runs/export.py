"""Tables of recorded runs as files for other tools."""

import os
from pathlib import Path

from jbn import store
from jbn.errors import InputError, did_you_mean
from jbn.runs.table import ranked

FORMATS = ("csv",)


def export_table(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, to: str = "csv") -> None:
    """Writes the table of a run: one row per configuration, best first.

    Columns: `config_id`, each hyper-parameter by its name, `status`, `validation_accuracy`, `validation_loss` (of
    the last segment), `steps`; with several seed indices also `validation_accuracy_standard_error` and
    `validation_loss_standard_error`. Numbers are written so that reading them gives the same numbers.

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
    table = ranked(run.configurations)
    hypers = [name for name in table.columns if name not in (*_FIRST, *_LAST, *store.STANDARD_ERRORS)]
    errors = store.STANDARD_ERRORS if run.settings["seeds"] > 1 else ()
    try:
        table[[*_FIRST, *hypers, *_LAST, *errors]].to_csv(path, index=False)
    except OSError as error:
        raise InputError(f"cannot write {str(Path(path))!r}: {error.strerror or error}") from error


_FIRST = ("config_id",)
_LAST = ("status", "validation_accuracy", "validation_loss", "steps")
