"""The examples' containers as processes, with the command, environment, folders, ports and probes of the manifests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from built import rtl_firmware
from models import trained
from onnx_files import save_mlp
from registries import program as registry_program
from requirements import require, require_build

from gatesmith.artifact.store import Store
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.quantize import quantize
from gatesmith.tools import cache_path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
NODE = ROOT / "tests" / "kserve_node.py"
SERVED = sorted(path.stem for path in EXAMPLES.glob("isvc-*.yaml"))
VALUES = {
    "storage": {"plainHttp": True},
    "buildService": {"plainHttp": True},
    "runtime": {"env": [{"name": "GATESMITH_REGISTRY_PLAIN_HTTP", "value": "1"}]},
}
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def graph() -> Any:
    iris = trained("iris")
    integer, _ = quantize(read_model(iris.estimator, name="iris"), np.asarray(iris.x, np.float32))
    return integer


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, graph: Any) -> Path:
    """A registry's content, a bucket's, and secrets."""
    require_build("icebreaker")
    require("skopeo")
    registry_program()
    if subprocess.run(["unshare", "-rnm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system gives no namespaces")
    folder = tmp_path_factory.mktemp("stock")
    store = Store(folder / "store")
    for name, board in (("iris:v1", "icebreaker"), ("jets:v3", "ulx3s-85f"), ("jets:v4", "ulx3s-85f"),
                        ("trigger:v2", "ulx3s-85f")):  # fmt: skip
        store.save(f"registry.example/lab/{name}", [rtl_firmware(graph, board)])
    (folder / "bucket").mkdir()
    save_mlp(folder / "bucket" / "model.onnx")
    np.save(folder / "bucket" / "calibration.npy", np.random.default_rng(1).normal(size=(50, 2)))
    tokens = folder / "secrets" / "gatesmith-build-tokens"
    tokens.mkdir(parents=True)
    (tokens / "tokens").write_text("serving a-token-for-the-tests 8\n")
    (tokens / "token").write_text("a-token-for-the-tests\n")
    return folder


def play(example: str, stock: Path, folder: Path) -> list[dict[str, Any]]:
    """Run an example on a node of its own."""
    for name in ("bucket", "secrets", "store"):
        (folder / name).symlink_to(stock / name)
    (folder / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {folder}/registry}}\n"
        "http: {addr: 127.0.0.1:80}\n"
    )
    (folder / "values.json").write_text(json.dumps(VALUES))
    helm = Path(sys.executable).parent / "helm"
    command = [str(helm) if helm.is_file() else "helm", "template", "gs", str(ROOT / "deploy" / "helm" / "gatesmith")]
    command += ["--namespace", "lab", "--values", str(folder / "values.json")]
    (folder / "chart.yaml").write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for name, volume in (("builds", "home"), *((service, "gatesmith-home") for service in names_in(example))):
        caches = folder / "volumes" / name / volume / "cache"
        caches.mkdir(parents=True)
        for cache in ("yowasp", "emulator"):
            cache_path(cache).mkdir(parents=True, exist_ok=True)
            (caches / cache).symlink_to(cache_path(cache).resolve())
    script = f"exec {sys.executable} {NODE} {folder} {EXAMPLES / example}.yaml"
    done = subprocess.run(
        ["unshare", "-rnm", "sh", "-c", script], capture_output=True, text=True, check=False,
        timeout=TIMEOUT_S,
    )  # fmt: skip
    logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in folder.glob("*.log"))
    assert done.returncode == 0, done.stderr[-4000:] + logs
    return list(json.loads(done.stdout.splitlines()[-1]))


def names_in(example: str) -> list[str]:
    return [d["metadata"]["name"] for d in yaml.safe_load_all((EXAMPLES / f"{example}.yaml").read_text()) if d]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("example", SERVED)
def test_the_probes_pass_and_every_protocol_answers(example: str, stock: Path, tmp_path: Path, graph: Any) -> None:
    (served,) = play(example, stock, tmp_path)
    x = np.array([served["x"]])
    if example == "isvc-onnx":
        session = onnxruntime.InferenceSession(stock / "bucket" / "model.onnx")
        (wanted,) = session.run(None, {"x": x.astype(np.float32)})
        assert np.abs(np.array(served["v2"]) - wanted[0]).max() < 0.1
        assert served["parameters"]["board"] == "ulx3s-85f"
    else:
        (wanted,) = reference.infer_real(graph, {"input": x}).values()
        assert served["v2"] == pytest.approx(wanted[0].astype(np.float32).tolist(), rel=1e-6)
    assert served["v1"] == pytest.approx(served["v2"], rel=1e-6)
    assert served["grpc"] == pytest.approx(served["v2"], rel=1e-6)
    assert served["ports"] == ([8081] if example == "isvc-grpc" else [8080])
    shutil.rmtree(tmp_path / "registry", ignore_errors=True)
