"""``gatesmith scan``: look for combinational loops in firmware before it is loaded anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.targets import named

if TYPE_CHECKING:
    from gatesmith.scan import Scan

__all__ = ["scan", "warn"]


@verb
def scan(
    target: Annotated[str, typer.Argument(help="Reference, folder of a build, bitstream file or Verilog file.")],
    board: Annotated[str | None, typer.Option(help="One board's firmware; all of them without.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="What findings mean; the policy.toml in the home without.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search bitstream and HDL for combinational loops, such as ring oscillators."""
    from gatesmith.artifact.policy import load_policy
    from gatesmith.artifact.reference import Reference
    from gatesmith.scan import apply_rule

    rules = load_policy(policy)
    if Path(target).is_file():
        rule, scans = rules.otherwise, {"": _file(Path(target))}
    else:
        reference, scans = _firmwares(target, board)
        rule = rules.rule(Reference.parse(reference))
    for name, found in scans.items():
        apply_rule(rule, found, name=f"{target}, {name}" if name else target, warn=warn)
    told = [{"board": name, **one.to_json()} for name, found in scans.items() for one in found]
    data = {"target": target, "loops": sum(len(one["loops"]) for one in told), "scans": told}
    emit(data, lambda: _show(data), as_json=as_json)


def warn(line: str) -> None:
    """Tell a finding that does not stop anything."""
    print(f"warning: {line}", file=sys.stderr)


def _file(path: Path) -> list[Scan]:
    from gatesmith.errors import ArtifactNotFound
    from gatesmith.scan import scan_bitstream, scan_hdl

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactNotFound(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    return [scan_hdl({path.name: content}) if path.suffix in {".v", ".sv"} else scan_bitstream(content)]


def _firmwares(target: str, board: str | None) -> tuple[str, dict[str, list[Scan]]]:
    from gatesmith.artifact.manifest import BOARD
    from gatesmith.artifact.reference import Reference
    from gatesmith.errors import ArtifactNotFound
    from gatesmith.scan import scan_parts

    store, reference = named(target)
    with store.layout.session():
        manifests = store.manifests(store.layout.resolve(Reference.parse(reference)))
        firmwares = [store.read(m) for m in manifests if board is None or m.annotations.get(BOARD) == board]
    if not firmwares:
        raise ArtifactNotFound(f"{reference} has no firmware for board {board}", board=board)
    return reference, {one.board: scan_parts(one.bitstream, one.hdl) for one in firmwares}


def _show(data: dict[str, Any]) -> None:
    for one in data["scans"]:
        of = f"{one['board']} " if one["board"] else ""
        looked = f"{len(one['loops'])} combinational loops, {one['seconds']:.1f} s"
        note = f" ({one['reason']})" if one["reason"] else ""
        print(f"{of}{one['what']}: {looked if one['scanned'] else 'not scanned'}{note}")
        for loop in one["loops"]:
            print(f"  {', '.join(loop[:8])}{', ...' if len(loop) > 8 else ''}")
