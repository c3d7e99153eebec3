"""Compiles the protocols' messages into the descriptors that the package ships; ``--check`` only compares.

Needs grpcio-tools, which the development group has. Descriptors hold no comments and no path of this machine, so every
machine makes the same bytes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "gatesmith"
FOLDERS = (PACKAGE / "oip", PACKAGE / "kube")


def compiled(sources: Path) -> bytes:
    """A serialized FileDescriptorSet of all sources in a folder."""
    names = sorted(path.name for path in sources.glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out"
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={target}", *names]
        subprocess.run(command, check=True, cwd=sources, timeout=120)
        return target.read_bytes()


def main() -> int:
    """Write or compare."""
    stale = False
    for folder in FOLDERS:
        fresh, place = compiled(folder / "protos"), folder / "protos.binpb"
        if not place.is_file() or place.read_bytes() != fresh:
            stale = True
            if "--check" not in sys.argv[1:]:
                place.write_bytes(fresh)
    return int(stale and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
