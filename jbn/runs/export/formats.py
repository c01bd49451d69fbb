"""The formats of an export: what writes each, what it needs, and where it may go."""

import contextlib
import dataclasses
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from jbn import store
from jbn.errors import InputError, did_you_mean
from jbn.runs.course import check
from jbn.runs.export import lines, scalars, studies, tables
from jbn.runs.export.arrays import write_netcdf


class Format(NamedTuple):
    """A format of an export.

    Args:
        write: `write(run, path, name)`: what is recorded, where to, and what the run is called.
        needs: libraries beyond what is always installed.
        extra: of this package, which installs them.
        replaces: whether a file that is there already is replaced; else it is refused.
    """

    write: Callable[[store.Record, Path, str], None]
    needs: tuple[str, ...] = ()
    extra: str = ""
    replaces: bool = False


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "csv": Format(tables.write_csv, replaces=True),
        "parquet": Format(tables.write_parquet, ("pyarrow",), "parquet"),
        "jsonl": Format(lines.write_jsonl),
        "optuna": Format(studies.write_study, ("optuna",), "optuna"),
        "tensorboard": Format(scalars.write_events, ("tensorboard",), "tensorboard"),
        "netcdf": Format(write_netcdf, ("xarray", "h5netcdf", "h5py"), "netcdf"),
    }
)


def export_run(
    folder: str | os.PathLike[str], path: str | os.PathLike[str], *, to: str = "csv", intact: bool = False
) -> tuple[str, ...]:
    """Writes a run for another tool; one that still runs, or was interrupted, as far as it is.

    - "csv", "parquet": the table, one row per configuration, best first; see `export_table`.
    - "jsonl": one JSON object per configuration, best first, with its curves; see `lines.write_jsonl`.
    - "optuna": a study, one trial per configuration: SQLite where the path ends in .db, .sqlite or .sqlite3, else a
      journal; see `studies.write_study`.
    - "tensorboard": a folder of scalars and hyper-parameters; see `scalars.write_events`.
    - "netcdf": all curves as `jbn.Result.curves` has them.

    Args:
        folder: of the run, or of a search in rounds.
        path: the file or folder to write. What is there already is refused; only a CSV file is replaced.
        to: the format.
        intact: leave out what of a damaged run was altered or cannot be read.

    Returns:
        What was left out, a sentence each.

    Raises:
        InputError: no run in the folder or a damaged one, an unknown format, a library that is not installed, a path
            that exists or cannot be written.
    """
    if to not in FORMATS:
        raise InputError(f"unknown format {to!r}: {did_you_mean(to, FORMATS)}")
    own, target = FORMATS[to], Path(path)
    for library in own.needs:
        _check_installed(to, library, own.extra)
    if not own.replaces:
        _check_free(target)
    run, name = store.read(folder, intact=intact), Path(folder).resolve().name
    if intact:
        run = _fitting(run)
    check(run)
    with _os_errors(target), contextlib.nullcontext(target) if own.replaces else _complete(target) as place:
        own.write(run, place, name)
    return run.damage


def _fitting(run: store.Record) -> store.Record:
    """What is left of a damaged run: no curves of configurations that are lost, and the number of seeds."""
    there = run.curves[run.curves["config_id"].isin(run.configurations["config_id"])]
    seeds = int(there["seed"].max()) + 1 if len(there) else 1
    return dataclasses.replace(
        run, curves=there.reset_index(drop=True), settings={"seeds": seeds, **run.settings}
    )


def export_table(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, to: str = "csv") -> None:
    """Writes the table of a run: one row per configuration, best first.

    Columns: `config_id`, each hyper-parameter by its name, `status`, the metrics on the validation part (by default
    `validation_accuracy`) and `validation_loss` after the last segment, `steps`; with several seed indices also
    `validation_loss_standard_error` and the like; and `objective` where that is more than one of these. Numbers are
    written so that reading them gives the same numbers.

    Args:
        folder: of the run.
        path: the file to write; an existing CSV file is replaced.
        to: the format, "csv" or "parquet"; the others of `export_run` will do too.

    Raises:
        InputError: as `export_run`.
    """
    export_run(folder, path, to=to)


def _check_installed(to: str, library: str, extra: str) -> None:
    try:
        there = getattr(importlib.import_module(library), "__file__", None)  # none: a folder of that name
    except ImportError:
        there = None
    if there is None:
        raise InputError(
            f"the format {to} needs {library}, which is not installed: install the extra jbn[{extra}]"
        )


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(f"{str(path)!r} exists already: pick another path, or remove it first")


@contextlib.contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """A path beside to write to, which gets its name when all is written: nobody sees half an export."""
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield beside / path.name
        _check_free(path)
        os.rename(beside / path.name, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
