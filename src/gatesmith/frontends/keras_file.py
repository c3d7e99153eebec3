"""A Keras model as plain data: its layers, what each one reads, and its weights; from a ``.keras`` file or an object.

A file is read without Keras: a zip archive with ``config.json`` and ``model.weights.h5``. Nothing in it runs, and a
weights file may not name others.
"""

# Ref: Keras 3 saving: layers are stored as layers/<snake-cased class>[_<count>]/vars/<index>, in the order of the model
# Ref: HDF5 user guide: external links, external raw data and virtual data sets name other files

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import GatesmithError, ModelUnreadable, NotInstalled, UnsupportedOperation

__all__ = ["Layer", "Model", "Reference", "model_of_file", "model_of_object"]

MAX_BYTES = 1 << 30
"""Of one member of the archive, and of all weights."""

MAX_DEPTH = 20
"""Models within models."""

Reference = tuple[str, int]
"""A layer's name, and which of its calls."""

Weights = Callable[[str], list[NDArray[np.float64]]]

Sources = Mapping[str, Any]
"""A library's own layers by their places in a file."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer; ``calls`` has what each call reads, ``inner`` is the model of a layer that is one.

    ``source`` is the library's own object, where the model came from memory.
    """

    kind: str
    name: str
    config: dict[str, Any]
    weights: list[NDArray[np.float64]]
    calls: tuple[tuple[Reference, ...], ...]
    inner: Model | None = None
    source: Any = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """Layers by name, and which of them are inputs and outputs; outputs have names of their own."""

    layers: dict[str, Layer]
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, Reference], ...]


def model_of_file(path: Path) -> Model:
    """The model of a ``.keras`` file.

    Raises
    ------
    ModelUnreadable
        When it is damaged or not what it claims to be.
    NotInstalled
        When h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise NotInstalled("h5py", "pip install 'gatesmith[keras]'") from error
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_member(archive, "config.json"))
            stored = io.BytesIO(_member(archive, "model.weights.h5"))
        with h5py.File(stored, "r") as file:
            if '"hgq' in json.dumps(config):
                return _loaded(path)
            return _model(config, lambda place: _stored(file, place), {}, "", MAX_DEPTH)
    except GatesmithError:
        raise
    except Exception as error:
        # zipfile, json and h5py each have errors of their own, and damaged data reaches all of them
        words = " ".join(str(error).split())[:200]
        raise ModelUnreadable(f"{str(path)!r} is not a valid Keras model: {type(error).__name__} {words}") from error


def _loaded(path: Path) -> Model:
    """A model with layers of hgq2, which alone knows their formats."""
    try:
        import hgq  # registers its layers
        import keras
    except ImportError as error:
        hint = f"pip install 'gatesmith[hgq]' and a backend of Keras, and name it in KERAS_BACKEND ({error})"
        raise NotInstalled("hgq2", hint) from error
    del hgq
    return model_of_object(keras.saving.load_model(path, compile=False, safe_mode=True))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > MAX_BYTES:
        raise ModelUnreadable(f"{name} has {info.file_size} bytes, {MAX_BYTES} are possible")
    with archive.open(info) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) != info.file_size:
        raise ModelUnreadable(f"{name} has {len(data)} bytes, it should have {info.file_size}")
    return data


def _stored(file: Any, place: str) -> list[NDArray[np.float64]]:
    """The weights of one layer, in their order."""
    import h5py

    group: Any = file
    for part in [*place.strip("/").split("/"), "vars"]:
        group = _own(group, part)
        if group is None:
            return []
    found = []
    for index in range(len(group)):
        data = _own(group, str(index))
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
            raise ModelUnreadable(f"weights {place}/vars/{index} are not in the file itself")
        if math.prod(data.shape) * data.dtype.itemsize > MAX_BYTES or data.dtype.kind not in "fiu":
            raise ModelUnreadable(f"weights {place}/vars/{index} have the shape {list(data.shape)} of {data.dtype}")
        found.append(np.asarray(data[()], dtype=np.float64))
    return found


def _own(group: Any, name: str) -> Any:
    """A member of a group that the file itself holds."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ModelUnreadable(f"weights {name!r} are a link to somewhere else")
    return group[name]


def model_of_object(model: Any) -> Model:
    """The model of a ``keras.Model`` in memory."""
    from keras import saving

    by_place: dict[str, Any] = {}
    _collect(model, "", by_place)

    def weights(place: str) -> list[NDArray[np.float64]]:
        variables = (
            by_place[place.strip("/")]._trainable_variables + by_place[place.strip("/")]._non_trainable_variables
        )
        return [np.asarray(_numbers(variable), dtype=np.float64) for variable in variables]

    return _model(saving.serialize_keras_object(model), weights, by_place, "", MAX_DEPTH)


def _numbers(variable: Any) -> NDArray[Any]:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable.value))


def _collect(model: Any, prefix: str, found: dict[str, Any]) -> None:
    names = _Names()
    for layer in model.layers:
        place = f"{prefix}layers/{names.next(type(layer).__name__)}"
        found[place] = layer
        if hasattr(layer, "layers"):
            _collect(layer, f"{place}/", found)


class _Names:
    """The names under which Keras stores layers: their class, and a number from the second one on."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}

    def next(self, kind: str) -> str:
        name = re.sub(r"\W+", "", kind)
        name = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()
        number = self.count[name] = self.count.get(name, -1) + 1
        return f"{name}_{number}" if number else name


def _model(data: dict[str, Any], weights: Weights, sources: Sources, prefix: str, depth: int) -> Model:
    kind, config = str(data["class_name"]), data["config"]
    if kind not in {"Sequential", "Functional", "Model"} or "layers" not in config:
        raise UnsupportedOperation(
            f"a Keras model of the class {kind} has code of its own; Sequential and functional models are read"
        )
    if not depth:
        raise ModelUnreadable(f"models within models, more than {MAX_DEPTH} deep")
    names, layers = _Names(), {}
    previous: str | None = None
    for one in config["layers"]:
        name, stored = str(one["config"]["name"]), one["class_name"]
        is_input = stored == "InputLayer"
        place = f"{prefix}layers/{names.next(stored)}" if not (is_input and kind == "Sequential") else ""
        inner = None
        if stored in {"Sequential", "Functional", "Model"}:
            inner = _model(one, weights, sources, f"{place}/", depth - 1)
        if kind == "Sequential":
            calls: tuple[tuple[Reference, ...], ...] = () if is_input else (((previous, 0),) if previous else (),)
        else:
            calls = tuple(_read(node) for node in one.get("inbound_nodes", []))
        own = weights(place) if place and inner is None else []
        source = sources.get(place)
        layers[name] = Layer(
            kind=stored, name=name, config=one["config"], weights=own, calls=calls, inner=inner, source=source
        )
        previous = name
    if kind == "Sequential":
        return _sequential(layers, config)
    return Model(
        layers=layers,
        inputs=tuple(name for name, _ in _references(config["input_layers"])),
        outputs=_outputs(config["output_layers"]),
    )


def _sequential(layers: dict[str, Layer], config: dict[str, Any]) -> Model:
    names = list(layers)
    if not names or layers[names[0]].kind != "InputLayer":
        raise UnsupportedOperation(f"model {config.get('name')!r} has no input shape; build it, then save it again")
    return Model(layers=layers, inputs=(names[0],), outputs=((names[-1], (names[-1], 0)),))


def _read(node: dict[str, Any]) -> tuple[Reference, ...]:
    """The tensors among the arguments of one call."""
    found: list[Reference] = []
    waiting: list[Any] = [node["args"]]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and one.get("class_name") == "__keras_tensor__":
            name, call, tensor = one["config"]["keras_history"]
            if tensor:
                raise UnsupportedOperation(f"output {tensor} of layer {name!r} is read, the first alone is possible")
            found.append((str(name), int(call)))
        elif isinstance(one, list | tuple):
            waiting += reversed(one)
    return tuple(found)


def _references(given: Any) -> list[Reference]:
    if isinstance(given, dict):
        return [reference for one in given.values() for reference in _references(one)]
    if given and isinstance(given[0], str):
        return [(str(given[0]), int(given[1]))]
    return [reference for one in given for reference in _references(one)]


def _outputs(given: Any) -> tuple[tuple[str, Reference], ...]:
    if isinstance(given, dict):
        return tuple((str(name), _references(one)[0]) for name, one in given.items())
    return _unique([(reference[0], reference) for reference in _references(given)])


def _unique(named: Sequence[tuple[str, Reference]]) -> tuple[tuple[str, Reference], ...]:
    taken: dict[str, int] = {}
    result = []
    for name, reference in named:
        number = taken[name] = taken.get(name, -1) + 1
        result.append((f"{name}_{number}" if number else name, reference))
    return tuple(result)
