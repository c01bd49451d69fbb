"""Which optimisers a task offers, and which of them every configuration has."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError, did_you_mean
from jbn.search import Configs
from jbn.search.conditions import Conditional, missing, only
from jbn.search.values import column
from jbn.task.hyper import check_names
from jbn.task.optimizers import OPTIMIZERS, Optimizer, named

if TYPE_CHECKING:
    from jbn.task.task import Task


class Group(NamedTuple):
    """Configurations with the same optimiser.

    Args:
        optimizer: its name; None where the configurations do not choose.
        rows: which configurations, ascending.
        expected: how many there are in a usual sample of the space, if that is known, and otherwise here.
    """

    optimizer: str | None
    rows: npt.NDArray[np.int64]
    expected: float

    def of(self, configs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Their rows alone."""
        if self.optimizer is None:
            return configs
        own = {name: values[self.rows] for name, values in configs.items()}
        return Configs(own, space=configs.space if isinstance(configs, Configs) else None)


def several(given: Any) -> bool:
    """Whether it is a list or tuple of optimisers; one of optax's, or an `Optimizer`, is a tuple too."""
    return type(given) in (list, tuple)


def offered(given: Any) -> dict[str, Optimizer]:
    """The optimisers that a space may choose among, by name, the default first.

    Args:
        given: as a task has them: a list or tuple says them all; a single one is the default, and those that have
            a name are there beside it.

    Raises:
        InputError: what is no optimiser, two of one name, or none at all.

    >>> list(offered("sgd")), list(offered(("sgd", "adam")))
    (['sgd', 'adam', 'adamw', 'lion', 'rmsprop'], ['sgd', 'adam'])
    """
    own = [named(one) for one in (given if several(given) else [given])]
    if not own:
        raise InputError('a task needs at least 1 optimizer, but got none; name one: optimizer="adam"')
    names = [one.name for one in own]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"the optimizers of a task must differ in name, but {twice[0]!r} comes twice; name your own: "
            f'jbn.optimizer(factory, name="mine")'
        )
    found = dict(zip(names, own, strict=True))
    return found if several(given) else found | {n: one for n, one in OPTIMIZERS.items() if n not in found}


def pick(optimizers: Mapping[str, Optimizer], name: Any) -> Optimizer:
    """The optimiser of that name, which must be among those offered."""
    if not isinstance(name, str):
        raise InputError(
            f"optimizer must be a Python string in a configuration, one of {', '.join(optimizers)}, but got "
            f'{type(name).__name__}; one of your own goes to the task, Task(optimizer=("adam", own)), and is '
            f"chosen by its name"
        )
    if name not in optimizers:
        if name in OPTIMIZERS:
            raise InputError(
                f"optimizer must be one of the task's, {', '.join(optimizers)}, but got {name}; add it there: "
                f"Task(optimizer=(..., {name!r}))"
            )
        raise InputError(f"unknown optimizer {name!r}: {did_you_mean(name, optimizers)}")
    return optimizers[name]


def names_of(optimizers: Iterable[Optimizer]) -> set[str]:
    """The hyper-parameters that any of them has."""
    return {entry.name for one in optimizers for entry in one.hyperparameters}


def groups(optimizers: Mapping[str, Optimizer], configs: Mapping[str, np.ndarray]) -> list[Group]:
    """The configurations by their optimiser, in the order in which these are offered.

    An optimiser that their space has, but none of them, is there too, without rows.

    Args:
        optimizers: those offered, by name.
        configs: names to arrays, one entry a configuration; those of `optimizer` are names.

    Raises:
        InputError: an optimiser that is not offered.

    >>> [(own.optimizer, own.rows.tolist()) for own in groups(
    ...     offered("adam"), {"optimizer": np.array(["sgd", "adam", "sgd"], object)})]
    [('adam', [1]), ('sgd', [0, 2])]
    """
    if "optimizer" not in configs:
        count = len(next(iter(configs.values())))
        return [Group(None, np.arange(count), float(count))]
    options, rows = _options(configs), _rows(optimizers, configs)
    drawn = bool(options) and set(configs["optimizer"]) <= set(options)
    each = len(configs["optimizer"]) / len(options) if drawn else None
    return [Group(name, own, float(len(own)) if each is None else each) for name, own in rows.items()]


def without_ignored(optimizers: Mapping[str, Optimizer], configs: Configs) -> Configs:
    """The configurations with NaN or None where a row has what its optimiser does not know.

    >>> configs = Configs({"optimizer": ["sgd", "adam"], "beta1": [0.9, 0.8]})
    >>> without_ignored(offered("adam"), configs)["beta1"]
    array([nan, 0.8])
    """
    if "optimizer" not in configs:
        return configs
    rows = _rows(optimizers, configs)
    known = {name: names_of([optimizers[name]]) for name in rows}
    columns = dict(configs)
    for name in set().union(*known.values()) & configs.keys():
        kept = [own for optimizer, own in rows.items() if name in known[optimizer]]
        columns[name] = only(configs[name], np.concatenate(kept))
    return Configs(columns, space=configs.space)


def with_defaults(task: "Task", configs: Configs) -> Configs:
    """The configurations with default values where a condition of their space switches a hyper-parameter off.

    Raises:
        InputError: a hyper-parameter that is switched off and has no default.
    """
    space: Mapping[str, Any] = configs.space or {}
    columns = dict(configs)
    for name in [name for name in configs if isinstance(space.get(name), Conditional)]:
        if (off := missing(configs[name])).any():
            columns[name] = _filled(task, configs, name, off)
    return Configs(columns, space=configs.space)


def _filled(task: "Task", configs: Configs, name: str, off: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    values = configs[name].tolist()
    for row in np.flatnonzero(off).tolist():
        own = task.with_optimizer(configs["optimizer"][row] if "optimizer" in configs else None)
        if name in own.hyperparameters:
            values[row] = own.defaults().get(name)
            if values[row] is None:
                raise InputError(
                    f"a condition may switch a hyper-parameter off where it has a default, but {name} has none; let "
                    f"it exist in every configuration"
                )
    return column(
        [int(v) if isinstance(v, float) and v.is_integer() and _whole(task, name) else v for v in values]
    )


def _whole(task: "Task", name: str) -> bool:
    entry = task.hyperparameters.get(name)
    return entry is not None and entry.whole


def check_chosen(task: "Task", configs: Mapping[str, Any]) -> None:
    """Checks configurations that choose their optimiser, each by the rules of its own; see `Task.check`.

    Args:
        task: what is trained.
        configs: names to values or arrays of them, `optimizer` among them.
    """
    columns = _table(configs)
    chosen = [(task.with_optimizer(group.optimizer), group) for group in groups(task.optimizers, columns)]
    shared = task.hyperparameters.keys() - names_of([task.problem.optimizer])
    names = _known(task.optimizers, columns, [own.problem.optimizer for own, _ in chosen], shared)
    task.check({name: columns[name] for name in names if name in shared})
    for own, group in chosen:
        its = names_of([own.problem.optimizer])
        try:
            own.check({name: columns[name][group.rows] for name in names if name in its})
        except InputError as error:
            raise InputError(f"{error} (where optimizer is {group.optimizer})") from None


def _known(
    optimizers: Mapping[str, Optimizer],
    configs: Configs,
    chosen: Sequence[Optimizer],
    shared: Collection[str],
) -> list[str]:
    """The names of the columns, but for those without a value that only others than the chosen optimisers have."""
    others = names_of(optimizers.values()) - names_of(chosen) - set(shared)
    for name in configs:
        if name in others and not missing(configs[name]).all():
            having = [one for one, own in optimizers.items() if name in names_of([own])]
            raise InputError(
                f"unknown hyper-parameter {name!r}: {', '.join(having)} {'have' if len(having) > 1 else 'has'} it, "
                f"but optimizer is always one of {', '.join(one.name for one in chosen)}; leave it out, or all NaN"
            )
    names = [name for name in configs if name not in others]
    check_names([*shared, *names_of(chosen), "optimizer"], names)
    return names


def _table(configs: Mapping[str, Any]) -> Configs:
    """Configurations as columns; a value alone is one configuration's."""
    if isinstance(configs, Configs):
        return configs
    return Configs({name: values if np.ndim(values) else [values] for name, values in configs.items()})


def _rows(
    optimizers: Mapping[str, Optimizer], configs: Mapping[str, np.ndarray]
) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of every optimiser that the configurations or their space have."""
    values = configs["optimizer"]
    chosen = [*_options(configs), *values.tolist()]
    for name in chosen:
        pick(optimizers, name)
    return {name: np.flatnonzero(values == name) for name in optimizers if name in chosen}


def _options(configs: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    """What the space of the configurations may choose; nothing if there is no space."""
    space = configs.space if isinstance(configs, Configs) else None
    return () if space is None else getattr(space.get("optimizer"), "options", ())
