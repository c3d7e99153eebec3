"""Renders the chart with its defaults into ``deploy/kustomize/base``; ``--check`` only compares. Needs helm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART, BASE = ROOT / "deploy" / "helm" / "gatesmith", ROOT / "deploy" / "kustomize" / "base"
RELEASE = NAMESPACE = "gatesmith"
HEAD = "# Made from the chart by scripts/render_kustomize.py; change the chart instead.\n"


def rendered() -> dict[str, str]:
    """File names to content."""
    helm = shutil.which("helm") or str(ROOT / ".venv" / "bin" / "helm")
    command = [helm, "template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    files: dict[str, list[str]] = {}
    for document in text.split("\n---\n"):
        lines = [line for line in document.removeprefix("---\n").splitlines() if "managed-by: Helm" not in line]
        source = next((line.rpartition("/")[2] for line in lines if line.startswith("# Source:")), "")
        if source:
            body = [line for line in lines if not line.startswith("# Source:")]
            files.setdefault(source, []).append("\n".join(body).strip() + "\n")
    names = sorted(files)
    listed = "".join(f"  - {name}\n" for name in names)
    kustomization = f"{HEAD}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    kustomization += f"namespace: {NAMESPACE}\nresources:\n  - namespace.yaml\n{listed}"
    # The build service is restricted; the device plugin needs folders of its node, so it lives with the weakest level.
    namespace = f"{HEAD}apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n"
    namespace += "    pod-security.kubernetes.io/enforce: privileged\n    pod-security.kubernetes.io/warn: restricted\n"
    return {
        **{name: HEAD + "---\n".join(files[name]) for name in names},
        "kustomization.yaml": kustomization,
        "namespace.yaml": namespace,
    }


def main() -> int:
    """Write or compare."""
    wanted = rendered()
    there = {path.name: path.read_text() for path in BASE.glob("*.yaml")}
    if "--check" in sys.argv[1:]:
        return int(there != wanted)
    BASE.mkdir(parents=True, exist_ok=True)
    for name in there.keys() - wanted.keys():
        (BASE / name).unlink()
    for name, content in wanted.items():
        (BASE / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
