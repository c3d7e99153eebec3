"""``gatesmith builds``: the build service, and what one asks of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatesmith.cli.asked import (
    LabelsOption,
    MaxErrorOption,
    PrecisionOption,
    PruneOption,
    ToleranceOption,
    aim,
    hertz,
)
from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.progress import progress_bar
from gatesmith.cli.registries import CaFile, PlainHttp, Realms, access_to

if TYPE_CHECKING:
    from gatesmith.aim import Aim
    from gatesmith.builds.client import BuildClient
    from gatesmith.builds.order import Order

__all__ = ["Remote", "TokenFile", "builds", "client_of", "files_of", "watched"]

builds = typer.Typer(help="A service that builds for everybody, once: serve, submit, watch, list, cancel.")

Remote = Annotated[str, typer.Option("--remote", help="URL of the build service.")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="File that holds the token and nothing else.")]
DEFAULT_URL = "http://127.0.0.1:8090"
SHOWN_DIGITS = 12


@builds.command("serve")
@verb
def serve(
    folder: Annotated[
        Path | None, typer.Option(help="Queue, uploaded files and work; in the home folder without.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free one.", min=0, max=65535)] = 8090,
    slots: Annotated[int, typer.Option(help="Builds at a time on this machine.", min=1, max=256)] = 1,
    dask: Annotated[str | None, typer.Option(help="Build on this Dask cluster: tcp://HOST:PORT")] = None,
    resource: Annotated[
        list[str] | None, typer.Option(help="What a Dask worker needs for a build: NAME=AMOUNT")
    ] = None,
    registry: Annotated[str, typer.Option(help="Registry and namespace for results: HOST/NAMESPACE")] = "",
    sign_key: Annotated[Path | None, typer.Option("--sign-key", help="Private key that signs results.")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Who may build: lines of NAME TOKEN [BUILDS].")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    memory_gib: Annotated[float, typer.Option(help="Most memory of one build.", min=0.5)] = 12.0,
    seconds: Annotated[int, typer.Option(help="Longest time of one build.", min=1)] = 3600,
    plain_http: PlainHttp = False,
    ca: CaFile = None,
    realms: Realms = None,
    as_json: JsonFlag = False,
) -> None:
    """Build for whoever asks, each thing once, until stopped."""
    import logging
    from dataclasses import replace

    from gatesmith.artifact.store import Store
    from gatesmith.builds.depot import Depot
    from gatesmith.builds.job import Limits
    from gatesmith.builds.local import LocalBuilder
    from gatesmith.builds.server import BuildServer, Listening
    from gatesmith.tools import home_path

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    listening = Listening(host=host, port=port, token_file=token_file, tls_certificate=tls_certificate, tls_key=tls_key)
    limits = replace(Limits(), memory_bytes=int(memory_gib * 2**30), seconds=seconds)
    place = folder or home_path() / "builds"
    depot = Depot(
        store=Store(place / "store"), registry=registry, access=access_to(plain_http, ca, realms), key=_key(sign_key)
    )
    if dask:
        from gatesmith.builds.dask import DaskBuilder

        builder: Any = DaskBuilder(dask, resources=_resources(resource or []), limits=limits)
    else:
        builder = LocalBuilder(slots, limits)
    server = BuildServer(place, builder, depot, listening)
    server.run(lambda url: emit({"url": url}, lambda: print(f"build service on {url}", flush=True), as_json=as_json))


@builds.command("submit")
@verb
def submit(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    board: Annotated[str, typer.Option(help="Board to build for.")],
    remote: Remote = DEFAULT_URL,
    calibration: Annotated[Path | None, typer.Option(help="Data like the model's inputs.")] = None,
    precision: PrecisionOption = "8",
    tolerance: ToleranceOption = None,
    max_error: MaxErrorOption = None,
    labels: LabelsOption = None,
    prune: PruneOption = False,
    clock_mhz: Annotated[float | None, typer.Option(help="Clock of the gateware.")] = None,
    seed: Annotated[int, typer.Option(help="Start of the placer's random numbers.")] = 1,
    again: Annotated[bool, typer.Option("--again", help="Try once more what failed.")] = False,
    token_file: TokenFile = None,
    ca: CaFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask for a build and return at once."""
    from gatesmith.builds.client import order_of

    chosen = aim(precision, tolerance=tolerance, max_error=max_error, labels=labels, prune=prune)
    order = order_of(model, board, calibration=calibration, precision=chosen, clock_hz=hertz(clock_mhz), seed=seed)
    with client_of(remote, token_file, ca) as client:
        record = client.submit(order, files_of(order, model, calibration, chosen), again=again)
    emit(record, lambda: print(f"{record['id'][:SHOWN_DIGITS]} {record['state']}"), as_json=as_json)


@builds.command("watch")
@verb
def watch(
    id: Annotated[str, typer.Argument(help="Build, or the start of its id.")],
    remote: Remote = DEFAULT_URL,
    token_file: TokenFile = None,
    ca: CaFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Follow a build to its end."""
    with client_of(remote, token_file, ca) as client:
        whole = _whole(client, id)
        result = watched(client, whole, as_json=as_json)
    emit({"id": whole, **result}, lambda: _show_result(result), as_json=as_json)


@builds.command("list")
@verb
def list_builds(
    remote: Remote = DEFAULT_URL, token_file: TokenFile = None, ca: CaFile = None, as_json: JsonFlag = False
) -> None:
    """Show the service's builds, the newest first."""
    with client_of(remote, token_file, ca) as client:
        found = client.list()
    rows = [
        [
            one["id"][:SHOWN_DIGITS],
            one["order"]["name"],
            one["order"]["board"],
            f"{one['state']} {one['stage']} {one['done']:.0%}" if one["state"] == "running" else one["state"],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one["created"])),
            (one["result"] or {}).get("registry") or (one["result"] or {}).get("reference") or "",
        ]
        for one in found
    ]
    emit({"builds": found}, lambda: table("", ["id", "model", "board", "state", "asked", "result"], rows),
         as_json=as_json)  # fmt: skip


@builds.command("cancel")
@verb
def cancel(
    id: Annotated[str, typer.Argument(help="Build, or the start of its id.")],
    remote: Remote = DEFAULT_URL,
    token_file: TokenFile = None,
    ca: CaFile = None,
    as_json: JsonFlag = False,
) -> None:
    """End a build."""
    with client_of(remote, token_file, ca) as client:
        record = client.cancel(_whole(client, id))
    emit(record, lambda: print(f"{record['id'][:SHOWN_DIGITS]} {record['state']}"), as_json=as_json)


def client_of(url: str, token_file: Path | None, ca: Path | None) -> BuildClient:
    """A client of the service."""
    from gatesmith.builds.client import BuildClient
    from gatesmith.errors import AuthenticationFailed

    token = ""
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AuthenticationFailed(f"token file {token_file} cannot be read: {error}") from error
    return BuildClient(url, token=token, ca=ca)


def files_of(order: Order, model: Path, calibration: Path | None, chosen: Aim) -> dict[str, Path]:
    """Files of an order of these by digest."""
    files = {order.model: model}
    if calibration is not None:
        files[order.calibration] = calibration
    if isinstance(chosen.labels, Path):
        files[order.labels] = chosen.labels
    return files


def watched(client: BuildClient, id: str, *, as_json: bool) -> dict[str, Any]:
    """Show a build's progress as that of a local one, and give its result.

    Raises
    ------
    GatesmithError
        What the build ended with.
    """
    with progress_bar(as_json=as_json) as progress:
        for event in client.watch(id):
            if event["kind"] == "progress":
                progress(event["stage"], event["done"])
            elif event["kind"] == "state":
                progress(event["state"], 0.0)
    return client.result(id)


def _show_result(result: dict[str, Any]) -> None:
    print(f"{result.get('registry') or result['reference']} {result['digest']} ({result['origin']})")


def _whole(client: BuildClient, id: str) -> str:
    from gatesmith.errors import BuildError

    if len(id) == 64:
        return id
    found = [one["id"] for one in client.list() if one["id"].startswith(id)]
    if len(found) != 1:
        raise BuildError(f"{len(found)} builds begin with {id!r}, one is needed; see 'gatesmith builds list'", id=id)
    return str(found[0])


def _key(path: Path | None) -> Any:
    if path is None:
        return None
    from gatesmith.artifact.keys import read_private_key

    return read_private_key(path)


def _resources(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, amount = text.partition("=")
        if not name or not amount.replace(".", "", 1).isdigit():
            raise typer.BadParameter(f"--resource {text!r}: NAME=AMOUNT is needed")
        found[name] = float(amount)
    return found
