"""What the parts of a design cost on each family, and what each device has: one table, fitted to real builds.

``python bench/estimate.py --fit`` builds the designs, fits the numbers and prints this table anew.

# Ref: fitted 2026-11-23 with pyosys 0.70 and nextpnr 0.11.1 (YoWASP) on the designs of bench/estimate.py
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
                "link": 561.637,
                "input_bits": 1.171,
                "output_bits": 0.811,
                "chains": 0.195,
                "chain_bits": 1.415,
                "joined_bits": 1.317,
                "gates": 0.291,
                "table_luts": 0.479,
                "tree_luts": 0.74,
                "bare": 1.179,
            },
            "ICESTORM_RAM": {"link": 4.0},
        },
        timing=Timing(start=0.0, adder=2.36, lut=0.77, bit=0.17, crowd=0.84, link=7.87),
    ),
    Family.ECP5: Costs(
        logic="TRELLIS_COMB",
        resources={
            "TRELLIS_COMB": {
                "link": 546.785,
                "input_bits": 0.364,
                "output_bits": 0.673,
                "chains": 1.608,
                "chain_bits": 1.233,
                "joined_bits": 1.995,
                "gates": 0.695,
                "table_luts": 0.497,
                "tree_luts": 0.816,
                "registers": 0.01,
                "bare": 0.123,
            },
            "TRELLIS_FF": {"link": 338.148, "input_bits": 1.053, "output_bits": 0.735, "registers": 0.981},
            "DP16KD": {"link": 1.0},
        },
        timing=Timing(start=3.5, adder=1.98, lut=0.26, bit=0.13, crowd=0.0, link=6.6),
    ),
    Family.GOWIN: Costs(
        logic="LUT4",
        resources={
            "LUT4": {
                "link": 468.138,
                "input_bits": 1.095,
                "output_bits": 0.736,
                "chain_bits": 0.525,
                "joined_bits": 1.189,
                "gates": 0.239,
                "table_luts": 0.54,
                "tree_luts": 0.717,
                "bare": 1.175,
            },
            "ALU": {"link": 145.968, "input_bits": 0.043, "chains": 1.521, "chain_bits": 0.893, "tree_luts": 0.005},
            "DFF": {"link": 339.148, "input_bits": 1.053, "output_bits": 0.734, "registers": 0.981},
            "BSRAM": {"link": 1.0},
        },
        timing=Timing(start=0.0, adder=1.86, lut=0.31, bit=0.12, crowd=0.43, link=4.67),
    ),
    Family.GATEMATE: Costs(
        logic="CPE_LT",
        resources={
            "CPE_LT": {
                "link": 729.785,
                "input_bits": 1.18,
                "output_bits": 0.822,
                "chain_bits": 0.188,
                "joined_bits": 3.008,
                "table_luts": 0.557,
                "tree_luts": 0.977,
                "bare": 1.197,
            },
            "CPE_FF": {"link": 334.623, "input_bits": 1.053, "output_bits": 0.737, "registers": 0.981},
            "RAM_HALF": {"link": 1.0},
        },
        timing=Timing(start=4.94, adder=3.71, lut=0.49, bit=0.03, crowd=5.89, link=15.6),
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

SLOWNESS: Mapping[str, float] = {"up5k": 2.8, "GW1N-9C": 1.9, "25k8": 0.77, "85k8": 0.77}
"""Of a device, by its name and speed grade, beside the one whose times the table has."""
