"""The panda: one network that a person trains day by day, changing it as they watch."""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jbn import store
from jbn.errors import InputError, did_you_mean
from jbn.policies import Finding
from jbn.runs.diary import MAIN, Diary, Entry, curve_of, watched
from jbn.runs.result import Best
from jbn.runs.trainee import Seen, State, Trainee, digest
from jbn.task.data import Blocks
from jbn.task.hyper import check_names
from jbn.task.task import Task

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger("jbn")


def panda(
    task: Task,
    config: Mapping[str, Any] | None = None,
    *,
    key: PRNGKeyArray | None = None,
    out: str | os.PathLike[str],
    note: str = "",
    settings: Mapping[str, Any] | None = None,
) -> "Panda":
    """Begins to babysit one network, or goes on with it where the folder has one.

    Every action is written to a journal, and every segment keeps its state: what a person does can be undone, and a
    process that is killed loses no more than the segment in progress. The same call in another process goes on where
    this one ended.

    Args:
        task: model, data, optimiser and loss; where there is a panda already, those that it began with.
        config: hyper-parameters by name, all others have their defaults; None where there is a panda already.
        key: a JAX key, of all random streams; default: key 0.
        out: its folder.
        note: a person's own words, for the journal.
        settings: more to record, values that JSON knows.

    Returns:
        The panda, which holds its folder until it is closed or the process ends.

    Raises:
        InputError: another process has the folder; no configuration and no panda, or another configuration, key,
            model or data than the panda there began with; an unknown hyper-parameter or a value that is not allowed.

    >>> import tempfile, jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> baby = jbn.panda(task, {"learning_rate": 1e-6, "batch_size": 256}, out=tempfile.mkdtemp())
    >>> [finding.kind for finding in baby.train(epochs=3)]
    ['learning rate too low']
    >>> baby.set(learning_rate=0.01, note="wake up")
    >>> baby.train(epochs=2)
    ()
    >>> baby.rollback(to=3)
    >>> baby.segment, baby.config["learning_rate"]
    (3, 1e-06)
    >>> list(baby.log().action)
    ['start', 'train', 'train', 'train', 'set', 'train', 'train', 'rollback']
    >>> baby.close()
    """
    folder, about = Path(out), _about(task)
    there = store.journal.exists(folder)
    if not there and config is None:
        raise InputError(
            f"a panda needs a configuration to begin with, and there is none in {str(folder)!r} yet"
        )
    trainee = Trainee(task, jax.random.key(0) if key is None else key)
    full = {} if there else trainee.complete(config or {})
    with contextlib.ExitStack() as undo:
        diary = Diary.opened(folder) if there else Diary.begun(folder)
        undo.callback(diary.close)
        if there:
            _check_same(folder, diary.entries[0], about, config, key)
            trainee.key = _key(diary.entries[0]["key"])
        else:
            words = {"key": _key_words(trainee.key), "about": about, "given": dict(config or {})}
            diary.begin(trainee.start(full), full, note=note, **words, **(settings or {}))
        undo.pop_all()
    return Panda(diary, trainee, task)


class Panda:
    """One network under the eyes of a person; made by `panda`.

    Attributes:
        name: of the branch that this one follows.
    """

    def __init__(self, diary: Diary, trainee: Trainee, task: Task, name: str = MAIN):
        self._diary, self._trainee, self._task, self.name = diary, trainee, task, name

    def __repr__(self) -> str:
        return f"<panda on branch {self.name!r}, {self.segment} segments trained, in {str(self._diary.folder)!r}>"

    @property
    def segment(self) -> int:
        """How many segments the network has been trained."""
        return int(self._head["segment"])

    @property
    def last(self) -> dict[str, Any]:
        """The last entry of the journal on this branch."""
        return dict(self._head)

    @property
    def config(self) -> dict[str, Any]:
        """Its hyper-parameters now."""
        return dict(self._head["config"])

    @property
    def branches(self) -> list[str]:
        """The names of all branches, the first one first."""
        return self._diary.branches()

    def train(
        self, epochs: int = 1, *, note: str = "", on_segment: Callable[["Panda"], bool | None] | None = None
    ) -> tuple[Finding, ...]:
        """Trains for some epochs, one segment each, and says what there is to say about the learning curve.

        Args:
            epochs: how many, at least 1.
            note: for the journal.
            on_segment: called after every segment; where it returns True, no other begins.

        Returns:
            What `jbn.policies.diagnose` finds after the last segment; nothing is changed by itself.
        """
        if epochs < 1:
            raise InputError(f"epochs must be at least 1, but got {epochs}")
        self._diary.check_open()
        head = self._head
        state, config = self._diary.state(head["state"], self._trainee), head["config"]
        found: tuple[Finding, ...] = ()
        for _ in range(epochs):
            begun = time.perf_counter()
            compiles = not self._trainee.compiled_for(config)
            state, seen = self._trainee.advance(state, config)
            found = self._enter(state, seen, note, seconds=time.perf_counter() - begun, compiled=compiles)
            if on_segment is not None and on_segment(self):
                break
        return found

    def _enter(self, state: State, seen: Seen, note: str, **took: Any) -> tuple[Finding, ...]:
        """Keeps a state, then writes down how it came to be: what is in the journal is on the disk."""
        head = self._head
        entry = self._diary.draft(self.name, "train", note, head)
        entry |= {
            "segment": state.segment,
            "from": head["state"],
            "state": entry["entry"],
            "digest": digest(state),
        }
        entry |= {"measured": seen._asdict(), **took}
        found = self._diary.diagnosed(entry)
        entry["findings"] = [finding._asdict() for finding in found]
        self._diary.keep(state, entry["entry"])
        self._diary.add(entry)
        return found

    def set(self, *, note: str = "", **values: Any) -> None:
        """Changes hyper-parameters for the segments to come.

        Numbers that programs take as arguments cost nothing. What programs are built for but can change during a run
        (`batch_size`, `optimizer`, `activation`, ...) costs one compile with the next segment, which is announced;
        another optimiser begins with a state of its own, and its own hyper-parameters have their defaults.

        Raises:
            InputError: an unknown name, a value that is not allowed, or one that gives arrays their shapes: these
                stay as they are. Nothing is changed then.
        """
        if not values:
            raise InputError("nothing to set: name hyper-parameters, e.g. learning_rate=0.01")
        head = self._head
        config = self._changed(head["config"], values)
        if self._trainee.programs(config) != self._trainee.programs(head["config"]):
            known = self._trainee.task(config).hyperparameters
            built_in = [name for name in values if name == "optimizer" or known[name].kind != "traced"]
            _log.warning("%s: the next segment compiles new programs", ", ".join(built_in))
        entry = self._diary.draft(self.name, "set", note, head)
        self._diary.add({**entry, "config": config, "changes": {name: config[name] for name in values}})

    def _changed(self, config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with other values."""
        own = self._trainee.task(
            {**config, **({"optimizer": values["optimizer"]} if "optimizer" in values else {})}
        )
        check_names([*own.hyperparameters, "optimizer"], list(values))
        for name in values:
            if name != "optimizer" and own.hyperparameters[name].kind in ("structural", "padded"):
                raise InputError(
                    f"{name} gives arrays their shapes and cannot change during a run; begin another panda with "
                    f"{name}={values[name]!r}"
                )
        kept = {name: value for name, value in config.items() if name in own.hyperparameters}
        return self._trainee.complete({**kept, "optimizer": config["optimizer"], **values})

    def rollback(self, to: int | None = None, *, entry: int | None = None, note: str = "") -> None:
        """Goes back to an earlier segment: network and hyper-parameters are as they were at its end.

        Args:
            to: number of a segment of this branch's past; 0 is the network before its first step.
            entry: instead, number of a "start" or "train" entry of the journal, of whatever branch: also one that
                was rolled back over.
            note: for the journal.

        Raises:
            InputError: there is no such segment or entry.
        """
        head = self._head
        target = self._diary.entry(entry) if entry is not None else self._diary.at(self.name, to)
        words = {name: target[name] for name in ("segment", "state", "config")}
        self._diary.add({**self._diary.draft(self.name, "rollback", note, head), **words})

    def branch(self, name: str = "", *, at: int | None = None, note: str = "") -> "Panda":
        """Another future of this network, in the same folder and journal; both can go on, and are compared.

        Args:
            name: of the new branch; default: "branch-1", "branch-2", ...
            at: number of the segment where it parts from this one; default: now, with the hyper-parameters of now.
            note: for the journal.

        Raises:
            InputError: there is a branch of that name, or no such segment.
        """
        known = self._diary.branches()
        name = name or f"branch-{len(known)}"
        if name in known or not name.isprintable():
            raise InputError(
                f"a branch needs a new printable name, got {name!r}; there are {', '.join(known)}"
            )
        base = self._head if at is None else self._diary.at(self.name, at)
        words = {key: base[key] for key in ("segment", "state", "config")}
        self._diary.add({**self._diary.draft(name, "branch", note, self._head), **words, "of": self.name})
        return Panda(self._diary, self._trainee, self._task, name)

    def on(self, name: str) -> "Panda":
        """The panda on another branch.

        Raises:
            InputError: there is no such branch.
        """
        known = self._diary.branches()
        if name not in known:
            raise InputError(f"there is no branch {name!r}: {did_you_mean(name, known)}")
        return Panda(self._diary, self._trainee, self._task, name)

    def note(self, words: str) -> None:
        """Writes a person's own words into the journal."""
        self._diary.add(self._diary.draft(self.name, "note", words, self._head))

    def curve(self) -> "pd.DataFrame":
        """The learning curve of this branch, a row a segment: losses, metrics, settings that changed, ratios."""
        return curve_of(self._diary.path(self.name))

    def findings(self) -> tuple[Finding, ...]:
        """What there is to say about the learning curve now; see `jbn.policies.diagnose`."""
        return watched(self._diary.path(self.name))

    def log(self) -> "pd.DataFrame":
        """The journal of all branches, an entry a row."""
        return self._diary.table()

    def best(self) -> Best:
        """The network as it is now, as an ordinary single model: `.predict(x)`, `.params`, `.stats`."""
        head = self._head
        state, task = self._diary.state(head["state"], self._trainee), self._trainee.task(head["config"])
        normalizer, unit = task.arrays().fitted()
        return Best(
            0,
            0,
            {name: value for name, value in head["config"].items() if name != "optimizer"},
            state.member.params,
            state.member.stats,
            normalizer=normalizer,
            problem=task.problem,
            unit=unit,
            classes=task.data.classes,
            features=task.data.features,
        )

    def replay(self) -> int:
        """Does everything in the journal again, from the seed, and compares every state bit for bit.

        Returns:
            How many segments were trained again.

        Raises:
            InputError: a state differs; the message names the first entry. So it is on another machine, or with
                other versions, where sums are taken in another order.
        """
        states: dict[int, State] = {}
        again = Trainee(self._task, self._trainee.key)
        try:
            for entry in self._diary.entries:
                if entry["action"] not in ("start", "train"):
                    continue
                config = entry["config"]
                state = again.advance(states[entry["from"]], config)[0] if states else again.start(config)
                if digest(state) != entry["digest"]:
                    raise InputError(
                        f"entry {entry['entry']} of the journal, segment {entry['segment']}, comes out differently; "
                        f"was it made on another machine or with other versions?"
                    )
                states[entry["entry"]] = state
        finally:
            again.close()
        return len(states) - 1

    def close(self) -> None:
        """Lets go of the folder; a second time does nothing."""
        self._diary.close()
        self._trainee.close()

    def __enter__(self) -> "Panda":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _head(self) -> Entry:
        return self._diary.head(self.name)


def _about(task: Task) -> dict[str, Any]:
    """What a panda goes on with, or not."""
    return {
        "model": task.model.name,
        "loss": task.problem.loss.name,
        "metrics": list(task.measured),
        "steps per epoch": task.steps_per_epoch,
        "data": repr(task.data),
        "data_digest": _data_digest(task),
        "rows": task.data.rows,
        "features": list(task.data.features),
        "classes": task.data.classes,
        "normalize": task.normalize,
    }


def _data_digest(task: Task) -> str | None:
    """A number for all training rows; None where they are read in blocks."""
    if isinstance(task.data.train, Blocks):
        return None
    found = hashlib.sha256()
    for array in task.data.train:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _check_same(
    folder: Path, start: Entry, about: dict[str, Any], config: Mapping[str, Any] | None, key: Any
) -> None:
    """A panda goes on as it began."""
    began = {"normalize": True, "steps per epoch": None, **start["about"]}
    for name, now in about.items():
        if began[name] != now:
            hidden = name == "data_digest"  # long numbers that tell nobody anything
            before, after = ("", "") if hidden else (f" ({began[name]})", f" ({now})")
            raise InputError(
                f"the panda in {str(folder)!r} began with other {'training rows' if hidden else name}{before} than "
                f"there are now{after}; give it its own, or another folder"
            )
    if config is not None and dict(config) != start["given"]:
        raise InputError(
            f"the panda in {str(folder)!r} began with {start['given']}, got {dict(config)}: leave the configuration "
            f"out and change it with set(...), or take another folder"
        )
    if key is not None and _key_words(key) != start["key"]:
        raise InputError(
            f"the panda in {str(folder)!r} began with another key: leave the key out, or take another folder"
        )


def _key_words(key: PRNGKeyArray) -> dict[str, Any]:
    return {"data": np.asarray(jax.random.key_data(key)).tolist(), "kind": str(jax.random.key_impl(key))}


def _key(words: Mapping[str, Any]) -> PRNGKeyArray:
    return jax.random.wrap_key_data(jnp.array(words["data"], jnp.uint32), impl=words["kind"])
