"""``gatesmith kube``: what runs on the nodes of a Kubernetes cluster; the chart in ``deploy/`` starts it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.registries import CaFile, PlainHttp, Realms, access_to, moved_json, moved_line

__all__ = ["kube"]

kube = typer.Typer(help="What runs on the nodes of a Kubernetes cluster: device-plugin, initialize.")

KUBELET = Path("/var/lib/kubelet/device-plugins")
RESIDENTS = Path("/var/run/gatesmith")
API = "https://kubernetes.default.svc"


@kube.command("device-plugin")
@verb
def device_plugin(
    board: Annotated[list[str] | None, typer.Option(help="PORT=BOARD: which board is behind a serial port.")] = None,
    emulated: Annotated[int, typer.Option(help="Emulated boards to offer.", min=0)] = 0,
    plugins: Annotated[Path, typer.Option(help="The kubelet's folder for plugins.")] = KUBELET,
    residents: Annotated[Path, typer.Option(help="Folder where servers note what devices run.")] = RESIDENTS,
    cdi: Annotated[Path | None, typer.Option(help="Folder for CDI: containers get devices by name.")] = None,
    features: Annotated[Path | None, typer.Option(help="File for Node Feature Discovery's local source.")] = None,
    node: Annotated[str | None, typer.Option(help="Name of this node: sets its labels through the API.")] = None,
    api: Annotated[str, typer.Option(help="URL of the Kubernetes API.")] = API,
    account: Annotated[Path | None, typer.Option(help="Folder with the service account's token and ca.crt.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Offer this node's boards to its kubelet until stopped."""
    from gatesmith.kube.agent import Agent
    from gatesmith.kube.cluster import ACCOUNT, Cluster
    from gatesmith.kube.inventory import Inventory, parse_boards

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    inventory = Inventory(parse_boards(board or []), emulated=emulated)
    cluster = Cluster(url=api, node=node, account=account or ACCOUNT) if node else None
    agent = Agent(
        inventory=inventory, plugins=plugins, residents=residents, cdi=cdi, features=features, cluster=cluster
    )
    offered = [{"id": one.name, "resource": one.resource, "problem": one.problem} for one in inventory.look()]
    emit(offered, lambda: print(f"offering {len(offered)} devices", flush=True), as_json=as_json)
    agent.run()


@kube.command("initialize")
@verb
def initialize(
    pairs: Annotated[list[str], typer.Argument(help="Addresses and folders in turn: fpga://... /mnt/models")],
    board: Annotated[list[str] | None, typer.Option(help="A board of this node, repeatable; any without.")] = None,
    model_alone: Annotated[
        bool, typer.Option("--model-alone", help="A model without firmware will do: it is built when it is served.")
    ] = False,
    plain_http: PlainHttp = False,
    ca: CaFile = None,
    realms: Realms = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch artifacts for a pod, checked, before its server starts."""
    from gatesmith.errors import GatesmithError
    from gatesmith.kube.initializer import fetch, parse_pairs, say_end

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    access = access_to(plain_http, ca, realms)
    try:
        fetches = parse_pairs(pairs)
        moved = [fetch(one, access, boards=board or [], needs_firmware=not model_alone) for one in fetches]
    except GatesmithError as error:
        say_end(f"error: {error}")
        raise
    emit([moved_json(one) for one in moved], lambda: print("\n".join(map(moved_line, moved))), as_json=as_json)
