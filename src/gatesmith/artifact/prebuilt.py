"""Firmware that another flow made: its bitstream, and a contract in TOML that says how to use it.

The contract is read strictly, because a key that is misspelt would be lost without a word, and what the bitstream's own
header says has to agree with it. Nothing is proved of such a firmware, so it claims no verification.
"""

# Ref: TOML 1.0; docs/artifact.md "Firmware of other flows" lists the keys

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatesmith.artifact.descriptor import digest_of
from gatesmith.artifact.headers import Header, read_header
from gatesmith.boards import Board, all_boards
from gatesmith.contract import Contract, HostOperation, Port
from gatesmith.errors import GatesmithError, ManifestInvalid
from gatesmith.firmware import Firmware, Link, Report, Utilization
from gatesmith.fixed import FixedPoint
from gatesmith.tensor import Datatype, TensorSpec

__all__ = ["read_prebuilt"]

_TABLES = {"link", "hdl", "toolchain", "utilization", "input", "output"}
_TEXTS = {"name", "board", "part", "family", "flow", "platform", "model", "model_digest", "build_id"}
_NUMBERS = {"clock_hz", "latency_cycles", "initiation_interval_cycles", "fmax_hz"}
_MAX_FILE_BYTES = 256 << 20


def read_prebuilt(bitstream: Path, contract: Path) -> tuple[Firmware, Header]:
    """Put together what another flow made.

    Returns
    -------
    tuple of Firmware and Header
        The header says whether the part could be checked.

    Raises
    ------
    ManifestInvalid
        When the contract breaks its form, or the bitstream is for another part; the message names the key.
    """
    content = _file(bitstream)
    header = read_header(content)
    reader = _Contract(contract)
    firmware = reader.firmware(content)
    header.check(firmware.part, platform=str(reader.data.get("platform", "")))
    return firmware, header


class _Contract:
    """A contract file; files that it names lie beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data = tomllib.loads(_file(path).decode())
        except ValueError as error:
            raise self._wrong(f"is not TOML: {error}") from error
        self._known(self.data, _TABLES | _TEXTS | _NUMBERS, "")

    def firmware(self, bitstream: bytes) -> Firmware:
        """The firmware that the contract describes around a bitstream."""
        board = self._text("board")
        known = all_boards().get(board)
        part, family = self._text("part", known.part if known else None), self._family(known)
        if known and part.casefold() != known.part.casefold():
            raise self._wrong(f"says part {part!r}, board {board} has {known.part}")
        clock_hz = self._count("clock_hz", known.clock_hz if known else None, least=1)
        model_file = self._model()
        toolchain = self.data.get("toolchain", {})
        self._need(_is_texts(toolchain), 'toolchain is not a table of program = "version"')
        return Firmware(
            name=self._text("name"),
            board=board,
            part=part,
            family=family,
            bitstream=bitstream,
            hdl=self._hdl(),
            contract=Contract(inputs=self._ports("input"), outputs=self._ports("output")),
            link=self._link(clock_hz),
            latency_cycles=self._count("latency_cycles", 0),
            initiation_interval_cycles=self._count("initiation_interval_cycles", 1, least=1),
            build_id=self._build_id(bitstream),
            engine=self._text("flow"),
            model_digest=self._model_digest(model_file),
            report=Report(utilization=self._utilization(), fmax_hz=float(self._count("fmax_hz", 0))),
            toolchain=toolchain,
            quantization={},
            model_file=model_file,
        )

    def _family(self, known: Board | None) -> str:
        family = self._text("family", known.family.value if known else None)
        if known and family != known.family:
            raise self._wrong(f"says family {family!r}, board {known.name} has {known.family}")
        return family

    def _link(self, clock_hz: int) -> Link:
        data = self.data.get("link")
        if data is None:
            return Link(kind="none", divisor=1, clock_hz=clock_hz)
        self._need(isinstance(data, dict), "link is not a table")
        self._known(data, {"kind", "divisor"}, "link.")
        self._need(data.get("kind") == "uart", f'link.kind is {data.get("kind")!r}, "uart" is the only kind')
        self._need("build_id" in self.data, "has a link and no build_id: the 32 hex digits that the gateware answers")
        divisor = data.get("divisor")
        if type(divisor) is not int or divisor < 1:
            raise self._wrong(f"link.divisor is {divisor!r}, clock cycles for each bit are needed")
        return Link(divisor=divisor, clock_hz=clock_hz)

    def _build_id(self, bitstream: bytes) -> str:
        build_id = self._text("build_id", hashlib.sha256(bitstream).hexdigest()[:32])
        self._need(bool(re.fullmatch(r"[0-9a-f]{32}", build_id)), f"build_id is {build_id!r}, 32 hex digits are needed")
        return build_id

    def _model(self) -> tuple[str, bytes]:
        name = self._text("model", "")
        return (Path(name).name, _file(self.path.parent / name)) if name else ("", b"")

    def _model_digest(self, model_file: tuple[str, bytes]) -> str:
        found = digest_of(model_file[1]) if model_file[0] else ""
        digest = self._text("model_digest", found)
        if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise self._wrong(f"model_digest is {digest!r}, sha256: and 64 hex digits are needed")
        self._need(not found or digest == found, f"says model_digest {digest}, the model's file has {found}")
        return digest

    def _hdl(self) -> dict[str, bytes]:
        data = self.data.get("hdl", {})
        self._need(_is_texts(data), 'hdl is not a table of "name in the artifact" = "file"')
        return {name: _file(self.path.parent / place) for name, place in sorted(data.items())}

    def _utilization(self) -> dict[str, Utilization]:
        data = self.data.get("utilization", {})
        pairs = isinstance(data, dict) and all(
            isinstance(v, dict) and v.keys() == {"used", "available"} and all(type(n) is int for n in v.values())
            for v in data.values()
        )
        self._need(pairs, "utilization is not a table of resource = {used = N, available = N}")
        return {name: Utilization(**numbers) for name, numbers in data.items()}

    def _ports(self, kind: str) -> tuple[Port, ...]:
        ports = self.data.get(kind)
        if not isinstance(ports, list) or not ports or not all(isinstance(port, dict) for port in ports):
            raise self._wrong(f"has no [[{kind}]]: name, datatype, shape and format of a tensor")
        return tuple(self._port(port, f"{kind} {number}") for number, port in enumerate(ports, 1))

    def _port(self, data: Mapping[str, Any], where: str) -> Port:
        needed = {"name", "datatype", "shape", "format"}
        self._known(data, needed | {"host_operations", "labels"}, f"{where}: ")
        missing = sorted(needed - data.keys())
        self._need(not missing, f"{where}: {', '.join(missing)} is missing")
        shape = data["shape"]
        sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
        self._need(sizes and shape[:1] == [-1] and min(shape[1:], default=1) > 0, f"{where}: shape is {shape!r}, "
                   "-1 and then sizes are needed")  # fmt: skip
        try:
            spec = TensorSpec(name=str(data["name"]), datatype=Datatype(data["datatype"]), shape=tuple(shape))
            host = tuple(_host_operation(one) for one in data.get("host_operations", []))
            labels = tuple(map(str, data.get("labels", [])))
            return Port(spec=spec, format=FixedPoint.from_json(data["format"]), host=host, labels=labels)
        except GatesmithError as error:
            raise self._wrong(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._wrong(f"{where} is not valid: {type(error).__name__} {error}") from error

    def _text(self, key: str, default: str | None = None) -> str:
        value = self.data.get(key, default)
        if not isinstance(value, str) or (not value and key not in {"model", "model_digest"}):
            raise self._wrong(f"{key} is missing" if key not in self.data else f"{key} is {value!r}, text is needed")
        return value

    def _count(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        value = self.data.get(key, default)
        if type(value) is not int or value < least:
            said = f"{key} is {value!r}, a whole number of at least {least} is needed"
            raise self._wrong(said if key in self.data else f"{key} is missing")
        return value

    def _known(self, data: Mapping[str, Any], known: set[str], where: str) -> None:
        unknown = sorted(data.keys() - known)
        self._need(not unknown, f"{where}{', '.join(unknown)} is not known; known are {', '.join(sorted(known))}")

    def _need(self, holds: bool, words: str) -> None:
        if not holds:
            raise self._wrong(words)

    def _wrong(self, words: str) -> ManifestInvalid:
        return ManifestInvalid(f"contract {str(self.path)!r} {words}", path=str(self.path))


def _host_operation(data: Mapping[str, Any]) -> HostOperation:
    if unknown := sorted(data.keys() - {"kind", "scale", "offset", "edges", "missing", "most", "weights"}):
        raise ManifestInvalid(f"host operation has {unknown[0]!r}")
    return HostOperation.from_json(dict(data))


def _is_texts(data: object) -> bool:
    return isinstance(data, dict) and all(isinstance(value, str) and value for value in data.values())


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ManifestInvalid(f"file {str(path)!r} has {path.stat().st_size} bytes, {_MAX_FILE_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise ManifestInvalid(f"file {str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
