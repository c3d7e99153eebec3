"""A tag in a real registry moves while a real server is asked: the new version takes over, and no request is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from built import rtl_firmware
from deploying import a_server, wait_ready
from models import float_graph, trained
from registries import real_registry

from gatesmith.artifact.connection import Access
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import push_artifact
from gatesmith.artifact.store import Store
from gatesmith.firmware import Firmware
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize

WAIT_S = 60.0


def _graph(precision: int) -> Graph:
    return quantize(float_graph("iris"), trained("iris").x, precision=precision)[0]


def _push(store: Store, name: str, firmware: Firmware) -> None:
    store.save(name, [firmware], merge=False)
    push_artifact(store.layout, Reference.parse(name), Reference.parse(name), Access(plain_http=True))


def test_a_tag_that_moves_under_load(tmp_path: Path) -> None:
    graphs = {precision: _graph(precision) for precision in (8, 6)}
    x = np.asarray(trained("iris").x[::10], np.float32)
    wanted = {
        precision: next(iter(reference.infer_real(graph, {"input": x}).values())).astype(np.float32)
        for precision, graph in graphs.items()
    }
    assert not np.array_equal(wanted[8], wanted[6])
    store, stop = Store(tmp_path / "store"), threading.Event()
    wrong: list[str] = []
    seen: dict[str, int] = {}

    def load(url: str) -> None:
        tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
        versions: dict[str, int] = {}
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                answer = client.post(f"{url}/v2/models/iris/infer", json={"inputs": [tensor]})
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                data = answer.json()
                given = np.reshape(data["outputs"][0]["data"], wanted[8].shape).astype(np.float32)
                match = [precision for precision, values in wanted.items() if np.array_equal(given, values)]
                if len(match) != 1 or versions.setdefault(data["model_version"], match[0]) != match[0]:
                    wrong.append(f"version {data['model_version']} answers like {match}")
                seen[data["model_version"]] = match[0]

    with real_registry(tmp_path / "registry") as registry:
        name = f"{registry.address}/lab/iris:latest"
        _push(store, name, rtl_firmware(graphs[8], "icebreaker"))
        options = ("--device", "emulator:0", "--device", "emulator:1", "--replicas", "1", "--follow-s", "0.2")
        with a_server(name, *options, home=tmp_path / "home", GATESMITH_REGISTRY_PLAIN_HTTP="1") as (url, process):
            wait_ready(url, "iris", process)
            clients = [threading.Thread(target=load, args=(url,)) for _ in range(3)]
            for client in clients:
                client.start()
            old = httpx.get(f"{url}/v2/models/iris", timeout=30).json()["versions"][0]
            _until(lambda: old in seen)
            _push(store, name, rtl_firmware(graphs[6], "icebreaker"))
            moved = _until_another(url, old)
            _until(lambda: moved in seen)
            stop.set()
            for client in clients:
                client.join(60)
    assert wrong == []
    assert seen[old] == 8
    assert seen[moved] == 6


def _until_another(url: str, old: str) -> str:
    def newest() -> str:
        return str(httpx.get(f"{url}/v2/models/iris", timeout=30).json()["versions"][0])

    _until(lambda: newest() != old)
    return newest()


def _until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(WAIT_S / 0.1)):
        if condition():
            return
        waiting.wait(0.1)
    raise AssertionError("it did not come true in time")
