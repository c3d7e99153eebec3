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
                "link": 562.336,
                "input_bits": 1.122,
                "output_bits": 2.157,
                "chain_bits": 1.258,
                "joined_bits": 1.368,
                "gates": 0.572,
                "table_luts": 0.464,
                "tree_luts": 0.495,
                "registers": 0.097,
                "bare": 1.011,
            },
            "ICESTORM_RAM": {"link": 4.0},
        },
        timing=Timing(start=0.0, adder=3.04, lut=0.91, bit=0.05, crowd=0.32, link=7.68),
    ),
    Family.ECP5: Costs(
        logic="TRELLIS_COMB",
        resources={
            "TRELLIS_COMB": {
                "link": 554.324,
                "input_bits": 0.266,
                "output_bits": 1.776,
                "chains": 1.597,
                "chain_bits": 1.313,
                "joined_bits": 1.538,
                "gates": 0.585,
                "table_luts": 0.412,
                "tree_luts": 0.543,
            },
            "TRELLIS_FF": {"link": 344.605, "input_bits": 1.014, "output_bits": 0.47, "registers": 0.99},
            "DP16KD": {"link": 1.0},
        },
        timing=Timing(start=0.5, adder=2.75, lut=0.44, bit=0.13, crowd=0.0, link=6.88),
    ),
    Family.GOWIN: Costs(
        logic="LUT4",
        resources={
            "LUT4": {
                "link": 532.96,
                "input_bits": 1.475,
                "output_bits": 3.612,
                "chains": 0.193,
                "chain_bits": 0.376,
                "joined_bits": 1.027,
                "table_luts": 0.451,
                "tree_luts": 0.96,
                "bare": 0.927,
            },
            "ALU": {"link": 149.54, "input_bits": 0.005, "chain_bits": 1.022, "joined_bits": 0.5},
            "DFF": {"link": 345.595, "input_bits": 1.014, "output_bits": 0.47, "registers": 0.99},
            "BSRAM": {"link": 1.0},
        },
        timing=Timing(start=3.27, adder=0.41, lut=0.24, bit=0.03, crowd=1.87, link=2.83),
    ),
    Family.GATEMATE: Costs(
        logic="CPE_LT",
        resources={
            "CPE_LT": {
                "link": 716.787,
                "input_bits": 1.14,
                "output_bits": 2.361,
                "chains": 0.627,
                "chain_bits": 0.061,
                "joined_bits": 1.88,
                "table_luts": 0.372,
                "tree_luts": 1.033,
                "bare": 1.046,
            },
            "CPE_FF": {"link": 341.025, "input_bits": 1.015, "output_bits": 0.473, "registers": 0.991},
            "RAM_HALF": {"link": 1.0},
        },
        timing=Timing(start=3.73, adder=4.71, lut=0.43, bit=0.0, crowd=4.01, link=15.32),
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

SLOWNESS: Mapping[str, float] = {"up5k": 2.8, "GW1N-9C": 2.2, "25k8": 0.77, "85k8": 0.77}
"""Of a device, by its name and speed grade, beside the one whose times the table has."""
