"""Everything in ``deploy/`` as an API server would see it; no cluster is needed."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import check, documents, problems

from gatesmith.aim import Aim
from gatesmith.cli.asked import aim
from gatesmith.serve.settings import Settings

ROOT = Path(__file__).parents[2]
CHART, EXAMPLES = ROOT / "deploy" / "helm" / "gatesmith", ROOT / "deploy" / "examples"

VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "images": {"pullSecrets": [{"name": "registry"}], "runtime": {"digest": "sha256:" + "a" * 64}},
        "runtime": {
            "autoSelectOnnx": True, "fallbackEmulator": True, "precision": "auto", "tolerance": 0.25,
            "env": [{"name": "GATESMITH_MAX_BATCH", "value": "64"}],
        },
        "storage": {"boards": ["ulx3s-85f"], "registrySecret": "registry", "plainHttp": True, "modelAlone": False},
        "devicePlugin": {
            "boards": ["/dev/ttyUSB1=ulx3s-85f"], "cdi": "/var/run/cdi", "nodeSelector": {"fpga": "yes"},
            "tolerations": [{"key": "fpga", "operator": "Exists", "effect": "NoSchedule"}],
        },
        "buildService": {
            "registry": "registry.example/lab", "signSecret": "signing", "registrySecret": "registry",
            "plainHttp": True, "dask": "tcp://scheduler:8786", "daskResources": ["build=1"],
            "volume": {"storageClass": "fast"},
        },
        "monitoring": {"serviceMonitor": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"buildClients": [{"matchLabels": {"team": "physics"}}]},
    },
    "namespaced": {
        "runtime": {"scope": "Namespace"}, "devicePlugin": {"enabled": False}, "storage": {"enabled": False},
    },
    "serving alone": {
        "buildService": {"enabled": False}, "devicePlugin": {"useApi": False}, "monitoring": {"serviceMonitor": True},
    },
    "own volume": {"buildService": {"volume": {"existingClaim": "mine"}}, "networkPolicy": {"enabled": False}},
    "devices alone": {
        "runtime": {"scope": "None"}, "storage": {"enabled": False}, "buildService": {"enabled": False},
    },
}  # fmt: skip


def program(name: str) -> str:
    """Where scripts/setup.sh unpacked it, or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found and os.environ.get("GATESMITH_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{name} is not installed")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def rendered(values: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The chart's objects."""
    done = template(values, folder)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def template(values: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    command = [program("helm"), "template", "gs", str(CHART), "--namespace", "lab", "--values", "values.yaml"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=120)


def test_the_chart_is_well_formed() -> None:
    done = subprocess.run(
        [program("helm"), "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_gives_what_an_api_server_takes(name: str, tmp_path: Path) -> None:
    found = rendered(VALUES[name], tmp_path)
    assert found
    for document in found:
        check(document)


def test_kustomize_gives_the_same_as_the_chart() -> None:
    script = ROOT / "scripts" / "render_kustomize.py"
    env = {**os.environ, "PATH": f"{Path(program('helm')).parent}:{os.environ['PATH']}"}
    assert subprocess.run([sys.executable, script, "--check"], check=False, env=env, timeout=120).returncode == 0
    command = [program("kubectl"), "kustomize", str(ROOT / "deploy" / "kustomize" / "base")]
    found = documents(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert {"ClusterServingRuntime", "ClusterStorageContainer", "DaemonSet", "Namespace"} <= {d["kind"] for d in found}
    for document in found:
        check(document)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples(path: Path) -> None:
    found = documents(path.read_text())
    assert found
    for document in found:
        check(document)


def _set(*place: str | int, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in place[:-1]:
            document = document[step]
        document[place[-1]] = value

    return change


RUNTIME, CONTAINER = "ClusterServingRuntime", ("spec", "containers", 0)
TYPOS = [
    (RUNTIME, _set("spec", "supportedModelFormats", 0, "autoselect", value=True), "autoselect"),
    (RUNTIME, _set(*CONTAINER, "readinesProbe", value={}), "readinesProbe"),
    (RUNTIME, _set(*CONTAINER, "ports", 0, "containerPort", value="8080"), "8080"),
    ("ClusterStorageContainer", _set("spec", "supportedUriFormat", value=[]), "supportedUriFormat"),
    ("ClusterStorageContainer", _set("spec", "supportedUriFormats", 0, "prefx", value="s3://"), "prefx"),
    ("Deployment", _set("spec", "replicas", value="1"), "1"),
    ("Deployment", _set("spec", "template", "spec", "serviceAccount_name", value="x"), "serviceAccount_name"),
    ("DaemonSet", _set("spec", "template", "spec", "volumes", 0, "hostpath", value={}), "hostpath"),
    ("NetworkPolicy", _set("spec", "policyType", value=["Ingress"]), "policyType"),
    ("ClusterRole", _set("rules", 0, "verb", value=["list"]), "verb"),
    ("PodMonitor", _set("spec", "podMetricsEndpoints", 0, "pth", value="/"), "pth"),
]


@pytest.mark.parametrize(("kind", "change", "word"), TYPOS, ids=[f"{kind} {word}" for kind, _, word in TYPOS])
def test_a_typo_is_caught(kind: str, change: Callable[[Any], None], word: str, tmp_path: Path) -> None:
    (document,) = [d for d in rendered({"monitoring": {"serviceMonitor": True}}, tmp_path) if d["kind"] == kind]
    broken = copy.deepcopy(document)
    change(broken)
    assert any(word in problem for problem in problems(broken)), problems(broken)


def test_a_typo_in_an_inference_service_is_caught() -> None:
    (document,) = documents((EXAMPLES / "isvc-standard.yaml").read_text())
    document["spec"]["predictor"]["minReplicas"] = "1"
    document["spec"]["predictor"]["model"]["storageURI"] = "fpga://"
    found = " ".join(problems(document))
    assert "'1' is not of type 'integer'" in found
    assert "storageURI" in found


def test_pods_keep_to_the_restricted_level_but_for_the_device_plugin(tmp_path: Path) -> None:
    # Ref: Kubernetes "Pod Security Standards", restricted
    for document in rendered(VALUES["everything"], tmp_path):
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
        elif document["kind"] == "ClusterServingRuntime":
            pod = document["spec"]
        elif document["kind"] == "ClusterStorageContainer":
            pod = {"containers": [document["spec"]["container"]]}
        else:
            continue
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["runAsNonRoot"] is True
            assert context["runAsUser"] != 0
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(set(volume) & {"emptyDir", "secret", "persistentVolumeClaim"} for volume in pod.get("volumes", []))


def test_rights_are_the_least(tmp_path: Path) -> None:
    found = rendered(VALUES["everything"], tmp_path)
    (role,) = [d for d in found if d["kind"] == "ClusterRole"]
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [
        (["pods"], ["list"]), (["nodes"], ["patch"]),
    ]  # fmt: skip
    accounts = {
        d["metadata"]["name"]: d.get("automountServiceAccountToken") for d in found if d["kind"] == "ServiceAccount"
    }
    assert accounts == {"gs-builds": False, "gs-device-plugin": True}
    assert not [d for d in rendered(VALUES["serving alone"], tmp_path) if "Role" in d["kind"]]


def test_the_runtime_does_what_kserve_asks_of_it(tmp_path: Path) -> None:
    (runtime,) = [d for d in rendered({}, tmp_path) if d["kind"] == RUNTIME]
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["args"][1] == "{{.Name}}=/mnt/models"
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/models/{{.Name}}/ready", "port": 8080}
    assert {one["name"] for one in runtime["spec"]["supportedModelFormats"]} == {"fpga", "onnx"}
    (storage,) = [d for d in rendered({}, tmp_path) if d["kind"] == "ClusterStorageContainer"]
    assert "args" not in storage["spec"]["container"], "KServe gives the arguments"
    assert storage["spec"]["container"]["command"][:3] == ["gatesmith", "kube", "initialize"]


def _aim_of_the_server(runtime: dict[str, Any], folder: Path) -> Aim:
    """How the server of a rendered runtime has firmware built."""
    (found,) = [d for d in rendered({"runtime": runtime}, folder) if d["kind"] == RUNTIME]
    environment = {one["name"]: one["value"] for one in found["spec"]["containers"][0]["env"]}
    settings = Settings.from_environment(environment)
    return aim(settings.build_precision, tolerance=settings.build_tolerance)


@pytest.mark.parametrize(
    ("runtime", "wanted"),
    [
        ({}, Aim()),
        ({"precision": 6}, Aim(precision=6)),
        ({"precision": "16"}, Aim(precision=16)),
        ({"precision": "exact"}, Aim(precision="exact")),
        ({"precision": "auto"}, Aim(precision="auto")),
        ({"precision": "auto", "tolerance": 0}, Aim(precision="auto", tolerance=0.0)),
        ({"precision": "auto", "tolerance": 1.25}, Aim(precision="auto", tolerance=1.25)),
    ],
)
def test_precision_and_tolerance_reach_the_server(runtime: dict[str, Any], wanted: Aim, tmp_path: Path) -> None:
    assert _aim_of_the_server(runtime, tmp_path) == wanted


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"runtime": {"precision": 1}}, "runtime"),
        ({"runtime": {"precision": 17}}, "runtime"),
        ({"runtime": {"precision": 7.5}}, "runtime"),
        ({"runtime": {"precision": "Auto"}}, "runtime"),
        ({"runtime": {"precision": True}}, "runtime"),
        ({"runtime": {"precision": "auto", "tolerance": -0.1}}, "tolerance"),
        ({"runtime": {"precision": "auto", "tolerance": 50.1}}, "tolerance"),
        ({"runtime": {"precision": "auto", "tolerance": "1"}}, "tolerance"),
        ({"runtime": {"precision": 8, "tolerance": 1}}, "precision"),
        ({"runtime": {"tolerance": 1}}, "precision"),
        ({"runtime": {"presicion": 8}}, "presicion"),
        ({"runtime": {"scope": "cluster"}}, "scope"),
        ({"runtime": {"startupSeconds": 1}}, "startupSeconds"),
        ({"images": {"runtime": {"digest": "a"}}}, "digest"),
        ({"devicePlugin": {"boards": ["/dev/ttyUSB1"]}}, "boards"),
        ({"buildService": {"slots": 0}}, "slots"),
        ({"buildsService": {}}, "buildsService"),
    ],
    ids=str,
)
def test_values_that_are_none_are_refused(values: dict[str, Any], place: str, tmp_path: Path) -> None:
    done = template(values, tmp_path)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert place in done.stderr


def test_every_value_has_its_schema() -> None:
    def known(values: Any, schema: dict[str, Any]) -> None:
        for name, value in values.items():
            assert name in schema["properties"], name
            if isinstance(value, dict) and "properties" in schema["properties"][name]:
                known(value, schema["properties"][name])

    schema = json.loads((CHART / "values.schema.json").read_text())
    known(yaml.safe_load((CHART / "values.yaml").read_text()), schema)
