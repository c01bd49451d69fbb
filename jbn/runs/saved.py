"""One network as a file of its own: neither the run nor the data are needed to use it."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jbn.errors import InputError
from jbn.nn.cnn import cnn
from jbn.nn.mlp import mlp
from jbn.nn.model import Model
from jbn.nn.normalizer import Normalizer
from jbn.runs.best import Best
from jbn.store.files import write_whole
from jbn.task import losses, metrics
from jbn.task.losses import Kind, Loss
from jbn.task.member import Problem, for_model, shapes_of
from jbn.task.optimizers import named

_FORMAT = "jbn-model-1"
_BUILT_IN: Mapping[str, Callable[[], Model]] = {"mlp": mlp, "cnn": cnn}


def save(best: Best, path: str | os.PathLike[str], *, folded: bool = False) -> None:
    """Writes a network to one file of safetensors; `Best.save` is this."""
    if folded:
        best = without_batch_norm(best)
    trees = {"params": best.params, "stats": best.stats, "normalizer": best.normalizer._asdict()}
    if best.unit is not None:
        trees["unit"] = best.unit._asdict()
    arrays = _flat(trees)
    about = {
        "format": _FORMAT,
        "model": best.problem.model.name,
        "folded": best.folded,
        "config_id": best.config_id,
        "seed": best.seed,
        "config": best.config,
        "classes": best.classes,
        "features": best.features,
        "outputs": best.problem.outputs,
        "loss": best.problem.loss.name,
        "metrics": [metric.name for metric in best.problem.metrics],
        "digest": _digest(arrays),
    }
    write_whole(path, functools.partial(_write, arrays, about))


def load(path: str | os.PathLike[str], *, model: Model | None = None) -> Best:
    """Reads a network that `Best.save` wrote.

    Args:
        path: the file.
        model: the network's functions, where they are neither `jbn.mlp` nor `jbn.cnn`.

    Returns:
        The network, with `.config`, `.params`, `.stats`, `.predict(x)`, `.evaluate(x, y)` and `.save(path)`.

    Raises:
        InputError: no such file, one that is no network of jbn, is of a newer jbn, was altered or truncated; or a
            model of one's own that was not given, or another.

    >>> import jax, jbn, tempfile
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> best = jbn.sweep(task, {"learning_rate": [0.01]}, epochs=1, key=jax.random.key(0)).best()
    >>> path = tempfile.mkdtemp() + "/digits.safetensors"
    >>> best.save(path, folded=True)
    >>> again = jbn.load(path)
    >>> again.stats, bool((again.predict(task.data.test.x) == best.predict(task.data.test.x)).all())
    ({}, True)
    """
    about, arrays = _read(path)
    own = _model(path, about["model"], model)
    config = {name: _plain(value) for name, value in about["config"].items()}
    problem = _problem(own, about)
    features = tuple(about["features"])
    trees = _trees(path, about, arrays, problem, config, features)
    unit = Normalizer(arrays["unit/mean"], arrays["unit/factor"]) if "unit/mean" in arrays else None
    return Best(
        about["config_id"],
        about["seed"],
        config,
        trees["params"],
        trees["stats"],
        normalizer=Normalizer(arrays["normalizer/mean"], arrays["normalizer/factor"]),
        problem=problem,
        unit=unit,
        classes=about["classes"],
        features=features,
        folded=about["folded"],
    )


def _write(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], stream: Any) -> None:
    from safetensors.numpy import save as as_bytes

    stream.write(as_bytes(dict(arrays), metadata={"jbn": json.dumps(about)}))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("jbn")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except OSError as error:
        raise InputError(f"there is no network at {str(path)!r} ({error.strerror or error})") from error
    except SafetensorError as error:
        raise InputError(f"{str(path)!r} is not a whole file of safetensors ({error})") from error
    if text is None:
        raise InputError(f"{str(path)!r} is not a network of jbn; name a file that `.save` wrote")
    about = json.loads(text)
    if about["format"] != _FORMAT:
        raise InputError(
            f"{str(path)!r} has format {about['format']}, this jbn reads {_FORMAT}; use a newer one"
        )
    if about["digest"] != _digest(arrays):
        raise InputError(f"{str(path)!r} was altered; copy the file again")
    return about, arrays


def _model(path: str | os.PathLike[str], name: str, given: Model | None) -> Model:
    if given is None and name not in _BUILT_IN:
        raise InputError(
            f"{str(path)!r} is of a model of your own, {name!r}: give it, jbn.load(path, model=...)"
        )
    own = _BUILT_IN[name]() if given is None else given
    if own.name != name:
        raise InputError(f"{str(path)!r} is of the model {name!r}, but {own.name!r} was given")
    return own


def _problem(model: Model, about: Mapping[str, Any]) -> Problem:
    """What the network was judged by, as far as it has names that jbn knows."""
    known = [name for name in about["metrics"] if name in metrics.METRICS]
    kind: Kind = "numbers" if about["classes"] is None else "classes"
    return Problem(
        model,
        named("adam"),
        _loss(about["loss"], about["classes"]),
        about["outputs"],
        None,
        metrics.chosen(known, kind, usual=False),
        None,
    )


def _loss(name: str, classes: int | None) -> Loss:
    if name in losses.LOSSES:
        return losses.named(name, classes)

    def unknown(outputs: Any, targets: Any) -> Any:
        raise InputError(
            f"this network's loss is a function of your own, {name!r}, which its file does not have"
        )

    return losses.loss(unknown, name=name)


def _trees(
    path: str | os.PathLike[str],
    about: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    problem: Problem,
    config: Mapping[str, Any],
    features: tuple[int, ...],
) -> dict[str, PyTree]:
    """Parameters and running statistics in the structure that the model gives them."""
    if about["folded"]:
        return {"params": _nested(arrays, "params"), "stats": {}}
    params, stats = shapes_of(problem, config, features)

    def fill(place: Any, spec: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(place, simple=True, separator="/")
        shape = arrays[name].shape if name in arrays else None
        if shape != spec.shape:
            raise InputError(
                f"{str(path)!r} has {name} of shape {shape}, but the model needs {spec.shape}; give the model it "
                f"was trained with"
            )
        return arrays[name].astype(spec.dtype, copy=False)

    found: dict[str, PyTree] = jax.tree_util.tree_map_with_path(fill, {"params": params, "stats": stats})
    return found


def _nested(arrays: Mapping[str, np.ndarray], first: str) -> dict[str, Any]:
    """Dicts within dicts from paths."""
    tree: dict[str, Any] = {}
    for name, values in arrays.items():
        start, *inner, last = name.split("/")
        if start == first:
            place = tree
            for key in inner:
                place = place.setdefault(key, {})
            place[last] = values
    return tree


def without_batch_norm(best: Best) -> Best:
    """The same network at inference, with batch norm folded into its affine maps."""
    fold = best.problem.model.fold
    if fold is None:
        raise InputError(
            f"the model {best.problem.model.name!r} cannot fold batch norm: give it a `fold`, or save it as it is"
        )
    state = jax.tree.map(jnp.asarray, (best.params, best.stats))
    params, hyper = fold(*state, hyper=for_model(best.problem, best.config))
    config = {name: hyper.get(name, value) for name, value in best.config.items()}
    return dataclasses.replace(
        best,
        params=jax.tree.map(np.asarray, params),
        stats={},
        config={**config, "batch_norm": "none"},
        folded=True,
    )


def _flat(trees: PyTree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(trees)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.array(leaf, order="C")
        for path, leaf in leaves
    }


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list) else value
