"""``gatesmith build``: a model file becomes firmware for a board."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
from gatesmith.cli.builds import TokenFile, client_of, files_of, watched
from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.progress import progress_bar
from gatesmith.cli.registries import CaFile
from gatesmith.cli.targets import check_out, check_writable, new_folder

__all__ = ["build", "cycles", "stage_seconds", "summary"]


@verb
def build(
    model: Annotated[
        Path, typer.Argument(help="Model file of any library that is read; its kind is told by its content.")
    ],
    board: Annotated[str, typer.Option(help="Board to build for; see 'gatesmith boards'.")],
    calibration: Annotated[Path | None, typer.Option(help="Data like the model's inputs: .npz, .npy or .csv")] = None,
    precision: PrecisionOption = "8",
    tolerance: ToleranceOption = None,
    max_error: MaxErrorOption = None,
    labels: LabelsOption = None,
    prune: PruneOption = False,
    engine: Annotated[str, typer.Option(help="auto, unrolled or trees")] = "auto",
    clock_mhz: Annotated[float | None, typer.Option(help="Clock of the gateware; the board's own without.")] = None,
    seed: Annotated[int, typer.Option(help="Start of the placer's random numbers.", min=1, max=2**31 - 8)] = 1,
    tag: Annotated[
        str | None, typer.Option(help="Store it under this reference, beside the firmware for other boards.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the firmware to this folder, as an OCI layout.")] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="Read a pickle: this runs its code.")] = False,
    remote: Annotated[str | None, typer.Option(help="Let a build service do it: its URL.")] = None,
    token_file: TokenFile = None,
    ca: CaFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Build firmware for a board and prove it against the reference."""
    from gatesmith.artifact.store import Store
    from gatesmith.tools import home_path

    # What would stop the end of the work is told before its beginning.
    reference = _taggable(tag) if tag is not None else None
    folder_reference = f"{re.sub(r'[^a-z0-9]+', '-', model.stem.lower()).strip('-') or 'model'}:latest"
    check_writable(home_path())
    if out is not None:
        check_out(out, folder_reference)
    if remote is not None and trust_pickle:
        raise typer.BadParameter("a build service reads no pickles; build here, or save the model in another form")
    options = {
        "precision": aim(precision, tolerance=tolerance, max_error=max_error, labels=labels, prune=prune),
        "engine": engine,
        "clock_hz": hertz(clock_mhz),
        "seed": seed,
    }
    files = {"model": model, "board": board, "calibration": calibration}
    if remote is not None:
        firmware, told = _remote(
            remote, token_file, ca, as_json=as_json, wanted=bool(out or reference), **files, **options
        )
    else:
        firmware, told = _local(trust_pickle=trust_pickle, as_json=as_json, **files, **options)
    if out is not None:
        with new_folder(out):
            Store(out).save(folder_reference, [firmware], merge=False)
    if reference is not None:
        Store().save(reference, [firmware])
    data = {**told, "reference": reference or told.get("registry") or None}
    emit(data, lambda: summary(data), as_json=as_json)


def _local(*, as_json: bool, **asked: Any) -> tuple[Any, dict[str, Any]]:
    from gatesmith.artifact.manifest import firmware_digest
    from gatesmith.flow import build_firmware

    with progress_bar(as_json=as_json) as progress:
        result = build_firmware(**asked, progress=progress)
    return result.firmware, {"reference": None, "digest": firmware_digest(result.firmware), **result.to_json()}


def _remote(
    url: str, token_file: Path | None, ca: Path | None, *, as_json: bool, wanted: bool, **asked: Any
) -> tuple[Any, dict[str, Any]]:
    """Let a service build, and fetch the firmware where it is wanted."""
    from gatesmith.builds.client import order_of
    from gatesmith.frontends import model_content

    order = order_of(**asked)
    with client_of(url, token_file, ca) as client:
        record = client.submit(order, files_of(order, asked["model"], asked["calibration"], asked["precision"]))
        told = watched(client, record["id"], as_json=as_json)
        if not wanted:
            return None, told
        return client.firmware(record["id"], order, model_content(asked["model"])), told


def _taggable(tag: str) -> str:
    from gatesmith.artifact.reference import Reference
    from gatesmith.errors import ManifestInvalid

    reference = Reference.parse(tag)
    if reference.digest:
        raise ManifestInvalid(f"--tag {tag} names content by digest; give a name and a tag", reference=tag)
    return str(reference)


def summary(data: dict[str, Any]) -> None:
    """Show a build to people."""
    used = {name: numbers for name, numbers in data["utilization"].items() if numbers["used"]}
    agreement = "-" if data["agreement"] is None else f"{100 * data['agreement']:.2f} %"
    latency_ns = 1e9 * data["latency_cycles"] / data["clock_hz"]
    rows = [
        ["board", f"{data['board']} ({data['part']})"],
        ["reference", data["reference"] or "-"],
        ["digest", data["digest"]],
        ["bitstream", f"{data['bitstream_bytes']:,} bytes"],
        ["clock, fmax", f"{data['clock_hz'] / 1e6:.3f} MHz, {data['fmax_hz'] / 1e6:.1f} MHz"],
        ["latency", f"{cycles(data['latency_cycles'])}, {latency_ns:.0f} ns"],
        ["initiation interval", cycles(data["initiation_interval_cycles"])],
        ["utilization", ", ".join(f"{name} {u['used']}/{u['available']}" for name, u in used.items())],
        ["agreement with the float model", agreement],
        ["largest output error", f"{data['max_abs_error']:.4g}"],
        ["proved exact", ", ".join(data["verified"])],
        ["seconds", "cached" if data["cached"] else stage_seconds(data["seconds"])],
    ]
    table("", ["", ""], rows)


def cycles(count: int) -> str:
    """A number of clock cycles in words."""
    return f"{count} cycle{'' if count == 1 else 's'}"


def stage_seconds(stages: Mapping[str, float]) -> str:
    """The stages that took long enough to be told."""
    return ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items() if value >= 0.05)
