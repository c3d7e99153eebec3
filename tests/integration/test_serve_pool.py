# amaranth: UnusedElaboratable=no
"""Pools of real emulated boards behind the server: killed, frozen, damaged, swapped, and always right."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from board_process import BoardProcess
from command import PROGRAM, environment
from cores import BUILD_ID, Pipeline, contract, firmware, successor
from requirements import require
from serving import running, until

from gatesmith.artifact.store import Store
from gatesmith.devices.driver import Transport
from gatesmith.devices.emulator import EmulatedDevice
from gatesmith.devices.loopback import FaultyTransport
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.pool import Slot
from gatesmith.serve.repository import StoreSource
from gatesmith.serve.server import Server
from gatesmith.serve.settings import Settings

CORE = Pipeline(32, 48, stages=6)
SAMPLES = 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four models of one core; ``a`` has two versions."""
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)
    made = Store(tmp_path_factory.mktemp("store"))
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (8, 4), np.uint8)
    vectors = (inputs.tobytes(), successor(inputs, CORE).tobytes())
    base = replace(firmware(CORE), vectors=vectors)
    for name in "abcd":
        made.save(f"{name}:v1", [replace(base, name=name)])
    other = BUILD_ID[::-1]
    made.save("a:v2", [replace(firmware(CORE, build_id=other), name="a", vectors=vectors)])
    return made


@contextlib.contextmanager
def serving(
    store: Store, devices: list[tuple[str, str]], *names: str, slots: tuple[Slot, ...] = (), **settings: Any
) -> Iterator[Server]:
    """A server over such a store."""
    plane = DataPlane(
        {}, Settings(http_port=0, **settings), sources=[StoreSource(store)], devices=devices, preload=names
    )
    for slot in slots:
        plane.pool.add(slot)
    with running(Server(plane=plane)) as server:
        yield server


class Client:
    """Asks again and again, in a thread; every answer is compared with the core's arithmetic."""

    def __init__(self, server: Server, name: str, *, seed: int = 0) -> None:
        self.statuses: dict[int, int] = {}
        self.versions: set[str] = set()
        self.fallbacks = self.answers = 0
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(server.url, name, seed))
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        if self._failure:
            raise self._failure

    def _run(self, url: str, name: str, seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            with httpx.Client(base_url=url, timeout=60) as session:
                while not self._stop.is_set():
                    self._ask(session, name, random.integers(0, 256, (SAMPLES, 4), np.uint8))
        except BaseException as error:
            self._failure = error

    def _ask(self, session: httpx.Client, name: str, payload: np.ndarray[Any, Any]) -> None:
        answer = ask(session, name, payload)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        if answer.status_code != 200:
            assert answer.status_code in {502, 503, 504}, answer.text  # what may be tried again
            return
        self.answers += 1
        data = answer.json()
        self.versions.add(data["model_version"])
        self.fallbacks += "fallback" in data.get("parameters", {})
        got = np.array(data["outputs"][0]["data"], np.uint8).reshape(SAMPLES, 48)
        assert (np.packbits(got, axis=1, bitorder="little") == successor(payload, CORE)).all(), "a wrong answer"


def ask(session: httpx.Client, name: str, payload: np.ndarray[Any, Any]) -> httpx.Response:
    bits = np.unpackbits(payload, axis=1, bitorder="little")
    tensor = {"name": "x", "datatype": "UINT8", "shape": list(bits.shape), "data": bits.ravel().tolist()}
    return session.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})


@contextlib.contextmanager
def clients(server: Server, *names: str) -> Iterator[list[Client]]:
    started = [Client(server, name, seed=seed) for seed, name in enumerate(names)]
    try:
        yield started
    finally:
        for client in started:
            client.stop()


def more(some: list[Client], count: int) -> None:
    """Wait until each has so many more answers."""
    wanted = [client.answers + count for client in some]
    until(lambda: all(client.answers >= least for client, least in zip(some, wanted, strict=True)), 60)


def on_loop(server: Server, work: Callable[[], Any]) -> None:
    """Run a coroutine on the server's event loop."""
    assert server._loop
    asyncio.run_coroutine_threadsafe(work(), server._loop).result(60)


@pytest.fixture
def boards(store: Store, tmp_path: Path) -> Iterator[list[BoardProcess]]:
    started = [BoardProcess(store.layout.path, "a:v1", tmp_path / f"board{n}") for n in range(2)]
    yield started
    for board in started:
        board.close()


def test_boards_that_are_killed_frozen_and_plugged_in_again(store: Store, boards: list[BoardProcess]) -> None:
    devices = [(f"serial:{board.link}", "icebreaker") for board in boards]
    only_v1 = StoreSource(store)
    plane = DataPlane(
        {}, Settings(http_port=0, grpc_port=0), sources=[_Only(only_v1, "v1")], devices=devices, preload=["a"]
    )
    with running(Server(plane=plane)) as server, clients(server, *"aaaa") as some:
        slots = server.plane.pool.slots
        until(lambda: all(slot.state == "serving" for slot in slots))
        more(some, 10)
        boards[0].signal(signal.SIGKILL)
        more(some, 20)
        assert slots[0].state == "fenced"
        boards[0].plug_in()
        until(lambda: slots[0].state == "serving", 60)
        boards[1].signal(signal.SIGSTOP)
        until(lambda: slots[1].state == "fenced", 60)
        more(some, 20)
        boards[1].signal(signal.SIGCONT)
        until(lambda: slots[1].state == "serving", 60)
        more(some, 10)
        assert [slot.fencings for slot in slots] == [1, 1]
        assert server.plane.model("a").counts.retried >= 1
    assert all(set(client.statuses) == {200} for client in some)


class _Only:
    """One version of what a source has."""

    def __init__(self, source: StoreSource, version: str) -> None:
        self._source, self._version = source, version

    def names(self) -> Any:
        return self._source.names()

    def find(self, name: str, version: str | None, *, fresh: bool) -> Any:
        return self._source.find(name, version or self._version, fresh=fresh)


class NoisyDevice(EmulatedDevice):
    """An emulated board on a bad line: so many of a thousand reads are damaged."""

    per_mille = 4

    def open_transport(self, firmware: Firmware) -> Transport:
        random = np.random.default_rng(3)

        def damage(data: bytes) -> bytes:
            if random.random() * 1000 >= self.per_mille:
                return data
            changed = bytearray(data)
            changed[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
            return bytes(changed)

        return FaultyTransport(super().open_transport(firmware), on_read=damage)


def test_damaged_frames_change_no_answer_and_fence_nothing(store: Store) -> None:
    slot = Slot("emulator:noisy", partial(NoisyDevice, "noisy"))
    with serving(store, [], "a", slots=(slot,)) as server, clients(server, *"aaaaaaaa") as some:
        until(lambda: slot.link.bad_frames >= 1, 120)
        more(some, 5)
        assert slot.fencings == 0
        assert slot.link.bad_frames < 0.05 * slot.link.frames
    assert all(set(client.statuses) == {200} for client in some)


def test_a_line_that_gets_worse_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: the rate is beyond the limit, and what is fenced for it is this device alone."""
    noisy = Slot("emulator:noisy", partial(NoisyDevice, "noisy"))
    with serving(store, [("emulator:good", "")], "a", slots=(noisy,)) as server, clients(server, *"aaaa") as some:
        until(lambda: len(server.plane.model("a").devices) == 2)
        monkeypatch.setattr(NoisyDevice, "per_mille", 300)
        until(lambda: noisy.fencings >= 1, 120)
        monkeypatch.setattr(NoisyDevice, "per_mille", 0)
        until(lambda: len(server.plane.model("a").devices) == 2, 60)
        more(some, 5)
        assert server.plane.pool.slots[0].fencings == 0
    assert all(set(client.statuses) == {200} for client in some)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_new_version_under_load_fails_no_request(store: Store, devices: int) -> None:
    ids = [(f"emulator:{n}", "") for n in range(devices)]
    plane = DataPlane({}, Settings(http_port=0, grpc_port=0), sources=[StoreSource(store)], devices=ids)
    with running(Server(plane=plane)) as server:
        on_loop(server, lambda: plane.load_model("a", {"version": "v1"}))
        old = plane.model("a").version
        with clients(server, *"aaaaaaaa") as some:
            more(some, 5)
            answer = httpx.post(
                f"{server.url}/v2/repository/models/a/load", json={"parameters": {"version": "v2"}}, timeout=60
            )
            assert answer.status_code == 200, answer.text
            new = plane.model("a").version
            assert new != old
            more(some, 5)
        assert all(set(client.statuses) == {200} for client in some)
        assert {version for client in some for version in client.versions} == {old, new}


def test_more_models_than_boards(store: Store) -> None:
    ids = [("emulator:0", ""), ("emulator:1", "")]
    with serving(store, ids, load_on_demand=True, minimum_residency_s=0.05) as server:
        with clients(server, *"aabbccdd") as some:
            more(some, 20)
        assert all(set(client.statuses) == {200} for client in some)
        evictions = sum(server.plane.model(name).counts.evictions for name in "abcd")
        assert evictions >= 4
        index = httpx.post(f"{server.url}/v2/repository/index", json={}).json()
        assert sorted(entry["name"] for entry in index if entry["state"] == "READY") != list("abcd")
        text = httpx.get(f"{server.url}/metrics").text
        assert 'gatesmith_model_evictions_total{model="a"' in text


def test_a_fallback_is_seen_by_clients(store: Store, boards: list[BoardProcess]) -> None:
    devices = [(f"serial:{boards[0].link}", "icebreaker")]
    settings = Settings(http_port=0, fallback="emulator")
    plane = DataPlane({}, settings, sources=[_Only(StoreSource(store), "v1")], devices=devices, preload=["a"])
    with running(Server(plane=plane)) as server, clients(server, "a", "a") as some:
        more(some, 5)
        assert all(client.fallbacks == 0 for client in some)
        boards[0].signal(signal.SIGKILL)
        until(lambda: all(client.fallbacks for client in some), 60)
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        boards[0].plug_in()
        until(lambda: plane.model("a").devices == [devices[0][0]], 60)
        more(some, 2)  # what was on its way when the board came back has been answered then
        counted = plane.model("a").counts.fallback
        more(some, 5)
        assert plane.model("a").counts.fallback == counted
    assert all(set(client.statuses) == {200} for client in some)


def test_the_process_drains_and_leaves_nothing_behind(store: Store) -> None:
    command = [*PROGRAM, "serve", "--repository", str(store.layout.path), "--load-on-demand"]
    command += ["--device", "emulator:0", "--http-port", "0", "--json"]
    env = environment(None, GATESMITH_DRAIN_S="0.5", GATESMITH_LOG_FORMAT="json", GATESMITH_LOG_REQUESTS="1")
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            assert process.stdout
            import json

            url = json.loads(process.stdout.readline())["url"]
            with httpx.Client(base_url=url, timeout=60) as session:
                payload = np.arange(16, dtype=np.uint8).reshape(4, 4)
                assert ask(session, "b", payload).status_code == 200
                process.terminate()
                until(lambda: session.get("/v2/health/ready").status_code == 503)
                assert ask(session, "b", payload).status_code == 200  # it still answers
            _, logged = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    lines = [json.loads(line) for line in logged.splitlines()]
    requests = [line for line in lines if line.get("outcome") == "success"]
    assert [line["model"] for line in requests] == ["b", "b"]


def test_contract_of_the_core() -> None:
    assert contract(CORE).input_bytes == 4
