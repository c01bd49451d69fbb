"""What else follows from a layer's own arguments: fields of its settings."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jbn.errors import InputError

Arguments = Mapping[str, Any]
Adjust = Callable[[Arguments], dict[str, Any]]


def frozen_if(name: str) -> Adjust:
    """Running statistics normalise in training too, and stay, where the argument is true."""
    return lambda arguments: {"frozen": bool(arguments[name])}


def of_keras(arguments: Arguments) -> dict[str, Any]:
    """What would change the recurrence is refused; a layer that is not trainable is frozen."""
    for name, instead in _ELSEWHERE.items():
        if arguments.get(name):
            raise InputError(
                f"{name}={arguments[name]!r} is another recurrence, which weights are not taken with; {instead}"
            )
    return {
        "frozen": not arguments["trainable"],
        "fixed": () if arguments["trainable"] else ("scale", "bias"),
    }


_ELSEWHERE = {
    "renorm": "load moving_mean and moving_variance without it and train with jbn.batch_norm.train_renormalized",
    "virtual_batch_size": "load without it and train with jbn.batch_norm.train_ghost",
    "adjustment": "load without it, for inference",
}


def of_keras2(arguments: Arguments) -> dict[str, Any]:
    """The fused kernel keeps the unbiased variance; it takes images of at most 32 bits."""
    plain = arguments["fused"] is False or arguments["synchronized"] or str(arguments["dtype"]) == "float64"
    return {**of_keras(arguments), **({"ddof_in_images": 0} if plain else {})}


def of_pytorch(arguments: Arguments) -> dict[str, Any]:
    """Without a momentum all batches weigh the same."""
    return {"momentum": 1.0, "cumulative": True} if arguments["momentum"] is None else {}


def of_cntk(arguments: Arguments) -> dict[str, Any]:
    """The time constants T and b, in samples: a batch of N has `momentum = exp(-N / T)`, `blend = b / (b + N)`."""
    time, blend = (_number(arguments, f"{name}_time_constant") for name in ("normalization", "blend"))
    if blend < 0:
        raise InputError(f"blend_time_constant must be at least 0, but got blend_time_constant={blend:g}")
    rule = {"per_sample": True, "first_batch": "replaces", "blend": blend}
    if time < 0:
        return {**rule, "momentum": 1.0, "cumulative": True}
    return {**rule, "momentum": math.exp(-1 / time) if time else 0.0}


def of_dl4j(*, log: bool) -> Adjust:
    """Of the generation that stores log10 deviations, or of those that store variances."""

    def adjust(arguments: Arguments) -> dict[str, Any]:
        if bool(arguments.get("useLogStd", log)) is not log:
            stored = "log10stdev" if log else "var"
            raise InputError(
                f"useLogStd={arguments['useLogStd']}, but array {stored!r} is there; leave it out"
            )
        rule = {} if arguments["minibatch"] else {"momentum": 0.0}  # then they are those of the last batch
        return {**rule, **({"constants": _locked(arguments)} if arguments["lockGammaBeta"] else {})}

    return adjust


def _locked(arguments: Arguments) -> tuple[tuple[str, float], ...]:
    """Numbers for all channels; DL4J skips both unless gamma is not 1 and beta is not 0."""
    gamma, beta = (_number(arguments, name) for name in ("gamma", "beta"))
    scale, bias = (gamma, beta) if gamma != 1 and beta != 0 else (1.0, 0.0)
    return (("scale", scale), ("bias", bias))


def of_mxnet_operator(arguments: Arguments) -> dict[str, Any]:
    """With fix_gamma the scale is 1, whatever is stored."""
    return _mxnet(arguments, fixed_scale=bool(arguments["fix_gamma"]), fixed_bias=False)


def of_mxnet_gluon(arguments: Arguments) -> dict[str, Any]:
    """Without scale it is 1, whatever is stored; without center the bias is used, but not trained."""
    return _mxnet(arguments, fixed_scale=not arguments["scale"], fixed_bias=not arguments["center"])


def _mxnet(arguments: Arguments, *, fixed_scale: bool, fixed_bias: bool) -> dict[str, Any]:
    return {
        **frozen_if("use_global_stats")(arguments),
        "constants": (("scale", 1.0),) if fixed_scale else (),
        "fixed": ("bias",) if fixed_bias else (),
    }


def of_torch7(arguments: Arguments) -> dict[str, Any]:
    """A batch of a single sample is normalised with running statistics."""
    return {"single_sample_runs": True}


def mode(name: str, fields: Mapping[str, Any]) -> Adjust:
    """Equinox's `mode`, which the arrays tell as well."""

    def adjust(arguments: Arguments) -> dict[str, Any]:
        if arguments["mode"] not in (None, name):
            raise InputError(f"these are the arrays of mode={name!r}, but got mode={arguments['mode']!r}")
        return dict(fields)

    return adjust


def _number(arguments: Arguments, name: str) -> float:
    value = arguments[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InputError(f"{name} must be a number, but got {name}={value!r}")
    return float(value)
