"""The hinge: a firmware is the bytes that configure an FPGA and the contract to use them.

Left of it a build machine makes it (frameworks, Amaranth, toolchains); right of it a light runtime stores, loads and
serves it. Nothing right of the hinge imports anything left of it. All here is deterministic: what a build took in
seconds or memory belongs to the build's result and not to the firmware, so the same inputs give the same digests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatesmith.contract import Contract
from gatesmith.errors import ManifestInvalid

__all__ = ["Design", "Firmware", "Link", "Report", "Utilization"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """The UART between host and device: 8N1, ``divisor`` clock cycles for each bit.

    ``kind`` is ``uart``, or ``none`` for gateware of another flow that has another way to its host.

    Raises
    ------
    ManifestInvalid
        When a number does not fit where an identify frame says it.
    """

    divisor: int
    clock_hz: int
    kind: str = "uart"

    def __post_init__(self) -> None:
        if not (1 <= self.divisor < 1 << 16 and 1 <= self.clock_hz < 1 << 32):
            raise ManifestInvalid(
                f"link has {self.divisor} clock cycles for each bit at {self.clock_hz} Hz, 1 to {(1 << 16) - 1} "
                f"at 1 to {(1 << 32) - 1} are possible",
                divisor=self.divisor,
                clock_hz=self.clock_hz,
            )

    @property
    def baud(self) -> int:
        """Bits per second on the line, as a serial port wants them."""
        return round(self.clock_hz / self.divisor)


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """Gateware, ready for a toolchain.

    ``sources`` maps file names to text: one RTLIL file (``.il``) and any Verilog (``.v``) and tables (``.mem``) that it
    instances. ``top`` has three one-bit ports: ``clk`` and ``rx`` in, ``tx`` out.
    """

    top: str
    sources: Mapping[str, str]
    build_id: str
    link: Link
    latency_cycles: int
    initiation_interval_cycles: int

    @property
    def clock_hz(self) -> int:
        """The clock that ``clk`` is driven with."""
        return self.link.clock_hz


@dataclass(frozen=True, kw_only=True, slots=True)
class Utilization:
    """Use of one resource, under the toolchain's own name."""

    used: int
    available: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the toolchain found: deterministic facts only."""

    utilization: Mapping[str, Utilization]
    fmax_hz: float
    critical_path: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        return {
            "utilization": {
                name: {"used": u.used, "available": u.available} for name, u in sorted(self.utilization.items())
            },
            "fmax_hz": self.fmax_hz,
            "critical_path": list(self.critical_path),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        """Read back what :meth:`to_json` wrote."""
        return cls(
            utilization={name: Utilization(**numbers) for name, numbers in data["utilization"].items()},
            fmax_hz=float(data["fmax_hz"]),
            critical_path=tuple(data["critical_path"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Firmware:
    """A bitstream and the contract to use it.

    Parameters
    ----------
    name : str
        The model's name.
    hdl : mapping of str to bytes
        File name to content; ``top.v`` is the Verilog of the whole top, written from the very netlist input that was
        synthesised; an emulated board runs it.
    build_id : str
        32 hex digits that the running gateware answers to an identify frame.
    quantization : mapping
        How formats were chosen and what that cost: ``agreement``, ``max_abs_error`` and the bits.
    verified : tuple of str
        Levels at which this firmware was proved bit-exact: ``reference``, ``rtl``, ...
    vectors : tuple of two bytes
        Test vectors: packed inputs and the reference's packed outputs, back to back.
    reports : mapping of str to bytes
        Further files for people: ``placed.svg``, ...
    parameters : mapping
        What was asked of the build, as far as it decides the result: ``precision``, ``seed``, ...
    model_file : tuple of str and bytes
        Name and content of the trained model's file, which travels beside the firmware; empty when not at hand.
    digest : str
        Digest of the manifest that this was read from, or empty; not part of what the firmware is.
    """

    name: str
    board: str
    part: str
    family: str
    bitstream: bytes
    hdl: Mapping[str, bytes]
    contract: Contract
    link: Link
    latency_cycles: int
    initiation_interval_cycles: int
    build_id: str
    engine: str
    model_digest: str
    report: Report
    toolchain: Mapping[str, str]
    quantization: Mapping[str, Any]
    verified: tuple[str, ...] = ()
    vectors: tuple[bytes, bytes] = (b"", b"")
    reports: Mapping[str, bytes] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model_file: tuple[str, bytes] = ("", b"")
    digest: str = field(default="", compare=False)

    @property
    def clock_hz(self) -> int:
        """Clock of the gateware."""
        return self.link.clock_hz

    def metadata(self) -> dict[str, Any]:
        """All but the bytes, as the artifact's config stores it."""
        return {
            "name": self.name,
            "board": self.board,
            "part": self.part,
            "family": self.family,
            "engine": self.engine,
            "build_id": self.build_id,
            "model_digest": self.model_digest,
            "contract": self.contract.to_json(),
            "link": {"kind": self.link.kind, "divisor": self.link.divisor, "clock_hz": self.link.clock_hz},
            "latency_cycles": self.latency_cycles,
            "initiation_interval_cycles": self.initiation_interval_cycles,
            "report": self.report.to_json(),
            "toolchain": dict(sorted(self.toolchain.items())),
            "quantization": dict(self.quantization),
            "verified": list(self.verified),
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_metadata(
        cls,
        data: dict[str, Any],
        *,
        bitstream: bytes,
        hdl: Mapping[str, bytes],
        vectors: tuple[bytes, bytes] = (b"", b""),
        reports: Mapping[str, bytes] | None = None,
    ) -> Firmware:
        """Put a firmware together again.

        Raises
        ------
        ManifestInvalid
            When the metadata lacks a field or holds one of a wrong kind.
        """
        try:
            link = data["link"]
            return cls(
                name=str(data["name"]),
                board=str(data["board"]),
                part=str(data["part"]),
                family=str(data["family"]),
                bitstream=bitstream,
                hdl=hdl,
                contract=Contract.from_json(data["contract"]),
                link=Link(divisor=int(link["divisor"]), clock_hz=int(link["clock_hz"]), kind=str(link["kind"])),
                latency_cycles=_count(data, "latency_cycles", least=0),
                initiation_interval_cycles=_count(data, "initiation_interval_cycles", least=1),
                build_id=_build_id(data),
                engine=str(data["engine"]),
                model_digest=str(data["model_digest"]),
                report=Report.from_json(data["report"]),
                toolchain={str(k): str(v) for k, v in data["toolchain"].items()},
                quantization=dict(data["quantization"]),
                verified=tuple(data["verified"]),
                parameters=dict(data.get("parameters", {})),
                vectors=vectors,
                reports=reports or {},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ManifestInvalid(
                f"firmware metadata is not valid: {type(error).__name__} {error}; rebuild the firmware"
            ) from error


def _count(data: dict[str, Any], key: str, *, least: int) -> int:
    number = int(data[key])
    if number < least:
        raise ValueError(f"{key} is {number}, at least {least} is needed")
    return number


def _build_id(data: dict[str, Any]) -> str:
    build_id = str(data["build_id"])
    if not re.fullmatch(r"[0-9a-f]{32}", build_id):
        raise ValueError(f"build_id is {build_id[:40]!r}, 32 hex digits are needed")
    return build_id
