"""What a trained network is judged by, by name or as a function of one's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from jbn.errors import InputError, did_you_mean
from jbn.task import losses
from jbn.task.losses import Kind


class Metric(NamedTuple):
    """A metric; hashable.

    Args:
        name: for tables; a column is called `validation_NAME`.
        function: `function(outputs, targets)` gives one number a row, whose mean counts, or one number for all.
        maximize: whether more is better; None if nobody knows.
        kinds: what the targets may be.
    """

    name: str
    function: Callable[[Array, Array], Array]
    maximize: bool | None = None
    kinds: tuple[Kind, ...] = ("classes", "numbers")

    def value(self, outputs: Array, targets: Array) -> Float[Array, ""]:
        """The metric of all rows.

        Raises:
            InputError: the function returned neither one number a row nor one for all.
        """
        value = jnp.asarray(self.function(outputs, targets))
        if value.shape not in ((), targets.shape[:1]):
            raise InputError(
                f"a metric must be one number, or one a row, [] or {[len(targets)]} for {len(targets)} rows, but "
                f"{self.name!r} returned {value.dtype}{list(value.shape)}"
            )
        return jnp.mean(value.astype(outputs.dtype))


def accuracy(outputs: Float[Array, "rows *outputs"], targets: Int[Array, " rows"]) -> Float[Array, " rows"]:
    """1 where the class is right, 0 elsewhere; it is that of the largest output, or whether a single one is above 0.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[2.0, 1.0], [2.0, 1.0]]), jnp.array([0, 1])).tolist()
    [1.0, 0.0]
    """
    return (predicted(outputs) == targets).astype(outputs.dtype)


def predicted(outputs: Float[Array, "rows *outputs"]) -> Int[Array, " rows"]:
    """The class of every row."""
    return jnp.argmax(outputs, axis=-1) if outputs.ndim > 1 else (outputs > 0).astype(jnp.int32)


def balanced_accuracy(
    outputs: Float[Array, "rows *outputs"], targets: Int[Array, " rows"]
) -> Float[Array, ""]:
    """The mean over the classes (that have rows) of the share of their rows whose class is right."""
    classes = outputs.shape[-1] if outputs.ndim > 1 else 2
    rows = jnp.zeros(classes, outputs.dtype).at[targets].add(1)
    right = jnp.zeros(classes, outputs.dtype).at[targets].add(accuracy(outputs, targets))
    return jnp.sum(right / jnp.maximum(rows, 1)) / jnp.sum(rows > 0)


def mean_absolute_error(
    outputs: Float[Array, "rows *numbers"], targets: Float[Array, "rows *numbers"]
) -> Float[Array, ""]:
    """`mean(|z - t|)`, in the unit of the data."""
    return jnp.mean(jnp.abs(outputs - targets))


def root_mean_squared_error(
    outputs: Float[Array, "rows *numbers"], targets: Float[Array, "rows *numbers"]
) -> Float[Array, ""]:
    """`sqrt(mean((z - t)^2))`, in the unit of the data."""
    return jnp.sqrt(jnp.mean((outputs - targets) ** 2))


def r2(outputs: Float[Array, "rows *numbers"], targets: Float[Array, "rows *numbers"]) -> Float[Array, ""]:
    """`1 - sum((z - t)^2) / sum((t - mean(t))^2)`, the mean over the numbers of a row: 0 is what the mean does."""
    error = jnp.sum((outputs - targets) ** 2, axis=0)
    spread = jnp.sum((targets - jnp.mean(targets, axis=0, keepdims=True)) ** 2, axis=0)
    return jnp.mean(1 - error / spread)


_NUMBERS: tuple[Kind, ...] = ("numbers",)
_CLASSES: tuple[Kind, ...] = ("classes",)
METRICS: Mapping[str, Metric] = {
    own.name: own
    for own in (
        Metric("accuracy", accuracy, True, _CLASSES),
        Metric("balanced_accuracy", balanced_accuracy, True, _CLASSES),
        Metric("mean_absolute_error", mean_absolute_error, False, _NUMBERS),
        Metric("mean_squared_error", losses.mean_squared_error, False, _NUMBERS),
        Metric("root_mean_squared_error", root_mean_squared_error, False, _NUMBERS),
        Metric("r2", r2, True, _NUMBERS),
    )
}


_TEST = "test/"  # no metric's name has a slash
_Values = TypeVar("_Values")


def on_test(name: str) -> str:
    """What a metric is called on the test part, where those of the validation part are beside it.

    >>> on_test("loss"), part_of("test/loss"), part_of("loss")
    ('test/loss', ('test', 'loss'), ('validation', 'loss'))
    """
    return _TEST + name


def part_of(name: str) -> tuple[str, str]:
    """The part that something was measured on, and the metric; see `on_test`."""
    metric = name.removeprefix(_TEST)
    return ("validation" if metric == name else "test"), metric


def of_test(measured: Mapping[str, _Values]) -> dict[str, _Values]:
    """Of what was measured, that on the test part, by the names of the metrics.

    >>> of_test({"loss": 1, "test/loss": 2})
    {'loss': 2}
    """
    parts = {part_of(name): values for name, values in measured.items()}
    return {metric: values for (part, metric), values in parts.items() if part == "test"}


SHARES = ("accuracy", "balanced_accuracy")  # from 0 to 1, and shown so


def metric(
    function: Callable[[Array, Num[Array, "rows *numbers"]], Array],
    *,
    name: str | None = None,
    maximize: bool | None = None,
) -> Metric:
    """A metric of one's own.

    Args:
        function: `function(outputs, targets)`, pure, traced into the program: one number a row, whose mean counts,
            or one number for all rows. Targets are class numbers `[rows]`, or numbers in the unit of the data,
            `[rows]` or `[rows, numbers]`; outputs are `[rows, outputs]`, or `[rows]` where there is one a row.
        name: for tables, `validation_NAME`; default: the function's.
        maximize: whether more is better; must be said where configurations are ranked by it.

    Raises:
        InputError: what is no function, a name that is taken, or none.

    >>> import jax.numpy as jnp, jbn
    >>> jbn.metric(lambda outputs, targets: jnp.max(jnp.abs(outputs - targets)), name="worst", maximize=False).name
    'worst'
    """
    if not callable(function):
        raise InputError(f"a metric is a function of outputs and targets, but got {type(function).__name__}")
    name = name or losses.name_of(function)
    if not name.isidentifier():
        raise InputError(f"a metric needs a name of letters, digits and _, but has {name!r}; pass name=")
    if name.lower().endswith("_standard_error"):
        raise InputError(
            f"a metric's name must not end in _standard_error, but {name!r} does; that is a column's"
        )
    if name.lower() in (*METRICS, "loss"):
        raise InputError(f"the name {name!r} is that of a metric of jbn; give yours another one")
    return Metric(name, function, maximize)


def chosen(
    metrics: Sequence[str | Metric | Callable[..., Array]] | None, kind: Kind, *, usual: bool
) -> tuple[Metric, ...]:
    """The metrics of a task; None: the usual one for such targets.

    Raises:
        InputError: an unknown name, a metric that is not for such targets, or two of one name.
    """
    if metrics is None:
        metrics = (("accuracy",) if kind == "classes" else ("mean_absolute_error",)) if usual else ()
    if isinstance(metrics, str | Metric) or callable(metrics):
        metrics = (metrics,)
    own = tuple(_named(one, kind) for one in metrics)
    names = [one.name.lower() for one in own]  # columns of a database do not differ by case
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"metrics must differ by name, but {name!r} comes twice; pass name= to jbn.metric"
            )
    return own


def _named(one: str | Metric | Callable[..., Array], kind: Kind) -> Metric:
    if isinstance(one, Metric):
        return one
    if callable(one):
        return metric(one)
    fitting = {name: own for name, own in METRICS.items() if kind in own.kinds}
    if one in METRICS and one not in fitting:
        raise InputError(
            f"the metric {one!r} is not for targets that are {kind}; take {' or '.join(fitting)}"
        )
    if one not in fitting:
        raise InputError(f"unknown metric {one!r}: {did_you_mean(one, fitting)}")
    return fitting[one]
