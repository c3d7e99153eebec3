"""Compiles the protocols' messages into the descriptors that the package ships; ``--check`` only compares.

Needs grpcio-tools, which the development group has. Descriptors hold no comments and no path of this machine, so every
machine makes the same bytes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "src" / "gatesmith" / "oip"
SOURCES, COMPILED = FOLDER / "protos", FOLDER / "protos.binpb"


def compiled() -> bytes:
    """A serialized FileDescriptorSet of all sources."""
    names = sorted(path.name for path in SOURCES.glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out"
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={target}", *names]
        subprocess.run(command, check=True, cwd=SOURCES, timeout=120)
        return target.read_bytes()


def main() -> int:
    """Write or compare."""
    fresh = compiled()
    if "--check" in sys.argv[1:]:
        return int(not COMPILED.is_file() or COMPILED.read_bytes() != fresh)
    COMPILED.write_bytes(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
