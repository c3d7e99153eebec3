"""``gatesmith inspect``: what an artifact or a model file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatesmith.cli.build import cycles
from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.targets import named

__all__ = ["inspect"]


@verb
def inspect(
    target: Annotated[str, typer.Argument(help="Reference, folder of a build, or model file.")],
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="Read a pickle: this runs its code.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what an artifact or a model file holds."""
    if Path(target).is_file():
        data = _model(Path(target), trust_pickle=trust_pickle)
        emit(data, lambda: _show_model(data), as_json=as_json)
        return
    store, reference = named(target)
    data = store.inspect(reference)
    emit(data, lambda: _show_artifact(data), as_json=as_json)


def _model(path: Path, *, trust_pickle: bool) -> dict[str, Any]:
    from gatesmith.frontends import read_model

    graph = read_model(path, trust_pickle=trust_pickle)
    return {
        "name": graph.name,
        "inputs": [terminal.spec.to_json() for terminal in graph.inputs],
        "outputs": [terminal.spec.to_json() for terminal in graph.outputs],
        "nodes": [{"name": n.name, "kind": n.kind, "shape": list(n.output.shape)} for n in graph.nodes],
    }


def _show_model(data: dict[str, Any]) -> None:
    for kind in ("inputs", "outputs"):
        for tensor in data[kind]:
            print(f"{kind[:-1]} {tensor['name']} {tensor['datatype']} {tensor['shape']}")
    table("", ["node", "kind", "shape"], [[n["name"], n["kind"], str(n["shape"])] for n in data["nodes"]])


def _show_artifact(data: dict[str, Any]) -> None:
    print(f"{data['reference']} {data['digest']}")
    for firmware in data["firmwares"]:
        config = firmware["config"]
        report = config["report"]
        used = [f"{k} {u['used']}/{u['available']}" for k, u in report["utilization"].items() if u["used"]]
        rows = [
            ["board", f"{config['board']} ({config['part']})"],
            ["digest", firmware["digest"]],
            ["clock, fmax", f"{config['link']['clock_hz'] / 1e6:g} MHz, {report['fmax_hz'] / 1e6:.1f} MHz"],
            ["latency", cycles(config["latency_cycles"])],
            ["utilization", ", ".join(used) or "-"],
            ["proved exact", ", ".join(config["verified"]) or "-"],
        ]
        print()
        table("", ["", ""], rows)
    print()
    if not data["firmwares"]:
        print("a trained model and no firmware; serve it with a build service, or build it for a board")
        return
    for port in (p for kind in ("inputs", "outputs") for p in data["firmwares"][0]["config"]["contract"][kind]):
        host = ", ".join(operation["kind"] for operation in port["host_operations"]) or "nothing"
        f = port["format"]
        shape = f"{'s' if f['signed'] else 'u'}{f['integer_bits']}.{f['fraction_bits']}"
        print(
            f"tensor {port['name']} {port['datatype']} {port['shape']}, {shape} on the wire; the host computes {host}"
        )
