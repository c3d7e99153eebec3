"""The picture shows every used tile where it is, what it holds, and the critical path across it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest

from gatesmith.toolchain.picture import draw

SVG = "{http://www.w3.org/2000/svg}"


def _draw(sites: list[tuple[str, str]], path: list[list[int]]) -> ET.Element:
    cells = {str(i): {"type": t, "attributes": {"NEXTPNR_BEL": site}} for i, (t, site) in enumerate(sites)}
    cells["unplaced"] = {"type": "GND", "attributes": {}}
    hops = [{"delay": 1.0, "type": "routing", "from": {"loc": a}, "to": {"loc": b}} for a, b in pairwise(path)]
    report: dict[str, Any] = {
        "critical_paths": [{"from": "posedge clk", "to": "posedge clk", "path": hops}] if hops else []
    }
    routed = {"modules": {"top": {"cells": cells}}}
    return ET.fromstring(draw(json.dumps(routed).encode(), json.dumps(report).encode()))


def _squares(picture: ET.Element) -> dict[tuple[int, int], dict[str, str]]:
    found = {}
    for rect in picture.findall(f"{SVG}rect"):
        if "fill-opacity" in rect.attrib:
            found[(int(rect.attrib["x"]) - 4) // 8, (int(rect.attrib["y"]) - 4) // 8] = rect.attrib
    return found


def test_every_used_tile_is_drawn_once_in_both_ways_of_naming() -> None:
    squares = _squares(_draw([("ICESTORM_LC", "X1/Y2/lc0"), ("ICESTORM_LC", "X1/Y2/lc1"), ("LUT4", "X30Y40/LUT4")], []))
    assert set(squares) == {(1, 2), (30, 40)}


def test_a_fuller_tile_is_darker() -> None:
    squares = _squares(_draw([("LUT4", "X0/Y0/a"), ("LUT4", "X1/Y0/a"), ("LUT4", "X1/Y0/b"), ("LUT4", "X1/Y0/c")], []))
    assert float(squares[0, 0]["fill-opacity"]) < float(squares[1, 0]["fill-opacity"]) == 1.0


@pytest.mark.parametrize(
    ("types", "like"),
    [
        (["ICESTORM_RAM", "DP16KD", "BSRAM", "RAM_HALF", "pROM", "SDPB", "TRELLIS_RAMW"], "memory"),
        (["ICESTORM_DSP", "MULT18X18D", "MULT9X9", "CC_MULT"], "multiplier"),
        (["SB_IO", "TRELLIS_IO", "IOB", "IBUF", "GPIO"], "pin"),
        (
            ["ICESTORM_LC", "TRELLIS_COMB", "LUT4", "DFFE", "ALU", "CPE_L2T4", "CPE_RAMIO", "CPE_RAMO", "CPE_FF"],
            "logic",
        ),
    ],
)
def test_kinds_have_their_colours(types: list[str], like: str) -> None:
    picture = _draw([(type_, f"X{i}/Y0/a") for i, type_ in enumerate(types)], [])
    names = [text.text for text in picture.findall(f"{SVG}text")]
    keys = [rect.attrib["fill"] for rect in picture.findall(f"{SVG}rect")][-len(names) :]
    colour = dict(zip(names, keys, strict=True))[like]
    wrong = [types[x] for (x, _), square in _squares(picture).items() if square["fill"] != colour]
    assert wrong == []


def test_the_critical_path_goes_through_its_tiles() -> None:
    picture = _draw([("LUT4", "X9/Y9/a")], [[1, 2], [1, 2], [5, 2], [5, 6]])
    (path,) = picture.findall(f"{SVG}path")
    assert path.attrib["d"] == "M15.5 23.5L47.5 23.5L47.5 55.5"


def test_a_design_without_registers_has_no_path() -> None:
    assert _draw([("LUT4", "X9/Y9/a")], []).findall(f"{SVG}path") == []
