"""What a panda's folder holds: a journal of all actions, and the state after every segment."""

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jbn import store
from jbn.errors import InputError
from jbn.policies import Finding, Watched, diagnose
from jbn.runs.trainee import State, Trainee, digest
from jbn.task.metrics import part_of

if TYPE_CHECKING:
    import pandas as pd

Entry = dict[str, Any]
MAIN = "main"
_STATES = "states"
_KEPT = ("start", "train")  # actions whose state is kept


class Diary:
    """The journal of one panda with its states; `opened` and `begun` hold the folder, `reading` does not.

    Entries are dicts. All have `entry` (its number), `time`, `branch`, `action`, `note`, `segment` (how many the
    network has been trained then), `state` (the entry after which that state was kept) and `config`; those of a
    segment also `from` (the state it began with), `measured`, `findings` and `digest`.

    Args:
        folder: where.
        entries: what there is so far.
        lock: on the folder, if it is written to.
    """

    def __init__(self, folder: Path, entries: list[Entry], lock: store.Lock | None = None):
        self.folder, self.entries, self._lock = folder, entries, lock
        self._latest: tuple[int, State] | None = None

    @classmethod
    def reading(cls, folder: str | os.PathLike[str]) -> "Diary":
        """What a folder holds now; somebody else may go on writing."""
        return cls(Path(folder), store.journal.read(folder))

    @classmethod
    def opened(cls, folder: Path) -> "Diary":
        """A folder to go on with."""
        lock = store.Lock(folder)
        try:
            return cls(folder, store.journal.read(folder), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def begun(cls, folder: Path) -> "Diary":
        """A new folder."""
        store.check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, [], store.Lock(folder))

    def begin(self, state: State, config: dict[str, Any], *, note: str, **words: Any) -> None:
        """Writes the first entry."""
        entry = {**self.draft(MAIN, "start", note, {"segment": 0, "state": 0, "config": config}), **words}
        self.keep(state, 0)
        self.add({**entry, "digest": digest(state)})

    def draft(self, branch: str, action: str, note: str, head: Entry) -> Entry:
        """The next entry of a branch, as its head is."""
        return {
            "entry": len(self.entries),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "branch": branch,
            "action": action,
            "note": note,
            **{name: head[name] for name in ("segment", "state", "config")},
        }

    def add(self, entry: Entry) -> None:
        """Adds an entry; it is on the disk when this returns."""
        self.check_open()
        store.journal.append(self.folder, entry)
        self.entries.append(entry)

    def check_open(self) -> None:
        """What is closed is written to no more."""
        if self._lock is None:
            raise RuntimeError("this panda was closed: open it again with jbn.panda(task, out=...)")

    def keep(self, state: State, number: int) -> None:
        """Keeps the state after an entry."""
        store.save_weights(self._file(number), jax.tree.map(np.asarray, state.member))
        self._latest = (number, state)

    def state(self, number: int, trainee: Trainee) -> State:
        """The state after an entry.

        Raises:
            InputError: the file is missing or damaged.
        """
        if self._latest is not None and self._latest[0] == number:
            return self._latest[1]
        entry, path = self.entries[number], self._file(number)
        arrays = store.load_weights(path)
        like, tree = jax.tree_util.tree_flatten_with_path(trainee.shapes(entry["config"]))
        names = [jax.tree_util.keystr(keys, simple=True, separator="/") for keys, _ in like]
        state = None
        if set(names) == set(arrays):
            member = jax.tree.unflatten(tree, [arrays[name] for name in names])
            state = State(member, entry["config"]["optimizer"], entry["segment"])
        if state is None or digest(state) != entry["digest"]:
            raise InputError(
                f"{str(path)!r} is not the state that entry {number} of the journal tells of; roll back to another "
                f"segment, or copy the folder again"
            )
        self._latest = (number, state)
        return state

    def head(self, branch: str) -> Entry:
        """The last entry of a branch."""
        return next(entry for entry in reversed(self.entries) if entry["branch"] == branch)

    def branches(self) -> list[str]:
        """The names of all branches, in the order in which they began."""
        return list(dict.fromkeys(entry["branch"] for entry in self.entries))

    def path(self, branch: str) -> list[Entry]:
        """The segments that made the network of a branch what it is, first to last."""
        found, number = [], self.head(branch)["state"]
        while self.entries[number]["action"] == "train":
            found.append(self.entries[number])
            number = self.entries[number]["from"]
        return found[::-1]

    def at(self, branch: str, segment: int | None) -> Entry:
        """The entry after which the network of a branch had been trained so many segments."""
        past = [self.entries[0], *self.path(branch)]
        if not isinstance(segment, int) or isinstance(segment, bool) or not 0 <= segment < len(past):
            raise InputError(
                f"a segment must be one of 0 to {len(past) - 1} that branch {branch!r} went through, got {segment}"
            )
        return past[segment]

    def entry(self, number: int) -> Entry:
        """An entry whose state was kept."""
        kept = [entry["entry"] for entry in self.entries if entry["action"] in _KEPT]
        if number not in kept:
            raise InputError(
                f"an entry to go back to must be one with a state, {', '.join(map(str, kept))}, got {number}"
            )
        return self.entries[number]

    def diagnosed(self, entry: Entry) -> tuple[Finding, ...]:
        """What there is to say after a segment that is not in the journal yet."""
        before, number = [], entry["from"]
        while self.entries[number]["action"] == "train":
            before.append(self.entries[number])
            number = self.entries[number]["from"]
        return watched([*before[::-1], entry])

    def table(self) -> "pd.DataFrame":
        """All entries, one a row."""
        import pandas as pd

        names = ("entry", "time", "branch", "action", "segment", "note")
        rows = [{**{name: entry[name] for name in names}, "what": described(entry)} for entry in self.entries]
        return pd.DataFrame(rows, columns=[*names[:-1], "what", "note"])

    def close(self) -> None:
        """Lets go of the folder; a second time does nothing."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def _file(self, number: int) -> Path:
        return self.folder / _STATES / f"{number:06d}.npz"


def described(entry: Entry) -> str:
    """What an entry tells, in a few words."""
    if entry["action"] == "train":
        measured, kinds = entry["measured"], [finding["kind"] for finding in entry["findings"]]
        values = {"training loss": measured["train_loss"]}
        values |= {
            " ".join(part_of(name)).replace("_", " "): own for name, own in measured["validation"].items()
        }
        return "; ".join([", ".join(f"{name} {value:.4g}" for name, value in values.items()), *kinds])
    if entry["action"] == "set":
        return ", ".join(f"{name} = {short(value)}" for name, value in entry["changes"].items())
    if entry["action"] == "rollback":
        return f"to segment {entry['segment']} (entry {entry['state']})"
    if entry["action"] == "branch":
        return f"from {entry['of']!r} at segment {entry['segment']}"
    return ""


def short(value: Any) -> str:
    """A setting as people write it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def watched(path: list[Entry]) -> tuple[Finding, ...]:
    """What there is to say about the segments of a path."""
    if not path:
        return ()
    seen = [entry["measured"] for entry in path]
    rates = [entry["config"]["learning_rate"] for entry in path]
    since = next((place + 1 for place in reversed(range(len(rates))) if rates[place] != rates[-1]), 0)
    return diagnose(
        Watched(
            np.array([one["train_loss"] for one in seen], np.float64),
            np.array([one["validation"]["loss"] for one in seen], np.float64),
            np.array([np.median([*one["ratios"].values()]) for one in seen], np.float64),
            float(seen[0]["first_loss"]),
            since,
        )
    )


def curve_of(path: list[Entry]) -> "pd.DataFrame":
    """The segments of a path as a table."""
    import pandas as pd

    varied = (
        [name for name in path[0]["config"] if len({str(e["config"].get(name)) for e in path}) > 1]
        if path
        else []
    )
    rows = []
    for entry in path:
        seen = entry["measured"]
        row = {"segment": entry["segment"], "entry": entry["entry"], "train_loss": seen["train_loss"]}
        row |= {store.column(name): value for name, value in seen["validation"].items()}
        row |= {"learning_rate": entry["config"]["learning_rate"]}
        row |= {name: entry["config"].get(name) for name in varied}
        rows.append({**row, **{f"ratio/{name}": value for name, value in seen["ratios"].items()}})
    return pd.DataFrame(rows)
