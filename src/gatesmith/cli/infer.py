"""``gatesmith infer``: run a model on tensors from a file, on a device here or through a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.targets import named

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["infer"]

TIMEOUT_S = 60.0
URL_HINT = "give the URL of a model, http://HOST:PORT/v2/models/NAME"


@verb
def infer(
    target: Annotated[str, typer.Argument(help="Reference, build folder, or URL of a model: http://.../v2/models/M")],
    input_: Annotated[Path, typer.Option("--input", help="Samples: .npz, .npy or .csv")],
    device: Annotated[str, typer.Option(help="Device for a reference.")] = "emulator:0",
    board: Annotated[str | None, typer.Option(help="Board, when there is firmware for several.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a model on the samples in a file."""
    if target.startswith(("http://", "https://")):
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
    return values.astype(str).astype(float).tolist() if values.dtype.kind == "f" else values.tolist()


def _from_server(url: str, path: Path) -> dict[str, Any]:
    from gatesmith.errors import InferenceError

    try:
        return _asked(url, path)
    except (KeyError, TypeError, ValueError) as error:
        raise InferenceError(f"{url} does not answer as a model does ({error!r}); {URL_HINT}", url=url) from error


def _asked(url: str, path: Path) -> dict[str, Any]:
    import numpy as np

    metadata = _call(url)
    tensors = _tensors(path, metadata["inputs"])
    inputs = [
        {
            "name": spec["name"],
            "datatype": spec["datatype"],
            "shape": list(tensors[spec["name"]].shape),
            "data": tensors[spec["name"]].ravel().tolist(),
        }
        for spec in metadata["inputs"]
    ]
    answer = _call(f"{url}/infer", {"inputs": inputs})
    return {
        output["name"]: {
            "datatype": output["datatype"],
            "shape": output["shape"],
            "data": np.reshape(output["data"], output["shape"]).tolist(),
        }
        for output in answer["outputs"]
    }


def _call(url: str, body: dict[str, Any] | None = None) -> Any:
    from gatesmith.errors import InferenceError

    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        hint = f"; {URL_HINT}" if error.code == 404 else ""
        raise InferenceError(f"{url} answered {error.code}: {_words(error)}{hint}", status=error.code) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InferenceError(f"{url} cannot be used: {reason}; check that a server runs there") from error


def _words(error: urllib.error.HTTPError) -> str:
    text = error.read(1000).decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text or error.reason


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
