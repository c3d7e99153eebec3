"""What the parts of a design cost on each family, and what each device has: one table, fitted to real builds.

``python bench/estimate.py --fit`` builds the designs, fits the numbers and prints this table anew.

# Ref: fitted 2026-11-22 with pyosys 0.70 and nextpnr 0.11.1 (YoWASP) on the designs of bench/estimate.py
# Ref: nextpnr 0.11.1 --report, "available", for each device
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatesmith.boards import Family

__all__ = ["AVAILABLE", "COSTS", "SLOWNESS", "Costs", "Timing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Nanoseconds of a path: a register and its way, an adder, a LUT, a bit of the widest carry, and crowding.

    ``link`` is the longest path of the link; ``crowd`` counts for each doubling of the logic beyond 1000 LUTs.
    """

    start: float
    adder: float
    lut: float
    bit: float
    crowd: float
    link: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """By the toolchain's name of a resource, what each part needs of it: the weights of a sum.

    ``link`` is the link and the top, ``input_bits`` and ``output_bits`` are a sample's; the others are fields of
    :class:`gatesmith.estimate.count.Parts`, where ``chain_bits`` does not count those that are joined.
    """

    logic: str
    resources: Mapping[str, Mapping[str, float]]
    timing: Timing


COSTS: Mapping[Family, Costs] = {
    Family.ICE40: Costs(
        logic="ICESTORM_LC",
        resources={
            "ICESTORM_LC": {
                "link": 582.188,
                "input_bits": 1.114,
                "output_bits": 1.243,
                "chains": 0.037,
                "chain_bits": 1.315,
                "joined_bits": 1.377,
                "gates": 0.772,
                "table_luts": 0.5,
                "tree_luts": 0.491,
                "registers": 0.008,
                "bare": 1.161,
            },
            "ICESTORM_RAM": {"link": 4.0},
        },
        timing=Timing(start=1.33, adder=2.66, lut=0.77, bit=0.06, crowd=0.25, link=7.7),
    ),
    Family.ECP5: Costs(
        logic="TRELLIS_COMB",
        resources={
            "TRELLIS_COMB": {
                "link": 560.783,
                "input_bits": 0.222,
                "output_bits": 1.474,
                "chains": 1.578,
                "chain_bits": 1.309,
                "joined_bits": 1.562,
                "gates": 0.804,
                "table_luts": 0.5,
                "tree_luts": 0.565,
            },
            "TRELLIS_FF": {"link": 333.62, "input_bits": 1.002, "output_bits": 1.019, "registers": 0.995},
            "DP16KD": {"link": 1.0},
        },
        timing=Timing(start=2.33, adder=2.23, lut=0.0, bit=0.18, crowd=0.0, link=6.92),
    ),
    Family.GOWIN: Costs(
        logic="LUT4",
        resources={
            "LUT4": {
                "link": 583.032,
                "input_bits": 1.486,
                "output_bits": 1.313,
                "chains": 0.259,
                "chain_bits": 0.317,
                "joined_bits": 1.13,
                "table_luts": 0.5,
                "tree_luts": 0.932,
                "bare": 1.057,
            },
            "ALU": {"link": 146.132, "input_bits": 0.017, "chain_bits": 1.015, "joined_bits": 0.499},
            "DFF": {"link": 334.646, "input_bits": 1.0, "output_bits": 1.015, "registers": 0.998},
            "BSRAM": {"link": 1.0},
        },
        timing=Timing(start=3.12, adder=0.65, lut=0.42, bit=0.0, crowd=1.23, link=2.89),
    ),
    Family.GATEMATE: Costs(
        logic="CPE_LT",
        resources={
            "CPE_LT": {
                "link": 721.217,
                "input_bits": 1.13,
                "output_bits": 1.664,
                "chains": 1.307,
                "joined_bits": 1.885,
                "gates": 0.106,
                "table_luts": 0.5,
                "tree_luts": 1.032,
                "bare": 1.03,
            },
            "CPE_FF": {"link": 330.03, "input_bits": 1.001, "output_bits": 1.018, "registers": 0.998},
            "RAM_HALF": {"link": 1.0},
        },
        timing=Timing(start=4.8, adder=5.01, lut=0.0, bit=0.0, crowd=2.34, link=15.32),
    ),
}

AVAILABLE: Mapping[str, Mapping[str, int]] = {
    "CCGM1A1": {"CPE_LT": 40960, "CPE_FF": 40960, "RAM_HALF": 64},
    "hx8k": {"ICESTORM_LC": 7680, "ICESTORM_RAM": 32},
    "up5k": {"ICESTORM_LC": 5280, "ICESTORM_RAM": 30},
    "GW2A-18C": {"LUT4": 20736, "ALU": 15552, "DFF": 15552, "BSRAM": 46},
    "GW1N-9C": {"LUT4": 8640, "ALU": 6480, "DFF": 6480, "BSRAM": 26},
    "12k": {"TRELLIS_COMB": 24288, "TRELLIS_FF": 24288, "DP16KD": 56},
    "25k": {"TRELLIS_COMB": 24288, "TRELLIS_FF": 24288, "DP16KD": 56},
    "45k": {"TRELLIS_COMB": 43848, "TRELLIS_FF": 43848, "DP16KD": 108},
    "85k": {"TRELLIS_COMB": 83640, "TRELLIS_FF": 83640, "DP16KD": 208},
}
"""By the toolchain's name of a device."""

SLOWNESS: Mapping[str, float] = {"up5k": 2.8, "GW1N-9C": 2.2}
"""Of a device, by its name and speed grade, beside the one whose times the table has."""
