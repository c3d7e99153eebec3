"""``gatesmith pack``: firmwares of several builds, or one that another flow made, become one artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.scan import warn
from gatesmith.cli.targets import named

if TYPE_CHECKING:
    from gatesmith.firmware import Firmware

__all__ = ["pack"]


@verb
def pack(
    tag: Annotated[str, typer.Option(help="Reference to store them under.")],
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders that 'gatesmith build --out' wrote, or one model file.")
    ] = None,
    bitstream: Annotated[Path | None, typer.Option(help="A bitstream that another flow made.")] = None,
    contract: Annotated[Path | None, typer.Option(help="What it is and how to use it: contract.toml")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="With a model file: data like its inputs, for whoever builds it.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Drop what the reference holds already.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put the firmwares of several builds under one reference, a trained model alone, or another flow's bitstream."""
    from gatesmith.artifact.manifest import firmware_digest
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.store import Store

    if (bitstream is None) != (contract is None) or bool(folders) == (bitstream is not None):
        raise typer.BadParameter("give folders, or --bitstream and --contract")
    name = str(Reference.parse(tag))
    if folders and len(folders) == 1 and folders[0].is_file():
        _pack_model(folders[0], calibration, name, as_json=as_json)
        return
    if bitstream is not None and contract is not None:
        firmwares = [_prebuilt(bitstream, contract, name)]
    else:
        firmwares = [firmware for folder in folders or [] for firmware in _built(folder)]
    digest = Store().save(name, firmwares, merge=not replace)
    data = {
        "reference": name,
        "digest": digest,
        "boards": [f.board for f in firmwares],
        "firmwares": [firmware_digest(f) for f in firmwares],
    }
    emit(data, lambda: print(f"{name} {digest}: {', '.join(f.board for f in firmwares)}"), as_json=as_json)


def _pack_model(path: Path, calibration: Path | None, name: str, *, as_json: bool) -> None:
    """A trained model without firmware: whoever serves it has it built for their board."""
    from gatesmith.artifact.store import Store
    from gatesmith.frontends import model_content, read_model
    from gatesmith.quantize import load_calibration

    read_model(path)  # what cannot be built is told now
    data = ("", b"")
    if calibration is not None:
        load_calibration(calibration)
        data = (calibration.name, calibration.read_bytes())
    digest = Store().save_model(name, path.name, model_content(path), calibration=data)
    told = {"reference": name, "digest": digest, "boards": [], "firmwares": []}
    emit(told, lambda: print(f"{name} {digest}: the model {path.name}"), as_json=as_json)


def _built(folder: Path) -> list[Firmware]:
    from gatesmith.errors import ArtifactNotFound

    if not folder.is_dir():
        raise ArtifactNotFound(f"folder {str(folder)!r} does not exist", path=str(folder))
    store, reference = named(str(folder))
    boards = store.inspect(reference)["boards"]
    return [store.load(reference, board=board, with_model=True) for board in boards]


def _prebuilt(bitstream: Path, contract: Path, name: str) -> Firmware:
    from gatesmith.artifact.policy import load_policy
    from gatesmith.artifact.prebuilt import read_prebuilt
    from gatesmith.artifact.reference import Reference
    from gatesmith.scan import apply_rule, scan_parts

    firmware, header = read_prebuilt(bitstream, contract)
    rule = load_policy().rule(Reference.parse(name))
    apply_rule(rule, scan_parts(firmware.bitstream, firmware.hdl), name=bitstream.name, warn=warn)
    if not header.parts:
        said = f"it names {header.platform}" if header.platform else "its format says none that is read"
        warn(f"part {firmware.part} is not checked: {bitstream.name} is {header.format}, {said}")
    return firmware
