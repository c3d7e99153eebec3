"""Every test model on every family, 10,000 random vectors and all corners: integers that differ from the reference.

Compares the reference with da4ml's emulator of the adder graph and with the complete top under Verilator, on the wire.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from built import rtl_firmware
from models import TRAINED, integer_graph

from gatesmith.devices import open_device
from gatesmith.gateware.trace import trace
from gatesmith.model import reference
from gatesmith.model.vectors import corner_vectors, random_vectors

FAMILIES = {"ice40": "icebreaker", "ecp5": "ulx3s-85f", "gowin": "tangnano9k", "gatemate": "gatemate-a1-evb"}
RANDOM = 10_000


def main() -> None:
    """Count the differences."""
    rows = []
    for name in TRAINED:
        graph = integer_graph(name)
        vectors = np.concatenate([corner_vectors(graph), random_vectors(graph, RANDOM)])
        wanted = reference.infer(graph, vectors)
        adders = int((trace(graph).infer(vectors) != wanted).any(axis=1).sum())
        for family, board in FAMILIES.items():
            print(f"{name} {family} ...", file=sys.stderr, flush=True)
            firmware = rtl_firmware(graph, board)
            start = time.perf_counter()
            with open_device("emulator:bench") as device:
                device.program(firmware)
                given = firmware.contract.unpack_outputs(device.infer(firmware.contract.pack_inputs(vectors)))
            rows.append(
                {
                    "model": name,
                    "family": family,
                    "samples": len(vectors),
                    "differ_adder_graph": adders,
                    "differ_rtl_over_the_wire": int((given != wanted).any(axis=1).sum()),
                    "seconds": round(time.perf_counter() - start, 1),
                }
            )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
