"""One node of a cluster, as far as a pod sees it: run in namespaces of its own, with nothing but the manifests.

``kserve_node.py FOLDER EXAMPLE`` plays what KServe's controller, a kubelet and a container runtime do with an
InferenceService: the runtime's template is filled, the service's own fields are merged over it, the storage
initializer runs, then the container, with the manifests' command, environment, folders, ports and probes. It prints
what V1, V2 and gRPC answered as JSON. Start it with ``unshare -rnm``: ports are those of the manifests, ``/mnt/models``
is really ``/mnt/models``, and names of services are found in a hosts file.
"""

# Ref: KServe: a container of the InferenceService is merged over the runtime's; ClusterStorageContainer by prefix of
# Ref: the address, args are [address, /mnt/models]; modelcars show an image's /models at /mnt/models
# Ref: Kubernetes: probes (periodSeconds, failureThreshold), $(VARIABLES) in commands

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

BIN = Path(sys.executable).parent
HOSTS = ("registry.example", "gs-builds.lab.svc")


def main() -> None:
    """Play one example."""
    folder, example = Path(sys.argv[1]), Path(sys.argv[2])
    documents = [document for document in yaml.safe_load_all((folder / "chart.yaml").read_text()) if document]
    services = [d for d in yaml.safe_load_all(example.read_text()) if d and d["kind"] == "InferenceService"]
    node = Node(folder, documents)
    with node.services():
        print(json.dumps([node.run(service) for service in services]))


class Node:
    """A node with its rendered chart."""

    def __init__(self, folder: Path, documents: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.by_kind = {document["kind"]: document for document in documents}
        self.environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # folders of the machine that get new ones in them are replaced first, for this namespace alone
        shutil.copytree("/etc", folder / "etc", symlinks=True, ignore=unreadable)
        (folder / "etc" / "hosts").write_text("127.0.0.1 localhost " + " ".join(HOSTS) + "\n")
        bind(folder / "etc", Path("/etc"))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/lib"], check=True)
        (folder / "mnt" / "models").mkdir(parents=True)
        bind(folder / "mnt", Path("/mnt"))

    @contextlib.contextmanager
    def services(self) -> Iterator[None]:
        """A registry on port 80 and the build service of the chart."""
        registry = subprocess.Popen(
            [str(BIN / "docker-registry"), "serve", str(self.folder / "registry.yml")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for("http://registry.example/v2/", registry)
            self.stock()
            with self.container("builds", self.by_kind["Deployment"]["spec"]["template"]["spec"], {}) as (process, _):
                wait_for("http://gs-builds.lab.svc:8090/healthz", process)
                yield
        finally:
            registry.kill()
            registry.wait()

    def stock(self) -> None:
        """Push what the examples name."""
        from gatesmith.artifact.connection import Access
        from gatesmith.artifact.reference import Reference
        from gatesmith.artifact.remote import push_artifact
        from gatesmith.artifact.store import Store

        store = Store(self.folder / "store")
        for entry in store.list():
            name = Reference.parse(entry.reference)
            push_artifact(store.layout, name, name, Access(plain_http=True))

    def run(self, service: dict[str, Any]) -> dict[str, Any]:
        """One InferenceService, from its address to its answers."""
        name, predictor = service["metadata"]["name"], service["spec"]["predictor"]
        model = predictor["model"]
        runtime = self.by_kind["ClusterServingRuntime"]["spec"]
        formats = {one["name"] for one in runtime["supportedModelFormats"]}
        assert model["modelFormat"]["name"] in formats
        assert model.get("protocolVersion", "v2") in runtime["protocolVersions"]
        (container,) = json.loads(json.dumps(runtime["containers"]).replace("{{.Name}}", name))
        container = merged(container, model)
        began = time.monotonic()
        self.fetch(model["storageUri"])
        fetched_s = time.monotonic() - began
        spec = {**runtime, "containers": [container]}
        with self.container(name, spec, self.allocated(container)) as (process, log):
            probe(container["startupProbe"], process, log)
            ready_s = time.monotonic() - began
            probe(container["readinessProbe"], process, log)
            probe(container["livenessProbe"], process, log)
            answers = ask_all(name)
        ports = [port["containerPort"] for port in container["ports"]]
        return {"name": name, "ports": ports, "fetched_s": fetched_s, "ready_s": ready_s, **answers}

    def fetch(self, uri: str) -> None:
        """What stands before the container: our initializer, KServe's own for other addresses, or a modelcar."""
        models = Path("/mnt/models")
        for path in sorted(models.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        storage = self.by_kind["ClusterStorageContainer"]["spec"]
        if any(uri.startswith(one["prefix"]) for one in storage["supportedUriFormats"]):
            container = storage["container"]
            command = [*container["command"], uri, str(models)]
            done = subprocess.run(
                command, env=self.environment | variables(container), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        elif uri.startswith("oci://"):
            unpack_image(uri.removeprefix("oci://"), models, self.folder)
        else:  # a bucket: what KServe's initializer leaves
            for name in ("model.onnx", "calibration.npy"):
                (models / name).write_bytes((self.folder / "bucket" / name).read_bytes())

    def allocated(self, container: dict[str, Any]) -> dict[str, str]:
        """What the device plugin gives; a board that is not here is an emulated one with its firmware."""
        limits = container["resources"]["limits"]
        boards = [name.partition("/")[2] for name in limits if name.startswith("gatesmith.dev/")]
        assert boards, "it asks for no board"
        ids = ["emulator:0" if board == "emulator" else f"emulator:0={board}" for board in boards]
        return {"GATESMITH_DEVICES": ",".join(ids)}

    @contextlib.contextmanager
    def container(
        self, name: str, spec: dict[str, Any], given: dict[str, str]
    ) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """A pod's container as a process, with folders of its own."""
        (container,) = spec["containers"]
        binds = []
        for mount in container.get("volumeMounts", []):
            place = Path(mount["mountPath"])
            if place != Path("/tmp"):  # the node's own will do
                source = self.folder / "volumes" / name / mount["name"]
                self.fill(spec, mount["name"], source)
                place.mkdir(parents=True, exist_ok=True)
                binds.append(f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(place))}")
        inside = ["unshare", "-m", "sh", "-c", " && ".join([*binds, 'exec "$@"']), "sh"]
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*inside, *container["command"], *container["args"]],
                env=self.environment | variables(container) | given,
                stdout=output, stderr=output,
            )  # fmt: skip
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait(60)

    def fill(self, spec: dict[str, Any], volume: str, folder: Path) -> None:
        """A volume: empty, or the files of a secret."""
        folder.mkdir(parents=True, exist_ok=True)
        (kind,) = [one for one in spec["volumes"] if one["name"] == volume]
        for item in kind.get("secret", {}).get("items", []):
            secret = self.folder / "secrets" / kind["secret"]["secretName"] / item["key"]
            (folder / item["path"]).write_bytes(secret.read_bytes())


def merged(container: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The service's fields over those of the runtime; variables by name, resources key by key."""
    result = dict(container)
    env = {one["name"]: one for one in [*container["env"], *model.get("env", [])]}
    result["env"] = list(env.values())
    for part in ("requests", "limits"):
        resources = {**container["resources"].get(part, {}), **model.get("resources", {}).get(part, {})}
        result["resources"] = {**result["resources"], part: resources}
    if "ports" in model:
        result["ports"] = model["ports"]
    return result


def variables(container: dict[str, Any]) -> dict[str, str]:
    """Its environment; what comes from secrets that are not here is left out, as ``optional`` says."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def probe(settings: dict[str, Any], process: subprocess.Popen[bytes], log: Path) -> None:
    """What a kubelet does until a probe passes; fails after its threshold."""
    get = settings["httpGet"]
    url = f"http://127.0.0.1:{get['port']}{get['path']}"
    for _ in range(settings["failureThreshold"]):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=settings["timeoutSeconds"]) as answer:
            if 200 <= answer.status < 400:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(settings["periodSeconds"] / 10)  # a node in a hurry
    raise AssertionError(f"{url}: {log.read_text()}")


def ask_all(name: str) -> dict[str, Any]:
    """V1, V2 and gRPC with the same sample."""
    from gatesmith.client import Client

    base = "http://127.0.0.1:8080"
    metadata = json.load(urllib.request.urlopen(f"{base}/v2/models/{name}"))
    (spec,) = metadata["inputs"]
    row = [0.25 * (number + 1) for number in range(spec["shape"][1])]
    one = post(f"{base}/v1/models/{name}:predict", {"instances": [row]})["predictions"][0]
    tensor = {"name": spec["name"], "datatype": spec["datatype"], "shape": [1, len(row)], "data": row}
    two = post(f"{base}/v2/models/{name}/infer", {"inputs": [tensor]})["outputs"][0]["data"]
    import numpy as np

    with Client("grpc://127.0.0.1:8081") as client:
        outputs = client.infer(name, {spec["name"]: np.array([row], np.float32)})
    three = next(iter(outputs.values()))[0].tolist()
    return {"x": row, "v1": one, "v2": two, "grpc": three, "parameters": metadata["parameters"]}


def post(url: str, body: Any) -> Any:
    """A JSON request."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.code} {error.read()[:500]!r}") from error


def unpack_image(reference: str, target: Path, folder: Path) -> None:
    """An image's ``/models`` as a container runtime lays it out."""
    layout = folder / "image"
    source = f"docker://{reference}"
    command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--quiet", source, f"dir:{layout}"]
    subprocess.run(command, check=True, timeout=60)
    manifest = json.loads((layout / "manifest.json").read_text())
    for layer in manifest["layers"]:
        content = (layout / layer["digest"].removeprefix("sha256:")).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive.getmembers():
                if member.isfile():
                    place = target / Path(member.name).relative_to("models")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file = archive.extractfile(member)
                    place.write_bytes(file.read() if file else b"")


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until something answers."""
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        assert process.poll() is None, url
        assert time.monotonic() < end, url
        time.sleep(0.05)


def unreadable(folder: str, names: list[str]) -> list[str]:
    """What a copy leaves out."""
    return [name for name in names if not os.access(Path(folder) / name, os.R_OK)]


def bind(source: Path, place: Path) -> None:
    """Show a file or folder at another place, in this namespace alone."""
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True)


if __name__ == "__main__":
    main()
