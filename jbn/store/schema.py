"""The tables of a sweep's database, and which names a hyper-parameter's column may have."""

from collections.abc import Iterable, Mapping, Sequence

from jbn.errors import InputError
from jbn.task.metrics import part_of

FILE_NAME = "sweep.sqlite"
APPLICATION_ID = 0x006A626E  # "jbn": in the file's header, tells a sweep from any other SQLite file
SCHEMA_VERSION = 6
# Still read: 1 has no standard errors, 1 and 2 no metric but accuracy, 1 to 3 no events, 1 to 4 no seals, 1 to 5 no
# spreads.
OLDEST_VERSION = 1


def column(metric: str) -> str:
    """The name of a metric's column.

    >>> column("loss"), column("test/loss")
    ('validation_loss', 'test_loss')
    """
    return "_".join(part_of(metric))


def standard_error(metric: str) -> str:
    """The name of the column with the standard error of a metric's mean over the seeds.

    >>> standard_error("loss")
    'validation_loss_standard_error'
    """
    return f"{column(metric)}_standard_error"


def in_table(measured: Sequence[str]) -> list[str]:
    """Columns of the table of configurations that follow status and steps; all are REAL."""
    return [*map(column, measured), *map(standard_error, measured), "objective"]


def in_curves(measured: Sequence[str]) -> list[str]:
    """Columns of the curves that follow the steps; all are REAL."""
    return ["train_loss", *map(column, measured)]


def statements(hypers: Mapping[str, str], measured: Sequence[str]) -> list[str]:
    r"""The statements that make the empty tables.

    Args:
        hypers: The declared type of every hyper-parameter's column, by its name; see `check_names`.
        measured: Names of the metrics, "loss" among them.

    >>> statements({"the 'best' rate": "REAL"}, ["loss"])[3]
    'CREATE TABLE configurations(config_id INTEGER PRIMARY KEY, "the \'best\' rate" REAL, status TEXT, ...
    """
    table, curves = (
        ", ".join(f"{_quoted(name)} REAL" for name in names)
        for names in (in_table(measured), in_curves(measured))
    )
    declared = "".join(f"{_quoted(name)} {kind}, " for name, kind in hypers.items())
    return [
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION}",
        "CREATE TABLE settings(name TEXT PRIMARY KEY, value TEXT)",
        f"CREATE TABLE configurations(config_id INTEGER PRIMARY KEY, {declared}"
        f"status TEXT, steps INTEGER, {table})",
        f"CREATE TABLE curves(config_id INTEGER, seed INTEGER, segment INTEGER, steps INTEGER, {curves}, "
        "PRIMARY KEY(config_id, seed, segment)) WITHOUT ROWID",
        "CREATE TABLE events(segment INTEGER, config_id INTEGER, seed INTEGER, event TEXT, detail TEXT)",
        "CREATE TABLE segments(segment INTEGER PRIMARY KEY, seconds REAL)",
        "CREATE TABLE spreads(segment INTEGER PRIMARY KEY, names TEXT, cells BLOB)",
        "CREATE TABLE checkpoints(segment INTEGER PRIMARY KEY, file TEXT, digest TEXT, bytes INTEGER)",
        "CREATE TABLE seals(name TEXT PRIMARY KEY, checksums BLOB) WITHOUT ROWID",
    ]


def check_names(names: Iterable[str], measured: Sequence[str] = ("accuracy", "loss")) -> None:
    """Check that every name can be a column beside the fixed ones and those of the metrics.

    Raises:
        InputError: A name is empty or not printable, is that of a fixed column, or differs from another
            only by case.

    >>> check_names(["learning_rate", "Steps"])
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: the hyper-parameter 'Steps' has the name of a fixed column, 'steps'; rename it
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name or not name.isprintable():
            raise InputError(f"a hyper-parameter needs a printable name, not {name!r}; rename it")
        lower = name.lower()  # SQLite's column names ignore case
        if lower in ("config_id", "status", "steps", *map(str.lower, in_table(measured))):
            raise InputError(
                f"the hyper-parameter {name!r} has the name of a fixed column, {lower!r}; rename it"
            )
        if seen.setdefault(lower, name) != name:
            raise InputError(
                f"hyper-parameters must differ by more than case, but {seen[lower]!r} and {name!r} do not; "
                "rename one"
            )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
