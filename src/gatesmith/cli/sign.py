"""``gatesmith sign``: sign an artifact in the local store, or make the key to do it with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.targets import named

__all__ = ["sign", "signed_thing"]


@verb
def sign(
    target: Annotated[str | None, typer.Argument(help="Reference or folder of a build.")] = None,
    key: Annotated[Path | None, typer.Option(help="Private key, PEM.")] = None,
    generate: Annotated[
        Path | None, typer.Option(help="Make a key pair: the private key's new file; the public one ends in .pub.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign the firmwares of an artifact and its index, or make a key pair."""
    if (target is None) == (generate is None) or (target is None) != (key is None):
        raise typer.BadParameter("give REF and --key to sign, or --generate to make a key pair")
    data = _generate(generate) if generate is not None else _sign(str(target), Path(str(key)))
    emit(data, lambda: _show(data), as_json=as_json)


def _generate(path: Path) -> dict[str, Any]:
    from gatesmith.artifact.keys import generate_key

    return {"key": str(path), "public_key": str(generate_key(path))}


def _sign(target: str, path: Path) -> dict[str, Any]:
    from gatesmith.artifact.dsse import key_hint
    from gatesmith.artifact.keys import read_private_key
    from gatesmith.artifact.sign import sign_artifact

    key = read_private_key(path)
    store, reference = named(target)
    signed = sign_artifact(store, reference, key)
    return {
        "reference": reference,
        "digest": store.resolve(reference),
        "key_hint": key_hint(key.public_key()),
        "signed": [one.to_json() for one in signed],
    }


def _show(data: dict[str, Any]) -> None:
    if "public_key" in data:
        print(f"private key {data['key']}, for you alone; public key {data['public_key']}, for everybody else")
        return
    for one in data["signed"]:
        print(f"signed {one['digest']}, {signed_thing(one['board'])}")


def signed_thing(board: str) -> str:
    """What was signed, in words."""
    return f"firmware for {board}" if board else "the index"
