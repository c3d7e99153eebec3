"""``gatesmith serve``: answer the Open Inference Protocol from devices.

The options are what people type; everything else is a ``GATESMITH_...`` variable (``docs/serve.md``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatesmith.cli.asked import ToleranceOption
from gatesmith.cli.output import JsonFlag, verb
from gatesmith.cli.sources import builder_of, check_readable, sources_of

if TYPE_CHECKING:
    from gatesmith.serve.server import Server
    from gatesmith.serve.settings import Settings

__all__ = ["serve"]

DISCOVER = "discover"
_Text = str | None
_Number = int | None


@verb
def serve(
    references: Annotated[
        list[str] | None, typer.Argument(help="References, folders or model files, or NAME= and one of them.")
    ] = None,
    repository: Annotated[
        list[str] | None, typer.Option(help="Further models: 'store', a folder, or registry.example/path.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="ID or ID=BOARD, repeatable, or 'discover'; emulated ones without.")
    ] = None,
    board: Annotated[_Text, typer.Option(help="Which firmware devices get that can run any.")] = None,
    load_on_demand: Annotated[
        bool, typer.Option("--load-on-demand", help="Load a model at its first request.")
    ] = False,
    pin: Annotated[list[str] | None, typer.Option(help="Model that keeps its device; loaded at the start.")] = None,
    replicas: Annotated[_Number, typer.Option(help="Devices for each model; by default they are shared out.")] = None,
    fallback: Annotated[_Text, typer.Option(help="'emulator': serve from one when no device is healthy.")] = None,
    build_service: Annotated[
        _Text, typer.Option(help="Who makes firmware that is missing: URL of a build service; this machine without.")
    ] = None,
    precision: Annotated[
        _Text,
        typer.Option(help="Of such firmware: bits, 2 to 16; or 'auto' to search, or 'exact' for trees. 8 without."),
    ] = None,
    tolerance: ToleranceOption = None,
    follow_s: Annotated[
        float | None, typer.Option(help="Seconds after which registries are asked again whether a tag moved.")
    ] = None,
    host: Annotated[_Text, typer.Option(help="Address to listen on; this machine only by default.")] = None,
    http_port: Annotated[_Number, typer.Option(help="Port; 8080 by default, 0 for any free one.")] = None,
    grpc_port: Annotated[_Number, typer.Option(help="Port for gRPC; 8081 by default, -1 for none.")] = None,
    admin_port: Annotated[_Number, typer.Option(help="A port of its own for loading and unloading.")] = None,
    max_batch: Annotated[_Number, typer.Option(help="Most samples in one device call.")] = None,
    max_queue_delay_us: Annotated[_Number, typer.Option(help="How long a device may wait for a full batch.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve models over the Open Inference Protocol and KServe's V1 until interrupted."""
    from gatesmith.serve.dataplane import DataPlane
    from gatesmith.serve.logs import configure_logs
    from gatesmith.serve.server import Server

    settings = _settings(
        load_on_demand=load_on_demand or None,
        replicas=replicas,
        fallback=fallback,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        admin_port=admin_port,
        max_batch=max_batch,
        max_queue_delay_us=max_queue_delay_us,
        board=board,
        build_service=build_service,
        build_precision=precision,
        build_tolerance=tolerance,
        follow_s=follow_s,
    )
    given = device or ([text for text in settings.devices.split(",") if text] or None)
    devices = _devices(given, max(1, len(references or [])))
    _check_counts(references or [], repository or [], devices, settings)
    sources, names = sources_of(references or [], repository or [], settings)
    if not sources:
        raise typer.BadParameter("give a reference, a folder, a model file, or --repository")
    builder = builder_of(settings)
    if not settings.load_on_demand:  # what cannot be read is told before anybody connects
        boards = [on or settings.board for _, on in devices]
        for name in names:
            check_readable(sources, name, boards, builds=builder is not None)
    configure_logs(settings)
    plane = DataPlane(
        {},
        settings,
        sources=sources,
        devices=devices,
        preload=names,
        pinned=pin or [],
        board=settings.board,
        builder=builder,
    )
    server = Server(settings=settings, plane=plane)
    _tell(server, names, [id_ for id_, _ in devices], as_json=as_json)
    server.run()


def _settings(**given: Any) -> Settings:
    """The environment's settings, with what was given as options in their place."""
    from dataclasses import replace

    from gatesmith.serve.settings import Settings

    options = {name: value for name, value in given.items() if value is not None}
    return replace(Settings.from_environment(), **options)


def _devices(given: Sequence[str] | None, count: int) -> list[tuple[str, str]]:
    """Ids with boards, as far as these are known."""
    from gatesmith.boards import find_board
    from gatesmith.devices import list_devices
    from gatesmith.errors import DeviceNotFound

    if not given:
        return [(f"emulator:{number}", "") for number in range(count)]
    if list(given) != [DISCOVER]:
        pairs = [text.rpartition("=") if "=" in text else (text, "", "") for text in given]
        devices = [(id_, find_board(board).name if board else "") for id_, _, board in pairs]
        twice = sorted({id_ for id_, _ in devices if [i for i, _ in devices].count(id_) > 1})
        if twice:
            raise DeviceNotFound(f"device {twice[0]} is given twice; it runs one firmware at a time", device=twice[0])
        return devices
    found = [info for info in list_devices() if info.state == "ready" and info.kind not in {"emulator", "loopback"}]
    if not found:
        raise DeviceNotFound("no device was discovered; name one with --device, or emulator:0")
    return [(info.id, info.board) for info in found]


def _check_counts(
    references: Sequence[str], repositories: Sequence[str], devices: Sequence[tuple[str, str]], settings: Settings
) -> None:
    from gatesmith.errors import DeviceNotFound

    if len(references) > len(devices) and not settings.load_on_demand and not repositories:
        raise DeviceNotFound(
            f"{len(references)} models and {len(devices)} device{'s' * (len(devices) != 1)} were given, "
            "one device each is needed; name more, or --load-on-demand"
        )


def _tell(server: Server, names: Sequence[str], devices: Sequence[str], *, as_json: bool) -> None:
    grpc = server.grpc_url
    if as_json:
        where = {"url": server.url, **({"grpc": grpc} if grpc else {})}
        print(json.dumps({**where, "models": list(names), "devices": list(devices)}), flush=True)
    else:
        what = ", ".join(names) or "models of the repository"
        places = f"{server.url}/v2 and {grpc}" if grpc else f"{server.url}/v2"
        print(f"serving {what} on {places} with {', '.join(devices)}", file=sys.stderr, flush=True)
