"""``gatesmith serve``: answer the Open Inference Protocol from devices."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, verb
from gatesmith.cli.targets import named

__all__ = ["serve"]


@verb
def serve(
    references: Annotated[list[str], typer.Argument(help="References or build folders, one for each model.")],
    device: Annotated[list[str] | None, typer.Option(help="Device for each model, in order; emulated without.")] = None,
    board: Annotated[str | None, typer.Option(help="Board, when there is firmware for several.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; this machine only by default.")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port; 8080 by default, 0 for any free one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve models over the Open Inference Protocol and KServe's V1 until interrupted."""
    from dataclasses import replace

    from gatesmith.devices import open_device
    from gatesmith.errors import DeviceNotFound
    from gatesmith.serve.server import serve_models
    from gatesmith.serve.settings import Settings

    ids = device or [f"emulator:{i}" for i in range(len(references))]
    if len(ids) != len(references):
        raise DeviceNotFound(f"{len(references)} models and {len(ids)} devices were given, one device each is needed")
    settings = Settings.from_environment()
    if host is not None:
        settings = replace(settings, host=host)
    if http_port is not None:
        settings = replace(settings, http_port=http_port)
    models = {}
    for target, id_ in zip(references, ids, strict=True):
        store, reference = named(target)
        models[reference] = (store.load(reference, board=board), open_device(id_))

    def started(url: str) -> None:
        if as_json:
            print(json.dumps({"url": url, "models": list(models), "devices": ids}), flush=True)
        else:
            print(f"serving {', '.join(models)} on {url}/v2 with {', '.join(ids)}", file=sys.stderr, flush=True)

    serve_models(models, settings, on_started=started)
