"""Push and pull of 256 MiB against docker-registry on this machine, beside skopeo; memory; a store of 1,000 tags.

Every round times both clients one after the other, for each of four layers of 64 MiB and one of 256 MiB; the ratio is
that of the medians, above 1 when gatesmith is faster. Each transfer is a process of its own, from its start to its end.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from firmwares import tiny_firmware
from registries import real_registry

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, canonical_json
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.store import Store

ROUNDS = 5
SHAPES = {"4 x 64 MiB": (4, 64 << 20), "1 x 256 MiB": (1, 256 << 20)}
TAGS = 1000

OURS = """
import sys
from pathlib import Path
from gatesmith.artifact.connection import Access
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import pull_artifact, push_artifact

verb, folder, name, remote = sys.argv[1:]
layout, access = Layout(Path(folder)), Access(plain_http=True)
memory = lambda key: int(Path("/proc/self/status").read_text().partition(key + ":")[2].split()[0])
before = memory("VmRSS")
if verb == "push":
    push_artifact(layout, Reference.parse(name), Reference.parse(remote), access)
else:
    pull_artifact(layout, Reference.parse(remote), access)
print((memory("VmHWM") - before) / 1024)
"""


def make(layout: Layout, name: str, *, count: int, size: int) -> None:
    """An artifact of random layers."""
    layers = []
    for _ in range(count):
        content = os.urandom(size)
        layers.append(Descriptor.of("application/octet-stream", content))
        layout.put(layers[-1], content)
    config = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}")
    layout.put(config, b"{}")
    manifest = {"schemaVersion": 2, "mediaType": media_types.MANIFEST, "artifactType": "application/vnd.bench.v1"}
    manifest |= {"config": config.to_json(), "layers": [layer.to_json() for layer in layers]}
    content = canonical_json(manifest)
    top = Descriptor.of(media_types.MANIFEST, content)
    layout.put(top, content)
    layout.tag(Reference.parse(name), top)


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds and output of a program."""
    os.sync()
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def transfers(shape: str, folder: Path) -> dict[str, Any]:
    """Push and pull, both clients, all rounds."""
    count, size = SHAPES[shape]
    source = Layout(folder / "source")
    make(source, "bench:v1", count=count, size=size)
    seconds: dict[str, list[float]] = {
        f"{who} {verb}": [] for who in ("gatesmith", "skopeo") for verb in ("push", "pull")
    }
    memory = {"push": 0.0, "pull": 0.0}
    for number in range(ROUNDS):
        for who in ("gatesmith", "skopeo") if number % 2 else ("skopeo", "gatesmith"):
            with real_registry(folder / "registry") as registry:
                remote, target = f"{registry.address}/bench/x:v1", folder / "target"
                for verb in ("push", "pull"):
                    local = source.path if verb == "push" else target
                    if who == "gatesmith":
                        taken, said = timed([sys.executable, "-c", OURS, verb, str(local), "bench:v1", remote])
                        memory[verb] = max(memory[verb], float(said))
                    else:
                        ends = [f"oci:{local}:bench:v1", f"docker://{remote}"]
                        options = ["--insecure-policy", "copy", "--preserve-digests"]
                        options += ["--dest-tls-verify=false"] if verb == "push" else ["--src-tls-verify=false"]
                        taken, _ = timed(["skopeo", *options, *(ends if verb == "push" else ends[::-1])])
                    seconds[f"{who} {verb}"].append(taken)
            shutil.rmtree(folder / "registry")
            shutil.rmtree(target)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    return {
        "seconds": {key: round(value, 3) for key, value in medians.items()},
        "ratio_push": round(medians["skopeo push"] / medians["gatesmith push"], 2),
        "ratio_pull": round(medians["skopeo pull"] / medians["gatesmith pull"], 2),
        "memory_above_baseline_mib": {verb: round(value, 1) for verb, value in memory.items()},
    }


def many_tags(folder: Path) -> dict[str, Any]:
    """Seconds to list a store of so many tags, and to start a program that has it."""
    store = Store(folder / "many" / "store")
    for number in range(TAGS):
        store.save(f"bench:v{number}", [tiny_firmware(seed=number), tiny_firmware(board="ulx3s", family="ecp5")])
    start = time.perf_counter()
    count = len(store.list())
    listed_s = time.perf_counter() - start
    gatesmith = [str(Path(sys.executable).with_name("gatesmith"))]
    runs: dict[str, list[float]] = {"list": [], "version, full store": [], "version, empty store": []}
    for _ in range(ROUNDS):
        for key, values in runs.items():
            os.environ["GATESMITH_HOME"] = str(folder / ("empty" if "empty" in key else "many"))
            values.append(timed([*gatesmith, "list" if key == "list" else "--version"])[0])
    medians = {key: round(statistics.median(values), 3) for key, values in runs.items()}
    return {"tags": count, "list_s": round(listed_s, 3), "process_s": medians}


def main() -> None:
    """Measure."""
    result: dict[str, Any] = {}
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as name:
            result[shape] = transfers(shape, Path(name))
    with tempfile.TemporaryDirectory() as name:
        result["store"] = many_tags(Path(name))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
