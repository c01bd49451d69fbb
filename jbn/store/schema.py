"""The tables of a sweep's database, and which names a hyper-parameter's column may have."""

from collections.abc import Iterable, Mapping

from jbn.errors import InputError

FILE_NAME = "sweep.sqlite"
APPLICATION_ID = 0x006A626E  # "jbn": in the file's header, tells a sweep from any other SQLite file
SCHEMA_VERSION = 2
OLDEST_VERSION = 1  # that is still read: it has no standard errors
STANDARD_ERRORS = ("validation_accuracy_standard_error", "validation_loss_standard_error")
AFTER_HYPERS = ("status", "steps", "validation_accuracy", "validation_loss", *STANDARD_ERRORS)


def statements(hypers: Mapping[str, str]) -> list[str]:
    r"""The statements that make the empty tables.

    Args:
        hypers: The declared type of every hyper-parameter's column, by its name; see `check_names`.

    >>> statements({"the 'best' rate": "REAL"})[3]
    'CREATE TABLE configurations(config_id INTEGER PRIMARY KEY, "the \'best\' rate" REAL, status TEXT, ...
    """
    declared = "".join(f"{_quoted(name)} {kind}, " for name, kind in hypers.items())
    return [
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION}",
        "CREATE TABLE settings(name TEXT PRIMARY KEY, value TEXT)",
        f"CREATE TABLE configurations(config_id INTEGER PRIMARY KEY, {declared}"
        "status TEXT, steps INTEGER, validation_accuracy REAL, validation_loss REAL, "
        "validation_accuracy_standard_error REAL, validation_loss_standard_error REAL)",
        "CREATE TABLE curves(config_id INTEGER, seed INTEGER, segment INTEGER, steps INTEGER, "
        "train_loss REAL, validation_loss REAL, validation_accuracy REAL, "
        "PRIMARY KEY(config_id, seed, segment)) WITHOUT ROWID",
    ]


def check_names(names: Iterable[str]) -> None:
    """Check that every name can be a column beside the fixed ones.

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
        if lower in ("config_id", *AFTER_HYPERS):
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
