from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from bitfiles import xilinx

from gatesmith.artifact.manifest import pack_firmware
from gatesmith.artifact.prebuilt import read_prebuilt
from gatesmith.artifact.store import Store
from gatesmith.devices import open_device
from gatesmith.errors import FirmwareMismatch, ManifestInvalid
from gatesmith.firmware import Link

CONTRACT = """
name = "jets"
board = "pynq-z2"
part = "xc7z020clg400-1"
family = "zynq"
flow = "hls4ml"
clock_hz = 100_000_000
latency_cycles = 12
fmax_hz = 120_000_000
[toolchain]
vivado = "2020.1"
hls4ml = "1.1.0"
[utilization]
LUT = {used = 4000, available = 53200}
[[input]]
name = "x"
datatype = "FP32"
shape = [-1, 16]
format = {signed = true, integer_bits = 5, fraction_bits = 10}
[[output]]
name = "y"
datatype = "FP32"
shape = [-1, 5]
format = {signed = true, integer_bits = 5, fraction_bits = 10}
host_operations = [{kind = "softmax"}]
"""


@pytest.fixture
def bit(tmp_path: Path) -> Path:
    (tmp_path / "top.bit").write_bytes(xilinx("7z020clg400"))
    return tmp_path / "top.bit"


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    text = CONTRACT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "contract.toml").write_text(text)
    return folder / "contract.toml"


def test_it_is_stored_and_comes_back_like_any_other(tmp_path: Path, bit: Path) -> None:
    firmware, header = read_prebuilt(bit, write(tmp_path))
    assert header.parts == ("7z020clg400",)
    store = Store(tmp_path / "store")
    store.save("jets:v1", [firmware])
    loaded = store.load("jets:v1", board="pynq-z2")
    assert loaded == firmware
    assert loaded.bitstream == bit.read_bytes()
    assert loaded.verified == ()
    assert (loaded.engine, loaded.link.kind, dict(loaded.hdl)) == ("hls4ml", "none", {})
    outputs = loaded.contract.decode(np.zeros((2, loaded.contract.output_bytes), dtype=np.uint8))
    assert outputs["y"].shape == (2, 5)
    schema = json.loads(files("gatesmith.artifact").joinpath("firmware.config.v1.schema.json").read_text())
    jsonschema.validate(json.loads(pack_firmware(firmware).blobs[0][1]), schema)
    assert pack_firmware(firmware).descriptor.platform == {
        "os": "xilinx", "architecture": "zynq", "variant": "vivado"
    }  # fmt: skip


def test_it_cannot_be_emulated_without_its_hdl(tmp_path: Path, bit: Path) -> None:
    firmware, _ = read_prebuilt(bit, write(tmp_path))
    with open_device("emulator:0") as device:
        with pytest.raises(FirmwareMismatch, match="made by hls4ml and has no UART link"):
            device.program(firmware)
        with pytest.raises(FirmwareMismatch, match=r"holds no top\.v"):
            device.program(replace(firmware, link=Link(divisor=4, clock_hz=100_000_000)))


def test_the_model_and_the_hdl_travel_along(tmp_path: Path, bit: Path) -> None:
    (tmp_path / "jets.onnx").write_bytes(b"model")
    (tmp_path / "rtl.v").write_bytes(b"module top; endmodule")
    contract = write(
        tmp_path,
        ('flow = "hls4ml"', 'flow = "hls4ml"\nmodel = "jets.onnx"'),
        ("[toolchain]", '[hdl]\n"top.v" = "rtl.v"\n[toolchain]')
    )  # fmt: skip
    firmware, _ = read_prebuilt(bit, contract)
    assert firmware.model_file == ("jets.onnx", b"model")
    assert firmware.hdl == {"top.v": b"module top; endmodule"}
    store = Store(tmp_path / "store")
    store.save("jets:v1", [firmware])
    assert store.load("jets:v1", with_model=True) == firmware
    assert store.load("jets:v1") == replace(firmware, model_file=("", b""))


def test_a_known_board_fills_in_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "top.bin").write_bytes(b"bits")
    contract = write(
        tmp_path, ('"pynq-z2"', '"icebreaker"'), ('part = "xc7z020clg400-1"\nfamily = "zynq"', ""),
        ("clock_hz = 100_000_000", 'build_id = "00112233445566778899aabbccddeeff"'),
        ("[toolchain]", '[link]\nkind = "uart"\ndivisor = 4\n[toolchain]'),
    )  # fmt: skip
    firmware, header = read_prebuilt(tmp_path / "top.bin", contract)
    assert (firmware.part, firmware.family, firmware.clock_hz) == ("iCE40UP5K-SG48", "ice40", 12_000_000)
    assert (firmware.link.kind, firmware.link.divisor) == ("uart", 4)
    assert header.format == "unknown"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "jets"\n', "", "name is missing"),
        ('name = "jets"', "name = 1", "name is 1, text is needed"),
        ('name = "jets"', 'name = ""', "name is '', text is needed"),
        ('board = "pynq-z2"\n', "", "board is missing"),
        ('flow = "hls4ml"\n', "", "flow is missing"),
        ("clock_hz = 100_000_000\n", "", "clock_hz is missing"),
        ("clock_hz = 100_000_000", "clock_hz = 0", "clock_hz is 0, a whole number of at least 1"),
        ("clock_hz = 100_000_000", "clock_hz = true", "clock_hz is True"),
        ("clock_hz = 100_000_000", "clock_mhz = 100", "clock_mhz is not known; known are .*clock_hz"),
        ("latency_cycles = 12", "latency_cycles = -1", "latency_cycles is -1"),
        ("[[input]]", "[[inputs]]", "inputs is not known"),
        ('[[input]]\nname = "x"', '[[input]]\nnam = "x"', "input 1: nam is not known"),
        ("shape = [-1, 16]\n", "", "input 1: shape is missing"),
        ("shape = [-1, 16]", "shape = [16]", r"input 1: shape is \[16\], -1 and then sizes"),
        ("shape = [-1, 16]", "shape = [-1, 0]", "input 1: shape is"),
        ('datatype = "FP32"', 'datatype = "FLOAT"', "input 1 is not valid: ValueError"),
        ("integer_bits = 5", "integer_bits = 60", "input 1: format .* has 71 bits"),
        ("integer_bits = 5, ", "", "input 1 is not valid"),
        ('kind = "softmax"', 'kind = "relu"', "output 1 is not valid"),
        ('vivado = "2020.1"', "vivado = 2020.1", "toolchain is not a table"),
        ("{used = 4000, available = 53200}", "4000", "utilization is not a table"),
        ("[toolchain]", '[link]\nkind = "axi"\n[toolchain]', "link.kind is 'axi'"),
        ("[toolchain]", '[link]\nkind = "uart"\n[toolchain]', "has a link and no build_id"),
        ("[toolchain]", '[hdl]\n"top.v" = "none.v"\n[toolchain]', "none.v' cannot be read: No such file"),
        ('flow = "hls4ml"', 'flow = "hls4ml"\nmodel = "none.onnx"', "none.onnx' cannot be read"),
        ('flow = "hls4ml"', 'flow = "hls4ml"\nmodel_digest = "abc"', "model_digest is 'abc'"),
        ('flow = "hls4ml"', 'flow = "hls4ml"\nbuild_id = "xyz"', "build_id is 'xyz', 32 hex digits"),
        ('part = "xc7z020clg400-1"', 'part = "xc7z010clg400-1"', "is for 7z020clg400, the contract says xc7z010"),
        ('board = "pynq-z2"', 'board = "icebreaker"', "says family 'zynq', board icebreaker has ice40"),
        ('"pynq-z2"\npart = "xc7z020clg400-1"\nfamily = "zynq"', '"icebreaker"\npart = "x"', "says part 'x', board"),
        ("[[output]]", "[[output", "is not TOML"),
    ],
)  # fmt: skip
def test_a_contract_is_read_strictly(tmp_path: Path, bit: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ManifestInvalid, match=words) as caught:
        read_prebuilt(bit, write(tmp_path, (old, new)))
    assert "\n" not in str(caught.value)


def test_missing_files_are_told(tmp_path: Path, bit: Path) -> None:
    with pytest.raises(ManifestInvalid, match=r"contract\.toml' cannot be read"):
        read_prebuilt(bit, tmp_path / "contract.toml")
    with pytest.raises(ManifestInvalid, match=r"none\.bit' cannot be read"):
        read_prebuilt(tmp_path / "none.bit", write(tmp_path))
