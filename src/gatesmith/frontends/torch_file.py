"""``.pt2`` files as a program of plain values, read without PyTorch: nothing in them is unpickled.

The archive holds the graph as JSON and each storage of weights as its raw bytes. Sample inputs and objects of other
kinds are pickles; they stay where they are, and a tensor that is one is refused.
"""
# Ref: PyTorch torch/_export/serde/schema.py (schema 8): ExportedProgram, Argument, TensorMeta, ScalarType, PayloadMeta
# Ref: PyTorch torch/export/pt2_archive: data/weights, data/constants, models/*.json, archive_format, archive_version

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.reading import reading, words

__all__ = ["Described", "Program", "Reference", "Step", "is_old_archive", "is_program", "load"]

SCHEMA = 8
MAX_UNPACKED_BYTES = 1 << 30
FRAMEWORK = "PyTorch"

DTYPES: dict[int, str] = {
    **dict(enumerate(("u1", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"), start=1)),
    12: "?",
    28: "<u2",
    34: "<u4",
    35: "<u8",
}
BFLOAT16 = 13


@dataclass(frozen=True, slots=True)
class Reference:
    """A value by its name."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """What the program says of a tensor; a free size is None, a dtype that numpy has not is None too."""

    dtype: np.dtype[Any] | None
    sizes: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One operator at work; ``arguments`` holds those that were given, ``outputs`` the names of what comes out."""

    name: str
    operator: str
    arguments: dict[str, Any]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A model as PyTorch exports it."""

    inputs: tuple[str, ...]
    constants: dict[str, NDArray[Any]]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, str], ...]  # the client's name and the value's
    described: dict[str, Described]


def is_program(names: list[str]) -> bool:
    """Whether an archive of these members holds an exported program."""
    return any(name.endswith("archive_format") for name in names) and bool(_models(names))


def is_old_archive(names: list[str]) -> bool:
    """Whether it is what ``torch.save``, ``torch.jit.save``, or ``torch.export.save`` before PyTorch 2.8 wrote."""
    old = ("data.pkl", "serialized_exported_program.json")
    return any(name.rpartition("/")[2] in old for name in names)


def load(file: IO[bytes], label: str) -> Program:
    """Read an archive.

    Raises
    ------
    ModelUnreadable
        When it is damaged, or holds weights as a pickle.
    """
    with _zip_errors(label), zipfile.ZipFile(file) as archive, reading(FRAMEWORK, label):
        size = sum(member.file_size for member in archive.infolist())
        if size > MAX_UNPACKED_BYTES:
            raise ModelUnreadable(f"{label} unpacks to {size} bytes, {MAX_UNPACKED_BYTES} are possible")
        return _Archive(archive, label).program()


@contextmanager
def _zip_errors(label: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise ModelUnreadable(f"{label} is not a whole {FRAMEWORK} model: {words(error)}") from error


def _models(names: list[str]) -> list[str]:
    return [name for name in names if "models/" in name and name.endswith(".json")]


class _Archive:
    """The members of one file."""

    def __init__(self, archive: zipfile.ZipFile, label: str) -> None:
        self.archive = archive
        self.label = label
        models = _models(archive.namelist())
        if len(models) != 1:
            raise ModelUnreadable(f"{label} holds {len(models)} models, one is needed")
        self.root, _, found = models[0].rpartition("models/")
        self.model = found.removesuffix(".json")
        self.whole = self._json(models[0])

    def program(self) -> Program:
        version = self.whole["schema_version"]["major"]
        if version != SCHEMA:
            raise ModelUnreadable(
                f"{self.label} has the schema {version}, {SCHEMA} is read; save it again with PyTorch 2.8 or newer"
            )
        if self._text("byteorder", "little").strip() != "little":
            raise ModelUnreadable(f"{self.label} was saved on a machine of another byte order")
        module = self.whole["graph_module"]
        graph, signature = module["graph"], module["signature"]
        inputs, places = _inputs(signature["input_specs"])
        values = self._tensors("weights") | self._tensors("constants")
        return Program(
            inputs=tuple(inputs),
            constants={name: values[place] for name, place in places.items() if place in values},
            steps=tuple(_step(node) for node in graph["nodes"]),
            outputs=tuple(_outputs(signature["output_specs"], _output_names(module))),
            described={name: _described(meta) for name, meta in graph["tensor_values"].items()},
        )

    def _json(self, name: str) -> Any:
        return json.loads(self.archive.read(name))

    def _text(self, name: str, default: str) -> str:
        whole = self.root + name
        return self.archive.read(whole).decode() if whole in self.archive.namelist() else default

    def _tensors(self, kind: str) -> dict[str, NDArray[Any]]:
        folder = f"{self.root}data/{kind}/"
        config = f"{folder}{self.model}_{kind}_config.json"
        if config not in self.archive.namelist():
            return {}
        found: dict[str, NDArray[Any]] = {}
        raw: dict[str, bytes] = {}
        for name, payload in self._json(config)["config"].items():
            path = payload["path_name"]
            if payload["use_pickle"] or payload["tensor_meta"] is None:
                raise ModelUnreadable(
                    f"{self.label} holds {name!r} as a pickle, and reading one runs the code in it; save the model "
                    f"with plain tensors only"
                )
            if path not in raw:
                raw[path] = self.archive.read(folder + path)
            found[name] = _tensor(name, raw[path], payload["tensor_meta"])
        return found


def _tensor(name: str, raw: bytes, meta: dict[str, Any]) -> NDArray[Any]:
    """A view of the bytes of a storage."""
    sizes = [int(size["as_int"]) for size in meta["sizes"]]
    strides = [int(stride["as_int"]) for stride in meta["strides"]]
    start, code = int(meta["storage_offset"]["as_int"]), meta["dtype"]
    dtype = np.dtype("<u2") if code == BFLOAT16 else np.dtype(DTYPES[code])
    storage = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
    last = start + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if min([start, *sizes, *strides]) < 0:
        raise ValueError(f"tensor {name!r} has negative sizes or strides")
    # strides of 0 repeat what is there: an attack may claim any size that way
    if math.prod(sizes) > MAX_UNPACKED_BYTES // 8 or (0 not in sizes and last >= storage.size):
        raise ValueError(f"tensor {name!r} of {sizes} does not fit into {len(raw)} bytes")
    if 0 in sizes:
        return np.zeros(sizes, dtype)
    steps = [stride * dtype.itemsize for stride in strides]
    values = np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[start:], sizes, steps)).reshape(sizes)
    if code == BFLOAT16:  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def _inputs(specs: list[dict[str, Any]]) -> tuple[list[str], dict[str, str]]:
    """Names of the client's inputs, and for each name that is a weight its place in the file."""
    inputs: list[str] = []
    places: dict[str, str] = {}
    for spec in specs:
        ((kind, content),) = spec.items()
        if kind == "user_input":
            if "as_tensor" in content["arg"]:
                inputs.append(content["arg"]["as_tensor"]["name"])
        elif kind in {"parameter", "buffer", "tensor_constant"}:
            places[content["arg"]["name"]] = content[f"{kind}_name"]
        elif kind != "constant_input":
            raise UnsupportedOperation(f"the program reads a {kind}, tensors are possible")
    return inputs, places


def _outputs(specs: list[dict[str, Any]], names: list[str]) -> Iterator[tuple[str, str]]:
    names = names if len(names) == len(specs) else _numbered(len(specs))
    for spec, name in zip(specs, names, strict=True):
        ((kind, content),) = spec.items()
        if kind != "user_output":
            raise UnsupportedOperation(
                f"the program changes its own state ({kind}); export the model after model.eval()", operation=kind
            )
        if "as_tensor" not in content["arg"]:
            raise UnsupportedOperation(f"output {name!r} is no tensor", node=name)
        yield name, content["arg"]["as_tensor"]["name"]


def _output_names(module: dict[str, Any]) -> list[str]:
    """Keys of dictionaries, numbers in tuples and lists."""
    entry = next(call for call in module["module_call_graph"] if call["fqn"] == "")
    _, spec = json.loads(entry["signature"]["out_spec"])
    names = list(_leaves(spec, ""))
    return (
        ["output"]
        if len(names) == 1 and names[0].isdigit()
        else [f"output_{name}" if name[:1].isdigit() else name or "output" for name in names]
    )


def _leaves(spec: dict[str, Any], before: str) -> Iterator[str]:
    if spec["type"] is None:
        yield before
        return
    children = spec["children_spec"]
    context = json.loads(spec["context"]) if spec["type"].endswith(("dict", "Dict")) else None
    keys = context if isinstance(context, list) and len(context) == len(children) else range(len(children))
    for key, child in zip(keys, children, strict=True):
        yield from _leaves(child, f"{before}_{key}" if before else str(key))


def _numbered(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _step(node: dict[str, Any]) -> Step:
    outputs = [name for output in node["outputs"] for name in _names(output)]
    operator = str(node["target"]).removeprefix("torch.ops.")
    return Step(
        name=str(node.get("name") or next(iter(outputs), operator)),
        operator=operator,
        arguments={given["name"]: _argument(given["arg"]) for given in node["inputs"]},
        outputs=tuple(outputs),
    )


def _names(output: dict[str, Any]) -> Iterator[str]:
    ((kind, content),) = output.items()
    if kind == "as_tensors":
        yield from (str(one["name"]) for one in content)
    elif kind == "as_tensor":
        yield str(content["name"])
    elif kind.startswith("as_sym_"):
        yield str(content.get("as_name"))
    else:
        yield ""  # keeps the places of the others


def _argument(given: dict[str, Any]) -> Any:
    ((kind, content),) = given.items()
    match kind:
        case "as_tensor":
            return Reference(str(content["name"]))
        case "as_tensors":
            return [Reference(str(one["name"])) for one in content]
        case "as_optional_tensor" | "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return _optional(content)
        case "as_optional_tensors" | "as_sym_ints" | "as_sym_floats":
            return [_optional(one) for one in content]
        case "as_float":
            return float(content)  # infinities are strings
        case "as_floats":
            return [float(one) for one in content]
        case "as_scalar_type":
            return np.dtype(DTYPES[content]) if content in DTYPES else None
        case "as_int" | "as_ints" | "as_bool" | "as_bools" | "as_string":
            return content
    return None  # where a tensor is kept, and what no operator here reads


def _optional(content: dict[str, Any]) -> Any:
    ((kind, value),) = content.items()
    if kind in {"as_tensor", "as_name"}:
        return Reference(str(value["name"] if kind == "as_tensor" else value))
    return None if kind == "as_none" else value


def _described(meta: dict[str, Any]) -> Described:
    code = DTYPES.get(meta["dtype"], "<f4" if meta["dtype"] == BFLOAT16 else None)
    sizes = tuple(int(size["as_int"]) if "as_int" in size else None for size in meta["sizes"])
    return Described(dtype=None if code is None else np.dtype(code), sizes=sizes)
