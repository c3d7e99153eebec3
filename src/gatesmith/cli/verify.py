"""``gatesmith verify``: prove a firmware against the reference, or check who signed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.sign import signed_thing
from gatesmith.cli.targets import named

if TYPE_CHECKING:
    from gatesmith.artifact.store import Store

__all__ = ["verify"]


@verb
def verify(
    target: Annotated[str, typer.Argument(help="Reference or folder of a build.")],
    board: Annotated[str | None, typer.Option(help="One board's firmware; all of them without.")] = None,
    level: Annotated[
        str | None, typer.Option(help="reference, rtl, or bitstream (iCE40); rtl unless signatures are asked for")
    ] = None,
    samples: Annotated[int, typer.Option(help="Random samples beside the corners.", min=1, max=10_000_000)] = 10_000,
    key: Annotated[list[Path] | None, typer.Option(help="Public key, PEM: check that it signed. Repeatable.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Check signatures with the keys of this policy.toml.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare a firmware with the reference, integer by integer, on corner and random samples; or check signatures."""
    store, reference = named(target)
    signatures = _signatures(store, reference, board, key or [], policy) if key or policy else {}
    proofs = _proofs(store, reference, board, level or "rtl", samples) if level or not signatures else {}
    emit({**signatures, **proofs}, lambda: _show(signatures, proofs), as_json=as_json)


def _signatures(
    store: Store, reference: str, board: str | None, keys: list[Path], policy: Path | None
) -> dict[str, Any]:
    from gatesmith.artifact.keys import read_public_key
    from gatesmith.artifact.policy import load_policy
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.sign import verify_artifact
    from gatesmith.errors import SignatureInvalid

    of_policy = load_policy(policy).rule(Reference.parse(reference)).keys if policy else ()
    public = [read_public_key(path) for path in (*keys, *of_policy)]
    if not public:
        raise SignatureInvalid(f"policy {str(policy)!r} names no key for {reference}")
    signed = verify_artifact(store, reference, public, board=board)
    return {"reference": reference, "signed": [one.to_json() for one in signed]}


def _proofs(store: Store, reference: str, board: str | None, level: str, samples: int) -> dict[str, Any]:
    from gatesmith.proof import verify_firmware

    boards: dict[str, dict[str, Any]] = {}
    for name in [board] if board else store.inspect(reference)["boards"]:
        result = verify_firmware(store.load(reference, board=name), level=level, samples=samples)
        boards[name] = {
            "samples": result.samples,
            "mismatches": result.mismatches,
            "seconds": round(result.seconds, 3),
        }
    totals = {key: sum(one[key] for one in boards.values()) for key in ("samples", "mismatches", "seconds")}
    return {"level": level, **totals, "boards": boards}


def _show(signatures: dict[str, Any], proofs: dict[str, Any]) -> None:
    for one in signatures.get("signed", []):
        print(f"{signed_thing(one['board'])} is signed by a trusted key: {one['digest']}")
    for name, one in proofs.get("boards", {}).items():
        compared = f"{one['samples']} samples, {one['mismatches']} differ, {one['seconds']:.1f} s"
        print(f"{name} {proofs['level']}: {compared}")
