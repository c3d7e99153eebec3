"""What an installation weighs: Python packages of the serving extra, and all that the runtime's container file adds.

Prints one JSON object. There need not be a container engine: the Python packages are installed as the container file
does it, into a new environment; Debian's packages are added up by their installed sizes, without those that a base
system has. pip and setuptools, which the container file removes, are not counted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deploy" / "containers" / "Containerfile.runtime"
MIB = 1 << 20


def installed_bytes(extras: str) -> int:
    """Size of the package with these extras and all that they need."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--no-compile", f"{ROOT}[{extras}]"]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        remove = [f"{folder}/bin/python", "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip"]
        subprocess.run(remove, check=True, stdout=sys.stderr)
        (packages,) = Path(folder).glob("lib/python3*/site-packages")
        return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and not path.is_symlink())


def debian_bytes(names: list[str]) -> tuple[int, list[str]]:
    """Installed size of Debian packages and what they need, beyond a minimal system."""
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    entries = [dict(re.findall(r"^([A-Za-z-]+): (.*)$", entry, re.MULTILINE)) for entry in listed.split("\n\n")]
    sizes = {entry["Package"]: int(entry.get("Installed-Size", 0)) * 1024 for entry in entries if "Package" in entry}
    required = [entry["Package"] for entry in entries if entry.get("Priority") == "required"]
    base = _chosen(["apt", "debian-archive-keyring", *required])
    added = sorted(_chosen(["apt", "debian-archive-keyring", *required, *names]) - base)
    return sum(sizes.get(name, 0) for name in added), added


def _chosen(names: list[str]) -> set[str]:
    """What apt would install on a machine with nothing on it."""
    with tempfile.NamedTemporaryFile() as nothing:
        options = ["--simulate", "--no-install-recommends", "-o", f"Dir::State::status={nothing.name}"]
        done = subprocess.run(
            ["apt-get", *options, "install", *sorted(set(names))], capture_output=True, text=True, check=True
        )
    return set(re.findall(r"^Inst (\S+)", done.stdout, re.MULTILINE))


def main() -> None:
    """Both sizes."""
    text = FILE.read_text()
    extras = re.search(r"'\.\[([a-z,]+)\]'", text)
    packages = re.search(r"install --yes --no-install-recommends (ca-certificates [a-z0-9. -]+?) *\\\n", text)
    assert extras, FILE
    assert packages, FILE
    serving = installed_bytes("serve")
    runtime = installed_bytes(extras[1])
    debian, counted = debian_bytes(packages[1].split())
    emulator, _ = debian_bytes([*packages[1].split(), "g++", "make", "perl"])
    print(
        json.dumps(
            {
                "serve_extra_mib": round(serving / MIB, 1),
                "runtime_python_mib": round(runtime / MIB, 1),
                "runtime_debian_mib": round(debian / MIB, 1),
                "runtime_content_mib": round((runtime + debian) / MIB, 1),
                "with_emulator_mib": round((runtime + emulator) / MIB, 1),
                "debian_packages": len(counted),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
