"""``gatesmith infer``: run a model on tensors from a file, on a device here or through a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.targets import named

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["infer"]

SCHEMES = ("http://", "https://", "grpc://", "grpcs://")
URL_HINT = "give the URL of a model, http://HOST:PORT/v2/models/NAME"


@verb
def infer(
    target: Annotated[
        str, typer.Argument(help="Reference, build folder, or URL of a model: http://.../v2/models/M, grpc://...")
    ],
    input_: Annotated[Path, typer.Option("--input", help="Samples: .npz, .npy or .csv")],
    device: Annotated[str, typer.Option(help="Device for a reference.")] = "emulator:0",
    board: Annotated[str | None, typer.Option(help="Board, when there is firmware for several.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a model on the samples in a file."""
    if target.startswith(SCHEMES):
        outputs, where = _from_server(target.rstrip("/"), input_), target
    else:
        outputs, where = _from_device(target, input_, device, board), device
    data = {"outputs": outputs, "device": where}
    emit(data, lambda: _show(outputs), as_json=as_json)


def _from_device(target: str, path: Path, device: str, board: str | None) -> dict[str, Any]:
    from gatesmith.devices import open_device

    store, reference = named(target)
    firmware = store.load(reference, board=board)
    tensors = _tensors(path, [port.spec.to_json() for port in firmware.contract.inputs])
    payload = firmware.contract.encode(tensors)  # what is wrong with them is told before a board is programmed
    with open_device(device) as opened:
        opened.program(firmware)
        decoded = firmware.contract.decode(opened.infer(payload))
    specs = {port.spec.name: port.spec for port in firmware.contract.outputs}
    return {
        name: {"datatype": specs[name].datatype.value, "shape": list(values.shape), "data": _plain(values)}
        for name, values in decoded.items()
    }


def _plain(values: NDArray[Any]) -> Any:
    """Nested lists, each number with the digits that its own datatype needs: 0.1, not 0.10000000149011612."""
    if values.dtype.kind == "O":  # JSON has text and no bytes
        values = values.copy()
        values.reshape(-1)[:] = [item.decode(errors="backslashreplace") for item in values.reshape(-1).tolist()]
    return values.astype(str).astype(float).tolist() if values.dtype.kind == "f" else values.tolist()


def _from_server(url: str, path: Path) -> dict[str, Any]:
    from gatesmith.client import Client
    from gatesmith.errors import ModelNotFound

    base, model, version = _parts(url)
    try:
        with Client(base) as client:
            metadata = client.metadata(model, version)
            tensors = _tensors(path, metadata["inputs"])
            given = {spec["name"]: tensors[spec["name"]] for spec in metadata["inputs"]}
            outputs = client.infer(model, given, version=version)
    except ModelNotFound as error:
        raise ModelNotFound(f"{error}; {URL_HINT}", **error.facts) from error
    datatypes = {spec["name"]: spec["datatype"] for spec in metadata["outputs"]}
    return {
        name: {"datatype": datatypes[name], "shape": list(values.shape), "data": _plain(values)}
        for name, values in outputs.items()
    }


def _parts(url: str) -> tuple[str, str, str | None]:
    """Server, model and perhaps version that a URL names."""
    from gatesmith.errors import InferenceError

    base, found, rest = url.partition("/v2/models/")
    model, _, version = rest.partition("/versions/")
    if not found or not model or "/" in model + version:
        raise InferenceError(f"{url} names no model; {URL_HINT}", url=url)
    return base, model, version or None


def _tensors(path: Path, specs: list[dict[str, Any]]) -> Mapping[str, Any]:
    from gatesmith.errors import TensorMismatch
    from gatesmith.samples import load_samples

    arrays = load_samples(path)
    names = [spec["name"] for spec in specs]
    if len(names) == 1 and names[0] not in arrays and len(arrays) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise TensorMismatch(f"{str(path)!r} holds {sorted(arrays)}, input {missing[0]!r} is not among them")
    return arrays


def _show(outputs: dict[str, Any]) -> None:
    for name, tensor in outputs.items():
        print(f"{name} {tensor['datatype']} {tensor['shape']}")
        print(json.dumps(tensor["data"]))
