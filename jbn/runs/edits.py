"""What a policy's edits do to a history, and which are refused."""

from typing import Any

import numpy as np

from jbn.errors import InputError, did_you_mean
from jbn.nn.model import check_values
from jbn.policies import RUNNING, STOPPED, Edits, Event, History
from jbn.search.conditions import missing


def checked(edits: Edits, history: History) -> Edits:
    """The edits as arrays of whole numbers and of float64.

    Raises:
        InputError: a member that does not exist, a copy between members that are built differently, of one that
            does not run or to one that was stopped, a hyper-parameter that may not be set.
    """
    stop = np.asarray(edits.stop, np.int64).reshape(-1)
    copies = np.asarray(edits.copies, np.int64).reshape(-1, 2)
    count = len(history.status)
    for member in [*stop.tolist(), *copies.ravel().tolist()]:
        if not 0 <= member < count:
            raise InputError(f"an edit must name one of {count} members, counted from 0, but names {member}")
    for source, target in copies.tolist():
        _check_copy(history, source, target)
    values = {name: _numbers(history, name, own) for name, own in edits.values.items()}
    return Edits(stop, copies, values)


def edited(history: History, edits: Edits) -> History:
    """The history with the status and the hyper-parameters that members have after the edits."""
    status = history.status.copy()
    status[edits.stop] = np.where(status[edits.stop] == RUNNING, STOPPED, status[edits.stop])
    status[edits.copies[:, 1]] = RUNNING  # also one that had diverged
    configs = dict(history.configs)
    for name, own in edits.values.items():
        configs[name] = np.where(np.isnan(own), configs[name].astype(np.float64), own)
    return history._replace(status=status, configs=configs)


def events_of(edits: Edits, history: History) -> list[Event]:
    """What becomes of whom, in this order: stopped, copied, set.

    Args:
        edits: checked ones.
        history: as it was before them.
    """
    segment = len(history.steps) - 1
    going = [member for member in edits.stop.tolist() if history.running[member]]
    stopped = [Event(segment, member, "stopped") for member in going]
    copied = [Event(segment, target, "copied", source) for source, target in edits.copies.tolist()]
    changed = {name: ~np.isnan(own) for name, own in edits.values.items()}
    anything = np.logical_or.reduce([np.zeros(len(history.status), bool), *changed.values()])
    members = np.flatnonzero(anything).tolist()
    return [*stopped, *copied, *(Event(segment, m, "set", None, _values_of(edits, m)) for m in members)]


def _values_of(edits: Edits, member: int) -> dict[str, float]:
    own = {name: float(values[member]) for name, values in edits.values.items()}
    return {name: value for name, value in own.items() if not np.isnan(value)}


def _check_copy(history: History, source: int, target: int) -> None:
    if history.groups[source] != history.groups[target]:
        raise InputError(
            f"a member may copy one of its own group only, but {target} is in group {history.groups[target]} and "
            f"{source} in {history.groups[source]}: compare history.groups"
        )
    if not history.running[source]:
        raise InputError(f"a copied member must be running, but {source} is not: see history.running")
    if not (history.running[target] or history.diverged[target]):
        raise InputError(
            f"a member that copies must be running or have diverged, but {target} was stopped: see history.stopped"
        )


def _numbers(history: History, name: str, own: Any) -> np.ndarray:
    if name not in history.changeable:
        known = history.changeable or ["nothing"]
        raise InputError(f"an edit cannot set {name!r} between segments: {did_you_mean(name, known)}")
    values, members = np.asarray(own, np.float64), history.status.shape
    if values.shape != members:
        raise InputError(
            f"values of {name} must be one number a member, {list(members)}, got {list(values.shape)}"
        )
    given = ~np.isnan(values)
    if given.any():
        check_values(history.changeable[name], values[given])
        if (none := given & missing(history.configs[name])).any():
            raise InputError(
                f"{name} must stay NaN where a member has none, but member {np.flatnonzero(none)[0]} would get one"
            )
    return values
