"""The device plugin over real unix sockets, against a kubelet that checks every answer."""

from __future__ import annotations

import http.server
import json
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from command import PROGRAM, environment, gatesmith
from kubelet import Kubelet

from gatesmith.devices.device import DeviceInfo
from gatesmith.errors import ServerUnreachable
from gatesmith.kube.agent import Agent
from gatesmith.kube.cluster import SOURCE, Cluster
from gatesmith.kube.inventory import Inventory
from gatesmith.serve.residents import Residents

EMULATOR = DeviceInfo(id="emulator:0", kind="emulator")
ULX3S, EMULATED = "gatesmith.dev/ulx3s-85f", "gatesmith.dev/emulator"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A short place: the path of a unix socket has at most 107 characters."""
    (tmp_path / "k").mkdir()
    return tmp_path / "k"


@contextmanager
def _agent(folder: Path, inventory: Inventory, **more: Any) -> Iterator[Agent]:
    stop = threading.Event()
    agent = Agent(inventory=inventory, plugins=folder, residents=folder / "residents", **more)
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    try:
        yield agent
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def _node(folder: Path, inventory: Inventory, **more: Any) -> Iterator[Kubelet]:
    kubelet = Kubelet(folder)
    with ExitStack() as stack:
        stack.callback(kubelet.stop)
        stack.enter_context(_agent(folder, inventory, **more))
        yield kubelet


def _ports(tmp_path: Path, count: int) -> list[Path]:
    ports = [tmp_path / f"ttyUSB{number}" for number in range(count)]
    for port in ports:
        port.touch()
    return ports


def test_emulated_boards_are_offered_and_given(folder: Path) -> None:
    with _node(folder, Inventory({}, emulated=3, discover=lambda: [EMULATOR])) as kubelet:
        kubelet.wait(
            lambda k: k.devices.get(EMULATED) == dict.fromkeys(("emulator-0", "emulator-1", "emulator-2"), "Healthy")
        )
        given = kubelet.allocate(EMULATED, "emulator-2", "emulator-0")
        assert given.envs["GATESMITH_DEVICES"] == "emulator:2,emulator:0"
        assert [(mount.container_path, mount.host_path) for mount in given.mounts] == [
            ("/var/run/gatesmith", str(folder / "residents"))
        ]
        assert not given.devices


def test_servers_that_are_not_root_can_note_what_their_devices_run(folder: Path) -> None:
    made = folder / "residents"
    made.mkdir(mode=0o755)  # as the kubelet does, for root
    with _node(folder, Inventory({}, emulated=1, discover=lambda: [EMULATOR])) as kubelet:
        kubelet.wait(lambda k: EMULATED in k.devices)
        assert stat.S_IMODE(made.stat().st_mode) == 0o1777  # /tmp's: whoever writes, nobody removes what is another's


def test_an_api_that_has_no_url_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    cluster = Cluster(url="kubernetes.default", node="n", account=tmp_path)
    with pytest.raises(ServerUnreachable, match=r"kubernetes\.default does not answer: Unsup"):
        cluster.label({})


def test_a_board_that_is_unplugged_and_comes_back(folder: Path, tmp_path: Path) -> None:
    (port,) = _ports(tmp_path, 1)
    name = f"serial-{str(port).replace('/', '-')}".replace("--", "-")
    with _node(folder, Inventory({str(port): "ulx3s-85f"}, discover=list)) as kubelet:
        kubelet.wait(lambda k: k.devices.get(ULX3S) == {name: "Healthy"})
        given = kubelet.allocate(ULX3S, name)
        assert given.envs["GATESMITH_DEVICES"] == f"serial:{port}"
        assert [node.host_path for node in given.devices] == [str(port)]
        port.unlink()
        kubelet.wait(lambda k: k.devices[ULX3S] == {name: "Unhealthy"})
        with pytest.raises(grpc.RpcError) as caught:
            kubelet.call(ULX3S, "Allocate", {"container_requests": [{"devices_ids": [name]}]})
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "cannot be used: the port is not there" in caught.value.details()
        port.touch()
        kubelet.wait(lambda k: k.devices[ULX3S] == {name: "Healthy"})
        port.unlink()  # between two looks: the container must not start all the same
        with pytest.raises(grpc.RpcError, match="the port is not there"):
            kubelet.call(ULX3S, "PreStartContainer", {"devices_ids": [name]})


def test_a_kubelet_that_restarts_hears_of_the_plugin_again(folder: Path) -> None:
    with _node(folder, Inventory({}, emulated=1, discover=lambda: [EMULATOR])) as kubelet:
        for count in (1, 2, 3):
            kubelet.wait(lambda k, count=count: EMULATED in k.devices and k.registrations == [EMULATED] * count)
            assert kubelet.allocate(EMULATED, "emulator-0").envs["GATESMITH_DEVICES"] == "emulator:0"
            if count < 3:
                kubelet.stop()
                kubelet.start()


def test_a_plugin_that_starts_before_its_kubelet(folder: Path) -> None:
    with _agent(folder, Inventory({}, emulated=1, discover=lambda: [EMULATOR])):
        kubelet = Kubelet(folder)
        kubelet.wait(lambda k: EMULATED in k.devices)
        kubelet.stop()


def test_each_kind_of_board_is_a_resource(folder: Path, tmp_path: Path) -> None:
    one, two, three = _ports(tmp_path, 3)
    boards = {str(one): "ulx3s-85f", str(two): "icebreaker", str(three): "ulx3s-85f"}
    with _node(folder, Inventory(boards, emulated=2, discover=lambda: [EMULATOR])) as kubelet:
        kubelet.wait(lambda k: len(k.devices) == 3)
        assert {name: len(devices) for name, devices in kubelet.devices.items()} == {
            ULX3S: 2, "gatesmith.dev/icebreaker": 1, EMULATED: 2,
        }  # fmt: skip


def test_a_pod_gets_the_device_that_runs_its_model(folder: Path) -> None:
    pods = [
        _pod("2026-01-02", {"gatesmith.dev/firmware": "sha256:jets"}),
        _pod("2026-01-01", {SOURCE: "fpga://r.example/lab/iris:v1"}),
    ]
    with _api(pods) as (url, _):
        cluster = Cluster(url=url, node="node-1", account=_account(folder))
        residents = Residents(folder / "residents")
        inventory = Inventory({}, emulated=4, discover=lambda: [EMULATOR])
        every = [f"emulator-{number}" for number in range(4)]
        with _node(folder, inventory, cluster=cluster) as kubelet:
            kubelet.wait(lambda k: len(k.devices.get(EMULATED, {})) == 4)
            assert kubelet.prefer(EMULATED, every, 1) == ["emulator-0"], "nothing is known"
            residents.write("emulator:0", {"model": "digits", "digest": "sha256:digits"})
            residents.write("emulator:2", {"model": "jets", "digest": "sha256:jets"})
            residents.write("emulator:3", {"model": "iris", "digest": "sha256:iris"})
            # the oldest pod's model, then the other one's, then a device with nothing on it, then the rest
            assert kubelet.prefer(EMULATED, every, 4) == ["emulator-3", "emulator-2", "emulator-1", "emulator-0"]
            assert kubelet.prefer(EMULATED, ["emulator-0", "emulator-1"], 1) == ["emulator-1"]
            assert kubelet.prefer(EMULATED, every, 2, must=("emulator-0",)) == ["emulator-0", "emulator-3"]


def test_cdi_and_labels(folder: Path, tmp_path: Path) -> None:
    (port,) = _ports(tmp_path, 1)
    with _api([]) as (url, patches):
        cluster = Cluster(url=url, node="node-1", account=_account(folder))
        inventory = Inventory({str(port): "ulx3s-85f"}, emulated=2, discover=lambda: [EMULATOR])
        more = {"cdi": folder / "cdi", "features": folder / "features", "cluster": cluster}
        with _node(folder, inventory, **more) as kubelet:
            kubelet.wait(lambda k: ULX3S in k.devices)
            (name,) = kubelet.devices[ULX3S]
            given = kubelet.allocate(ULX3S, name)
            assert [device.name for device in given.cdi_devices] == [f"gatesmith.dev/device={name}"]
            assert not given.devices
            assert patches.ready.wait(20)
    spec = json.loads((folder / "cdi" / "gatesmith.dev-device.json").read_text())
    assert spec["kind"] == "gatesmith.dev/device"
    assert spec["devices"] == [
        {"name": name, "containerEdits": {"deviceNodes": [{"path": str(port), "permissions": "rw"}]}}
    ]
    labels = {
        "gatesmith.dev/board.ulx3s-85f": "1",
        "gatesmith.dev/board.emulator": "2",
        "gatesmith.dev/family.ecp5": "true",
        "gatesmith.dev/family.emulator": "true",
    }
    assert dict(line.split("=") for line in (folder / "features").read_text().splitlines()) == labels
    assert patches.bodies[0] == ("/api/v1/nodes/node-1", {"metadata": {"labels": labels}})


def test_an_api_server_that_fails_does_not_stop_the_devices(folder: Path) -> None:
    cluster = Cluster(url="http://127.0.0.1:9", node="node-1", account=_account(folder))
    with _node(folder, Inventory({}, emulated=1, discover=lambda: [EMULATOR]), cluster=cluster) as kubelet:
        kubelet.wait(lambda k: EMULATED in k.devices)
        assert kubelet.prefer(EMULATED, ["emulator-0"], 1) == ["emulator-0"]


def test_a_kubelet_that_refuses_is_asked_again(folder: Path) -> None:
    kubelet = Kubelet(folder)
    refuse = kubelet._wrong
    asked = threading.Event()

    def once(request: Any) -> str:
        if not asked.is_set():
            asked.set()
            return "not yet"
        return refuse(request)

    kubelet._wrong = once  # type: ignore[method-assign]
    with _agent(folder, Inventory({}, emulated=1, discover=lambda: [EMULATOR])):
        assert asked.wait(20)
        kubelet.faults.clear()
        kubelet.wait(lambda k: EMULATED in k.devices)
        kubelet.stop()


def test_the_program(folder: Path) -> None:
    kubelet = Kubelet(folder)
    command = [*PROGRAM, "kube", "device-plugin", "--emulated", "2", "--plugins", folder, "--residents", folder / "r"]
    process = subprocess.Popen(
        [*map(str, command)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        kubelet.wait(lambda k: len(k.devices.get(EMULATED, {})) == 2)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout
        process.stdout.close()
        kubelet.stop()
    assert not list(folder.glob("*.sock")), "it takes its socket with it"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "this node offers no device"),
        (["--board", "ttyUSB0"], "'ttyUSB0' names no board; PORT=BOARD is needed"),
        (["--board", "/dev/ttyUSB0=ulx4s"], "no board is called 'ulx4s'"),
        (["--emulated", "65"], "65 emulated boards, 0 to 64 are possible"),
    ],
)
def test_wrong_words(folder: Path, arguments: list[str], words: str) -> None:
    done = gatesmith("kube", "device-plugin", "--plugins", folder, "--residents", folder, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def _pod(created: str, annotations: dict[str, str]) -> dict[str, Any]:
    container = {"resources": {"limits": {EMULATED: "1"}}}
    metadata = {"creationTimestamp": created, "annotations": annotations}
    return {"metadata": metadata, "spec": {"containers": [container]}}


def _account(folder: Path) -> Path:
    (folder / "token").write_text("the-token\n")
    return folder


class _Patches:
    def __init__(self) -> None:
        self.bodies: list[tuple[str, Any]] = []
        self.ready = threading.Event()


@contextmanager
def _api(pods: list[dict[str, Any]]) -> Iterator[tuple[str, _Patches]]:
    """An API server that knows one token, one node and its waiting pods."""
    patches = _Patches()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1%2Cstatus.phase%3DPending"
            self._answer(200 if known else 404, {"items": pods})

        def do_PATCH(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"] == "application/strategic-merge-patch+json"
            patches.bodies.append((self.path, json.loads(body)))
            patches.ready.set()
            self._answer(200, {})

        def _answer(self, status: int, data: Any) -> None:
            if self.headers["authorization"] != "Bearer the-token":
                status, data = 401, {"message": "Unauthorized"}
            content = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", patches
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
