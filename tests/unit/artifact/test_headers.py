from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from bitfiles import xclbin, xilinx
from requirements import require

from gatesmith.artifact.headers import read_header
from gatesmith.errors import ManifestInvalid


@pytest.mark.parametrize(
    ("said", "declared", "fits"),
    [
        ("7z020clg400", "xc7z020clg400-1", True),
        ("7z020clg400", "XC7Z020-CLG400", True),
        ("7z020clg400", "xc7z010clg400-1", False),
        ("7z020clg400", "xc7z020clg484-1", False),
        ("xczu9eg-ffvb1156-2-e", "xczu9eg-ffvb1156-2-e", True),
        ("xczu9eg-ffvb1156-2-e", "xczu7ev-ffvc1156-2-e", False),
    ],
)
def test_a_xilinx_part_is_compared(said: str, declared: str, fits: bool) -> None:
    header = read_header(xilinx(said))
    assert (header.format, header.parts) == ("Xilinx .bit", (said,))
    if fits:
        header.check(declared)
        return
    with pytest.raises(ManifestInvalid, match=f"is for {said}, the contract says {declared}"):
        header.check(declared)


def test_file_reads_the_same_of_a_bit(tmp_path: Path) -> None:
    require("file")
    (tmp_path / "top.bit").write_bytes(xilinx("7z020clg400"))
    said = subprocess.run(["file", "top.bit"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "Xilinx BIT data" in said
    assert "for 7z020clg400" in said


@pytest.mark.parametrize("cut", [14, 20, 60, 100, -1])
def test_a_bit_that_is_cut_is_refused(cut: int) -> None:
    with pytest.raises(ManifestInvalid, match="bitstream is damaged"):
        read_header(xilinx("7z020clg400")[:cut])


def test_a_bit_with_a_wrong_length_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="announces 7 bytes, 32 follow"):
        read_header(xilinx("7z020clg400", size=7))


def test_an_xclbin_names_its_platform() -> None:
    header = read_header(xclbin("xilinx_u250_gen3x16_xdma_4_1_202210_1"))
    header.check("xcu250-figd2104-2L-e", platform="xilinx_u250_gen3x16_xdma_4_1_202210_1")
    with pytest.raises(ManifestInvalid, match="is for xilinx_u250_gen3x16"):
        header.check("xcu250-figd2104-2L-e", platform="xilinx_u50_gen3x16_xdma_201920_3")
    with pytest.raises(ManifestInvalid, match="announces 1000 bytes and has 999"):
        read_header(xclbin("x")[:-1])


@pytest.mark.parametrize(
    ("device", "fits", "other"),
    [
        ("384", "iCE40LP384-SG32", "iCE40HX1K-TQ144"),
        ("1k", "iCE40HX1K-TQ144", "iCE40HX8K-CT256"),
        ("5k", "iCE40UP5K-SG48", "iCE40HX8K-CT256"),
        ("8k", "iCE40HX8K-CT256", "iCE40UP5K-SG48"),
        ("8k", "iCE40HX4K-TQ144", "iCE40HX1K-TQ144"),
        ("u4k", "iCE5LP4K-SG48", "iCE40UP5K-SG48"),
    ],
)
def test_an_ice40_bitstream_says_its_device(tmp_path: Path, device: str, fits: str, other: str) -> None:
    """Bitstreams that IceStorm's own packer writes, of a device with nothing configured."""
    if shutil.which("icepack") is None:
        require("icepack")
        pytest.skip("icepack is not on PATH")
    (tmp_path / "empty.asc").write_text(f".device {device}\n.logic_tile 1 1\n")
    subprocess.run(["icepack", "empty.asc", "empty.bin"], cwd=tmp_path, check=True, capture_output=True)
    content = (tmp_path / "empty.bin").read_bytes()
    header = read_header(content)
    header.check(fits)
    with pytest.raises(ManifestInvalid, match="the contract says"):
        header.check(other)
    with pytest.raises(ManifestInvalid, match="ends too early"):
        read_header(content[: len(content) // 2])


@pytest.mark.parametrize("comment", [b"", b"Part: LFE5U-12F-6CABGA381\0", b"a\0b\0"])
def test_an_ecp5_bitstream_says_its_idcode(comment: bytes) -> None:
    content = b"\xff\0" + comment + bytes.fromhex("ffffffbdb3 ffffffff 3b000000 e2000000 21111043 22000000 40000000")
    header = read_header(content + bytes(100))
    assert header.parts == ("LFE5U-12F",)
    header.check("LFE5U-12F-6BG381C")
    with pytest.raises(ManifestInvalid, match=r"\(ECP5 \.bit\) is for LFE5U-12F, the contract says LFE5U-85F"):
        header.check("LFE5U-85F-6BG381C")


def test_a_gowin_file_says_its_part_or_code() -> None:
    said = read_header(b"//Part Number: GW1NR-LV9QN88PC6/I5\n" + b"1" * 64 + b"\n")
    said.check("GW1NR-LV9QN88PC6/I5")
    coded = read_header(b"1" * 64 + b"\n" + b"0" * 5 + b"110" + b"0" * 24 + f"{0x1100481B:032b}".encode() + b"\n")
    coded.check("GW1NR-LV9QN88PC6/I5")
    with pytest.raises(ManifestInvalid):
        coded.check("GW2AR-LV18QN88C8/I7")


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"SOF\0" + bytes(100), b"\xff" * 100, bytes(range(256))])
def test_what_says_nothing_is_not_checked(content: bytes) -> None:
    header = read_header(content)
    assert header.parts == ()
    header.check("anything")
