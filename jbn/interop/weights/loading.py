"""Arrays of a framework's batch norm layer as parameters and running statistics."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jbn.errors import InputError, did_you_mean
from jbn.interop.weights.checking import channels, check_positive, check_variance, values
from jbn.interop.weights.choosing import choose, settle
from jbn.interop.weights.counting import check_counters, count, divisor
from jbn.interop.weights.forms import Axes, Form, Role
from jbn.interop.weights.settings import Settings, Stored
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats


class Loaded(NamedTuple):
    """A layer of another framework.

    Args:
        params: `scale` and `bias`, NumPy arrays `[*channels]` in their own types; None if it has neither.
        stats: `mean`, `var` and `count`; None if it keeps none.
        settings: how it goes on.
    """

    params: BatchNormParams | None
    stats: BatchNormStats | None
    settings: Settings


def load(framework: str, arrays: Mapping[str, Any], /, **arguments: Any) -> Loaded:
    """A batch norm layer of another framework, exactly.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias` at inference, whatever stands for the variance in the
    arrays. The package's table says what each framework stores and how its statistics go on.

    Args:
        framework: "caffe", "caffe2", "cntk", "dl4j", "equinox", "flax_linen", "flax_nnx", "haiku", "keras2",
            "keras3", "lasagne", "mxnet", "paddle", "pytorch", "tensorflow", "theano" or "torch7".
        arrays: NumPy arrays (or what becomes one) under the framework's own names. Scale and bias may be missing.
        **arguments: the layer's own, by their own names; `name` is the layer's name in messages.

    Returns:
        `(params, stats, settings)` as NumPy arrays in the types they came in (at least 32 bits where a variance
        is computed): `settings.train(params, stats, x)` and `settings.infer(params, stats, x)` go on as the
        framework would.

    Raises:
        InputError: with the layer and the array: unknown or missing names, shapes that do not fit, values that are
            not finite, a variance for which `var + epsilon` is not positive, a scale factor of 0.

    >>> import numpy as np
    >>> arrays = {"mean": np.array([1.0]), "inv_std": np.array([0.5])}
    >>> params, stats, settings = load("lasagne", arrays, epsilon=1.0)
    >>> params, stats.var.tolist(), settings.momentum
    (None, [3.0], 0.9)
    >>> settings.infer(params, stats, np.array([[5.0]], "float32")).tolist()
    [[2.0]]
    """
    if not isinstance(arrays, Mapping):
        raise InputError(f"load takes a mapping of names to arrays, but got {type(arrays).__name__}")
    name = arguments.pop("name", None)
    form = choose(framework, arrays, arguments)
    label = f"{form.framework} batch norm {name!r}" if name else f"{form.framework} batch norm"
    own = settle(form, label, arguments)
    tracked = own.get("track_running_stats") is not False
    _check_names(form, label, arrays, own, tracked)
    given = values(label, form, arrays)
    try:
        settings = _settings(framework, form, str(name or ""), own, given, tracked)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    check_counters(settings)
    shaped = _shaped(settings, given)
    params = _params(settings, shaped)
    return Loaded(params, _stats(settings, shaped) if tracked else None, settings)


def _check_names(
    form: Form, label: str, arrays: Mapping[str, Any], own: Mapping[str, Any], tracked: bool
) -> None:
    for name in arrays:
        if name not in form.names:
            raise InputError(f"{label}: unknown array {name!r}; {did_you_mean(str(name), form.names)}")
    off = {role for argument, roles in form.switches if own[argument] is False for role in roles}
    for argument, switched in form.switches:
        for name, role in form.arrays:
            if role in switched and own[argument] is not None and not (own[argument] and role in off):
                _check_switch(label, argument, bool(own[argument]), name, name in arrays)
    if not tracked and (counters := [name for name in form.named("counter") if name in arrays]):
        raise InputError(
            f"{label}: it keeps no running statistics, but array {counters[0]!r} is there; leave it out"
        )
    for name in form.required if tracked else ():
        if name not in arrays:
            raise InputError(f"{label}: array {name!r} is missing; it has {_listed(arrays)}")
    there = [name for name, role in form.arrays if role in ("scale", "bias") and name in arrays]
    if not form.apart and len(there) == 1 and not any(own[name] is not None for name, _ in form.switches):
        raise InputError(
            f"{label}: it has {there[0]!r} but not the other of scale and bias, which come together; add it"
        )
    if own.get("lockGammaBeta") and there:
        raise InputError(f"{label}: lockGammaBeta=True has numbers in place of {there[0]!r}; leave it out")


def _check_switch(label: str, argument: str, on: bool, name: str, there: bool) -> None:
    if on != there:
        verb, remedy = ("missing", "add it") if on else ("there", "leave it out")
        raise InputError(
            f"{label}: {argument}={on}, but array {name!r} is {verb}; {remedy} or change {argument}"
        )


def _listed(arrays: Mapping[str, Any]) -> str:
    return ", ".join(map(str, arrays)) or "none"


def _settings(
    framework: str,
    form: Form,
    name: str,
    own: Mapping[str, Any],
    given: Mapping[str, np.ndarray],
    tracked: bool,
) -> Settings:
    fields: dict[str, Any] = {
        "momentum": _momentum(form, own),
        "ddof": form.ddof,
        "ddof_in_images": form.ddof if form.ddof_in_images is None else form.ddof_in_images,
        "averages": form.averages,
        "tracked": tracked,
        **form.adjust(own),
    }
    fields["constants"] = (*fields.get("constants", ()), *_missing(form, given, fields.get("constants", ())))
    held = {name for name, _ in fields["constants"]}
    return Settings(
        framework=framework,
        name=name,
        epsilon=own[form.epsilon[0]],
        channel_axis=_axes(form, own, given),
        form=form,
        layout=tuple(_stored(form, entry, array, held) for entry, array in given.items()),
        **fields,
    )


def _momentum(form: Form, own: Mapping[str, Any]) -> float:
    """Weight of the old value; 1 where statistics never move by themselves."""
    if form.momentum is None or own[form.momentum[0]] is None:
        return 1.0
    number = own[form.momentum[0]]
    return number if form.momentum[2] == "old" else 1 - number


def _missing(form: Form, given: Mapping[str, Any], constants: Any) -> tuple[tuple[str, float], ...]:
    """What one of scale and bias is where only the other is stored."""
    there = {role for name, role in form.arrays if name in given} | {name for name, _ in constants}
    if not there & {"scale", "bias"}:
        return ()
    return tuple((role, number) for role, number in (("scale", 1.0), ("bias", 0.0)) if role not in there)


def _axes(form: Form, own: Mapping[str, Any], given: Mapping[str, np.ndarray]) -> Axes:
    """By the largest rank among the arrays: some keep axes of length 1."""
    ranks = [array.shape for name, array in given.items() if dict(form.arrays)[name] != "counter"]
    return form.axes(own, max(ranks, key=len, default=()))


def _stored(form: Form, name: str, array: np.ndarray, held: set[str]) -> Stored:
    role: Role = dict(form.arrays)[name]
    lost = role == "kept" or role in held or role == "counter"
    return Stored(name, role, array.shape, array.dtype, array.tobytes() if lost else b"")


def _shaped(settings: Settings, given: Mapping[str, np.ndarray]) -> dict[Role, np.ndarray]:
    """By role, with one entry a channel."""
    roles = dict(settings.form.arrays)
    shaped: dict[Role, np.ndarray] = {}
    first: tuple[str, tuple[int, ...]] | None = None
    for name, array in given.items():
        if roles[name] in ("counter", "kept"):
            continue
        own = channels(settings.label, name, array, settings.channel_axis)
        if first is not None and own.shape != first[1]:
            raise InputError(
                f"{settings.label}: arrays must have one entry a channel, but {first[0]!r} has shape "
                f"{list(first[1])} and {name!r} {list(own.shape)}"
            )
        first = first or (name, own.shape)
        shaped[roles[name]] = own
    return shaped


def _params(settings: Settings, shaped: Mapping[Role, np.ndarray]) -> BatchNormParams | None:
    parts: dict[str, np.ndarray] = {role: shaped[role] for role in ("scale", "bias") if role in shaped}  # type: ignore[index]
    like = next(iter(shaped.values()), None)
    for name, number in settings.constants:
        if like is not None:
            parts[name] = np.full_like(next(iter(parts.values()), like), number)
    return BatchNormParams(_typed(parts["scale"]), _typed(parts["bias"])) if parts else None


def _stats(settings: Settings, shaped: Mapping[Role, np.ndarray]) -> BatchNormStats:
    form, by = settings.form, divisor(settings)
    mean, raw = shaped["mean"], shaped["var"]
    var_name = form.named("var")[0]
    if form.divided:
        mean = (mean.astype(np.float64) / by).astype(_wide(mean))
    check_positive(settings.label, var_name, raw, form)
    with np.errstate(over="ignore"):
        var = form.stored.load(raw.astype(np.float64) / (by if form.divided else 1), settings.epsilon)
    exact = form.stored.as_it_is and not form.divided
    var = raw if exact else var.astype(_wide(raw))
    check_variance(settings.label, var_name, var, settings)
    _check_hidden(settings, shaped, by)
    return BatchNormStats(_typed(mean), _typed(var), _typed(np.asarray(count(settings), _wide(mean))))


def _check_hidden(settings: Settings, shaped: Mapping[Role, np.ndarray], by: float) -> None:
    """An average that was kept beside what it comes from agrees with it."""
    pairs: tuple[tuple[Role, Role], ...] = (("hidden mean", "mean"), ("hidden var", "var"))
    for hidden, role in pairs:
        if hidden in shaped and not np.allclose(shaped[hidden], shaped[role] * by, rtol=1e-2, atol=1e-6):
            name, average = settings.form.named(hidden)[0], settings.form.named(role)[0]
            raise InputError(
                f"{settings.label}: array {name!r} must be {average!r} * (1 - momentum ** counter), but with "
                f"momentum {settings.momentum:g} it is not; you might need to pass the layer's own "
                f"{settings.form.momentum[0] if settings.form.momentum else 'momentum'}"
            )


def _typed(array: np.ndarray) -> Any:
    """NumPy arrays stand for JAX's: they keep 64 bits."""
    return array


def _wide(array: np.ndarray) -> np.dtype:
    """The type of what is computed from it."""
    return np.promote_types(array.dtype, np.float32)
