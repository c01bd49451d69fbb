"""Weights files of whole networks as named arrays. Nothing is ever unpickled."""

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jbn.errors import InputError

Path_ = str | os.PathLike[str]
_PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_WANTED = (
    "axis",
    "momentum",
    "epsilon",
    "center",
    "scale",
    "trainable",
    "renorm",
    "fused",
    "virtual_batch_size",
)


class Contents(NamedTuple):
    """What a file holds.

    Args:
        layers: arrays of each layer, by its name; both in the order of the file.
        ordered: whether that is the order in which the layers were made.
        arguments: of layers that the file says something about.
    """

    layers: dict[str, dict[str, np.ndarray]]
    ordered: bool
    arguments: dict[str, dict[str, Any]]


def state_dict(source: Any) -> Contents:
    """A PyTorch state dict: a mapping, or a .safetensors or .npz file of one.

    Raises:
        InputError: a pickled file, one that cannot be read, or one without arrays.
    """
    if isinstance(source, Mapping):
        return Contents(_grouped({str(name): value for name, value in source.items()}), True, {})
    path = _existing(source)
    if path.suffix == ".safetensors":
        return Contents(_grouped(_safetensors(path)), False, {})
    if path.suffix == ".npz":
        return Contents(_grouped(_npz(path)), True, {})
    if path.suffix in _PICKLED:
        raise InputError(
            f"{str(path)!r} is a pickle, which can run any code when it is read; convert it where you trust it: "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
        )
    raise InputError(f"a PyTorch state dict comes from a .safetensors or .npz file, but got {str(path)!r}")


def keras_weights(source: Any) -> Contents:
    """Weights of a Keras model: a mapping of `layer/variable`, or a .weights.h5, .keras or .h5 file.

    Raises:
        InputError: a file that cannot be read or is none of these; h5py (the extra `jbn[weights]`) is missing.
    """
    if isinstance(source, Mapping):
        named = {str(name).removesuffix(":0").replace("/", "."): value for name, value in source.items()}
        return Contents(_grouped(named), True, {})
    path = _existing(source)
    if path.suffix not in (".h5", ".hdf5", ".keras"):
        raise InputError(
            f"weights of Keras come from a .weights.h5, .keras or .h5 file, but got {str(path)!r}"
        )
    h5py = _module("h5py")
    try:
        if path.suffix == ".keras":
            return _archive(path, h5py)
        with h5py.File(path, "r") as file:
            return _legacy(file) if _is_legacy(file) else Contents(*_numbered(file), {})
    except (OSError, KeyError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read as weights of Keras: {error}") from error


def _existing(source: Any) -> Path:
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"weights are a mapping of arrays or a path, but got {type(source).__name__}")
    path = Path(source)
    if not path.is_file():
        raise InputError(f"there are no weights at {str(path)!r}; name a file")
    return path


def _module(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"this needs {name.partition('.')[0]}, which is not installed; install the extra jbn[weights]"
        ) from error


def _safetensors(path: Path) -> dict[str, Any]:
    reader = _module("safetensors.numpy")
    try:
        return dict(reader.load_file(path))
    except Exception as error:  # its own error class comes from an extension module
        raise InputError(f"{str(path)!r} cannot be read as safetensors: {error}") from error


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{str(path)!r} cannot be read as an .npz file of plain arrays: {error}") from error


def _grouped(arrays: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """By what stands before the last dot; PyTorch's own tensors become arrays."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        layer, _, own = name.rpartition(".")
        layers.setdefault(layer, {})[own] = _plain(name, value)
    if not layers:
        raise InputError("weights hold at least one array, but these are empty")
    return layers


def _plain(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no such type of its own; 32 bits hold it exactly
            value = value.float()
    array = np.asarray(value)
    if array.dtype == object:
        raise InputError(f"{name!r} must be an array of numbers, but is {type(value).__name__}")
    return array


def _numbered(file: Any) -> tuple[dict[str, dict[str, np.ndarray]], bool]:
    """Layers of a Keras 3 file, and whether their order is that of the model: it is where no model is in another.

    Groups are named by class and number in the order of the model; an attribute has the layer's own name.
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    parents = set()
    for path, name, arrays in sorted(_variables(file, ()), key=lambda entry: natural("/".join(entry[0]))):
        if name in layers:
            raise InputError(
                f"layer names must differ, but the file has {name!r} more than once; take a mapping of its arrays"
            )
        layers[name] = arrays
        parents.add(path[:-1])
    return layers, len(parents) < 2


def _variables(
    group: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, dict[str, np.ndarray]]]:
    for key, child in group.items():
        if not hasattr(child, "items") or key == "optimizer":
            continue
        if key != "vars":
            yield from _variables(child, (*path, key))
        elif len(child):
            name = child.attrs.get("name", "/".join(path))
            yield path, _text(name), {number: np.asarray(child[number]) for number in sorted(child, key=int)}


def natural(name: str) -> list[tuple[int, Any]]:
    """A key by which layer 10 comes after layer 2.

    >>> sorted(["a.10", "a.2", "a"], key=natural)
    ['a', 'a.2', 'a.10']
    """
    parts = re.split(r"(\d+)", name)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts if part]


def _is_legacy(file: Any) -> bool:
    return "layer_names" in file.attrs or "model_weights" in file


def _legacy(file: Any) -> Contents:
    """HDF5 of Keras 2 and of Keras 3's old format: names and their order in attributes."""
    root = file.get("model_weights", file)
    layers = {}
    for name in map(_text, root.attrs["layer_names"]):
        names = [_text(own) for own in root[name].attrs["weight_names"]]
        if names:
            layers[name] = {
                own.removesuffix(":0").rpartition("/")[2]: np.asarray(root[name][own]) for own in names
            }
    config = json.loads(_text(file.attrs["model_config"])) if "model_config" in file.attrs else {}
    return Contents(layers, True, _arguments(config))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _archive(path: Path, h5py: Any) -> Contents:
    import io

    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
            layers, ordered = _numbered(file)
    arguments = _arguments(config)
    order = list(_names(config))
    known = [name for name in order if name in layers]
    whole = len(known) == len(layers)
    return Contents({name: layers[name] for name in known} if whole else layers, whole or ordered, arguments)


def _configs(config: Any) -> Iterator[Mapping[str, Any]]:
    own = config.get("config", {}) if isinstance(config, Mapping) else {}
    for layer in own.get("layers", []) if isinstance(own, Mapping) else own:
        yield layer
        yield from _configs(layer)


def _names(config: Any) -> Iterator[str]:
    return (str(layer["config"]["name"]) for layer in _configs(config) if "name" in layer.get("config", {}))


def _arguments(config: Any) -> dict[str, dict[str, Any]]:
    """Arguments of every batch norm layer, those that have plain values."""
    return {
        str(layer["config"]["name"]): {key: layer["config"][key] for key in _WANTED if key in layer["config"]}
        for layer in _configs(config)
        if layer.get("class_name") == "BatchNormalization"
    }
