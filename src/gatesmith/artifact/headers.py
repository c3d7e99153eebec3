"""What a bitstream's file says of the part that it is for, as far as its format says it.

A file of a known format that breaks it is refused; one of an unknown format says nothing, and that is told.
"""

# Ref: Xilinx .bit: fpga-faq.com FAQ 0026; part names there lack the leading "xc"
# Ref: .xclbin: XRT xclbin.h, struct axlf: total length at 0x130, platform (VBNV) at 0x160
# Ref: iCE40: Project IceStorm, "Bitstream file format": commands 6, 7, 8 are bank width - 1, height, offset;
#      sizes of the configuration memory are those that icepack writes for each device
# Ref: ECP5: Lattice FPGA-TN-02039, VERIFY_ID (0xE2); IDCODEs: Project Trellis, devices.json
# Ref: Gowin .fs: Project Apicula; SUG100 "device ID" (command 0x06)

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from gatesmith.errors import ManifestInvalid

__all__ = ["Header", "read_header"]

_BIT = bytes.fromhex("00090ff00ff00ff00ff0000001")
_XCLBIN, _XCLBIN_LENGTH, _XCLBIN_PLATFORM = b"xclbin2\0", 0x130, 0x160
_ICE40_SYNC, _ECP5_SYNC = bytes.fromhex("7eaa997e"), bytes.fromhex("ffffbdb3")
_HEAD_BYTES = 64 << 10
_ICE40 = {
    (182, 80): ("iCE40LP384",),
    (332, 144): ("iCE40HX1K", "iCE40LP1K", "iCE40LP640"),
    (692, 336): ("iCE40UP5K", "iCE40UP3K"),
    (872, 272): ("iCE40HX8K", "iCE40HX4K", "iCE40LP8K", "iCE40LP4K"),
    (656, 176): ("iCE40LM", "iCE5LM"),
    (692, 176): ("iCE5LP",),
}
_ECP5 = {
    0x21111043: "LFE5U-12F",
    0x41111043: "LFE5U-25F",
    0x41112043: "LFE5U-45F",
    0x41113043: "LFE5U-85F",
    0x01111043: "LFE5UM-25F",
    0x01112043: "LFE5UM-45F",
    0x01113043: "LFE5UM-85F",
    0x81111043: "LFE5UM5G-25F",
    0x81112043: "LFE5UM5G-45F",
    0x81113043: "LFE5UM5G-85F",
}
_GOWIN = {0x1100481B: ("GW1NR-LV9", "GW1N-LV9"), 0x0000081B: ("GW2AR-LV18", "GW2A-LV18")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The format of a bitstream's file and the parts that it may be for, as the starts of their names.

    Without ``parts`` the file does not say; ``platform`` is what an .xclbin names in their place.
    """

    format: str = "unknown"
    parts: tuple[str, ...] = ()
    platform: str = ""

    def check(self, part: str, *, platform: str = "") -> None:
        """See that a declared part, or platform, is one that the file may be for.

        Raises
        ------
        ManifestInvalid
            When it is another.
        """
        if self.parts and not any(_plain(part).startswith(_plain(one)) for one in self.parts):
            raise ManifestInvalid(
                f"bitstream ({self.format}) is for {' or '.join(self.parts)}, the contract says {part}", part=part
            )
        if self.platform and platform and self.platform != platform:
            raise ManifestInvalid(f"bitstream ({self.format}) is for {self.platform}, the contract says {platform}")


def read_header(content: bytes) -> Header:
    """Read what a bitstream's file says of itself.

    Raises
    ------
    ManifestInvalid
        When it starts like one of a known format and breaks it.
    """
    head = content[:_HEAD_BYTES]
    try:
        if head.startswith(_BIT):
            return _xilinx(content)
        if head.startswith(_XCLBIN):
            return _xclbin(content)
        if head.startswith(b"\xff\x00") and _ECP5_SYNC in head:
            return _ecp5(head)
        if head[:1] in {b"\xff", _ICE40_SYNC[:1]} and _ICE40_SYNC in head:
            return _ice40(content)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ManifestInvalid(f"bitstream is damaged: its header ends too early ({error})") from error
    if head.startswith(b"SOF\0"):
        return Header(format="Quartus .sof")
    return _gowin(head) if re.match(rb"(//[^\n]*\n)*[01]{16,}\s", head) else Header()


def _xilinx(content: bytes) -> Header:
    place, fields = len(_BIT), dict[bytes, str]()
    for key in (b"a", b"b", b"c", b"d"):
        if content[place : place + 1] != key:
            raise ManifestInvalid(f"bitstream is damaged: its header has no field {key.decode()!r}")
        (size,) = struct.unpack_from(">H", content, place + 1)
        fields[key] = content[place + 3 : place + 3 + size].rstrip(b"\0").decode("ascii")
        place += 3 + size
    key, size = struct.unpack_from(">cI", content, place)
    if key != b"e" or size != len(content) - place - 5:
        raise ManifestInvalid(
            f"bitstream is damaged: its header announces {size} bytes, {len(content) - place - 5} follow", size=size
        )
    return Header(format="Xilinx .bit", parts=(fields[b"b"],) if fields[b"b"] else ())


def _xclbin(content: bytes) -> Header:
    (size,) = struct.unpack_from("<Q", content, _XCLBIN_LENGTH)
    if size != len(content):
        raise ManifestInvalid(f"bitstream is damaged: it announces {size} bytes and has {len(content)}", size=size)
    platform = content[_XCLBIN_PLATFORM : _XCLBIN_PLATFORM + 64].split(b"\0")[0].decode("ascii")
    return Header(format="Xilinx .xclbin", platform=platform)


def _ecp5(head: bytes) -> Header:
    found = re.compile(b"\xe2\0\0\0(....)", re.DOTALL).search(head, head.index(_ECP5_SYNC))
    code = int.from_bytes(found[1], "big") if found else 0
    return Header(format="ECP5 .bit", parts=(_ECP5[code],) if code in _ECP5 else ())


def _ice40(content: bytes) -> Header:
    place = content.index(_ICE40_SYNC) + len(_ICE40_SYNC)
    width = height = offset = 0
    size = (0, 0)
    while True:
        command, length = content[place] >> 4, content[place] & 15
        value = int.from_bytes(content[place + 1 : place + 1 + length], "big")
        place += 1 + length
        if command == 6:
            width = value + 1
        elif command == 7:
            height = value
        elif command == 8:
            offset = value
        elif command == 0 and value in {1, 3}:  # configuration or RAM: the bank and two bytes of zeros follow
            if value == 1:
                size = (max(size[0], width), max(size[1], offset + height))
            place += width * height // 8 + 2
        elif command == 0 and value == 6:  # wake up: the end
            break
    return Header(format="iCE40 .bin", parts=_ICE40.get(size, ()))


def _gowin(head: bytes) -> Header:
    said = re.search(rb"//\s*Part Number:\s*(\S+)", head)
    if said:
        return Header(format="Gowin .fs", parts=(said[1].decode("ascii", "replace"),))
    code = re.search(rb"^00000110[01]{24}([01]{32})\s*$", head, re.MULTILINE)
    return Header(format="Gowin .fs", parts=_GOWIN.get(int(code[1], 2), ()) if code else ())


def _plain(part: str) -> str:
    return re.sub(r"[^a-z0-9]", "", part.lower()).removeprefix("xc")
