"""Models with known answers, and closed-loop clients that know them: REST in JSON and binary, and gRPC.

Every answer is compared, bit for bit, with what the reference evaluator says of the version that the answer names.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
from built import rtl_firmware
from models import integer_graph, trained
from numpy.typing import NDArray

from gatesmith.artifact.manifest import firmware_digest
from gatesmith.artifact.store import Store
from gatesmith.contract import pack
from gatesmith.firmware import Firmware
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import random_vectors
from gatesmith.oip.schema import message

__all__ = ["Asker", "Outcome", "Questions", "Version", "make_store", "percentiles"]

POOL, VECTORS, LARGEST = 1024, 16, 300
REFUSED_HTTP = {502, 503, 504}
REFUSED_GRPC = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
PATIENCE_S, PAUSE_S = 90.0, 1.0
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One version of a model: ``precision`` bits of a trained one."""

    name: str
    tag: str
    trained: str = "iris"
    precision: int = 8

    @property
    def graph(self) -> Graph:
        """Its integer graph, in which inputs and outputs are called x and y."""
        return integer_graph(self.trained, self.precision)

    @property
    def firmware(self) -> Firmware:
        """Its RTL with test vectors, and a build id of its own."""
        return _firmware(self)


@cache
def _firmware(version: Version) -> Firmware:
    graph = version.graph
    id_ = hashlib.sha256(f"{version.name}:{version.tag}".encode()).hexdigest()[:32]
    made = rtl_firmware(graph, "icebreaker", build_id=id_)
    integers = random_vectors(graph, VECTORS)
    wanted = pack([(reference.infer(graph, integers), made.contract.outputs[0].format)])
    vectors = made.contract.pack_inputs(integers).tobytes(), wanted.tobytes()
    return replace(made, name=version.name, vectors=vectors)


def make_store(folder: Path, versions: Sequence[Version]) -> Store:
    """A store with these."""
    store = Store(folder)
    for version in versions:
        store.save(f"{version.name}:{version.tag}", [version.firmware])
    return store


class Questions:
    """Inputs for each model, and the answers of each of its versions."""

    def __init__(self, versions: Sequence[Version], *, seed: int = 0) -> None:
        self.inputs: dict[str, NDArray[np.float32]] = {}
        self.input_names: dict[str, str] = {}
        self.answers: dict[tuple[str, str], NDArray[Any]] = {}
        for version in versions:
            graph, firmware = version.graph, version.firmware
            edge = graph.inputs[0].edge
            if version.name not in self.inputs:
                chances = np.random.default_rng([seed, len(self.inputs)])
                known = trained(version.trained).x
                rows = known[chances.integers(len(known), size=POOL)]
                self.inputs[version.name] = (rows + chances.normal(0, 0.3, rows.shape)).astype(np.float32)
                self.input_names[version.name] = edge.name
            x = self.inputs[version.name]
            port = firmware.contract.outputs[0]
            answer = reference.infer_real(graph, {edge.name: x})[port.spec.name]
            digits = firmware_digest(firmware).removeprefix("sha256:")[:12]
            self.answers[version.name, digits] = answer.astype(port.spec.datatype.dtype).reshape(POOL, -1)

    def are_right(self, name: str, version: str, start: int, got: NDArray[Any]) -> bool:
        """Whether these are the answers to the rows from ``start`` on."""
        wanted = self.answers.get((name, version))
        if wanted is None:
            return False
        wanted = wanted[np.arange(start, start + len(got)) % POOL]
        return got.shape == wanted.shape and bool((got == wanted).all())


@dataclass(slots=True)
class Outcome:
    """What became of requests."""

    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    waits_s: dict[str, float] = field(default_factory=dict)
    """The longest time from the first try of a request to its answer, for each model."""


Answered = tuple[str, str, NDArray[Any] | None, float]
"""Status, version, answer, and seconds after which to try again."""


class Asker(threading.Thread):
    """One client: asks, waits for the answer, checks it, asks again.

    Parameters
    ----------
    door : str
        ``json``, ``binary`` or ``grpc``.
    choose : callable
        Random numbers to the model's name and how many samples to ask for.
    again : bool
        Whether a refused request is tried again until it is answered.
    """

    def __init__(
        self,
        questions: Questions,
        door: str,
        *,
        url: str,
        grpc_port: int,
        choose: Callable[[random.Random], tuple[str, int]],
        seed: int,
        again: bool = False,
    ) -> None:
        super().__init__(name=f"{door} {seed}", daemon=True)
        self._questions, self._choose, self._again = questions, choose, again
        self._chances = random.Random(seed)
        self.outcome = Outcome()
        self.stopping = threading.Event()
        self._address, self._grpc_port = urlsplit(url).netloc, grpc_port
        self._session: http.client.HTTPConnection | None = None
        self._ask = {"json": self._json, "binary": self._binary, "grpc": self._grpc}[door]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}") if door == "grpc" else None

    def run(self) -> None:
        """Until stopped."""
        while not self.stopping.is_set():
            name, samples = self._choose(self._chances)
            start = self._chances.randrange(POOL)
            begin = time.perf_counter()
            while not self._once(name, start, samples) and self._again and not self.stopping.is_set():
                continue
            waited = time.perf_counter() - begin
            if waited > self.outcome.waits_s.get(name, 0.0):
                self.outcome.waits_s[name] = waited
        if self._channel is not None:
            self._channel.close()
        if self._session is not None:
            self._session.close()

    def _once(self, name: str, start: int, samples: int) -> bool:
        """One request; false when it was refused."""
        x = self._questions.inputs[name][np.arange(start, start + samples) % POOL]
        outcome, begin = self.outcome, time.perf_counter()
        try:
            status, version, answer, pause_s = self._ask(name, x)
        except Exception as error:  # whatever a client sees that is no answer
            outcome.lost.append(f"{self.name}: {type(error).__name__}: {error}")
            self._session = None
            return True
        seconds = time.perf_counter() - begin
        outcome.statuses[status] += 1
        if answer is not None:
            outcome.latencies_s.append(seconds)
            outcome.versions[f"{name} {version}"] += 1
            if not self._questions.are_right(name, version, start, answer.reshape(len(x), -1)):
                outcome.wrong.append(f"{self.name}: {samples} samples of {name} {version} from {start}")
            return True
        if pause_s < 0:
            outcome.lost.append(f"{self.name}: {status} {version}")
            return True
        outcome.refused_s.append(seconds)
        self.stopping.wait(min(pause_s, PAUSE_S))
        return False

    def _json(self, name: str, x: NDArray[np.float32]) -> Answered:
        tensor = {"name": self._questions.input_names[name], "datatype": "FP32", "shape": list(x.shape)}
        body = json.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]}).encode()
        status, headers, content = self._post(name, body, {"content-type": "application/json"})
        if status != 200:
            return _refused(status, headers, content)
        data = json.loads(content)
        output = data["outputs"][0]
        dtype = np.float64 if output["datatype"] == "FP64" else np.float32
        return "200", data["model_version"], np.array(output["data"], dtype).reshape(output["shape"]), 0.0

    def _binary(self, name: str, x: NDArray[np.float32]) -> Answered:
        raw = x.tobytes()
        tensor = {"name": self._questions.input_names[name], "datatype": "FP32", "shape": list(x.shape)}
        tensor["parameters"] = {"binary_data_size": len(raw)}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        sent = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        status, headers, content = self._post(name, head + raw, sent)
        if status != 200:
            return _refused(status, headers, content)
        size = int(headers["inference-header-content-length"])
        data = json.loads(content[:size])
        output = data["outputs"][0]
        dtype = np.float64 if output["datatype"] == "FP64" else np.float32
        return "200", data["model_version"], np.frombuffer(content[size:], dtype).reshape(output["shape"]), 0.0

    def _post(self, name: str, body: bytes, headers: dict[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = http.client.HTTPConnection(self._address, timeout=PATIENCE_S)
        self._session.request("POST", f"/v2/models/{name}/infer", body, headers)
        answer = self._session.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()

    def _grpc(self, name: str, x: NDArray[np.float32]) -> Answered:
        request = message("ModelInferRequest")(model_name=name)
        request.inputs.add(name=self._questions.input_names[name], datatype="FP32", shape=list(x.shape))
        request.raw_input_contents.append(x.tobytes())
        assert self._channel is not None
        call = self._channel.unary_unary(METHOD)
        try:
            data = message("ModelInferResponse").FromString(call(request.SerializeToString(), timeout=PATIENCE_S))
        except grpc.RpcError as error:
            code = error.code().name
            kind = "Deadline Exceeded" if error.details() == "Deadline Exceeded" else code  # that one is the client's
            return code, str(error.details()), None, 0.2 if kind in REFUSED_GRPC else -1.0
        output = data.outputs[0]
        dtype = np.float64 if output.datatype == "FP64" else np.float32
        array = np.frombuffer(data.raw_output_contents[0], dtype).reshape(list(output.shape))
        return "OK", data.model_version, array, 0.0


def _refused(status: int, headers: Mapping[str, str], content: bytes) -> Answered:
    pause_s = float(headers.get("retry-after", 0.2)) if status in REFUSED_HTTP else -1.0
    return str(status), content.decode(errors="replace")[:200], None, pause_s


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: median, p99, longest."""
    if not seconds:
        return {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    ordered = sorted(seconds)
    chosen = {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[len(ordered) * 99 // 100], "max_ms": ordered[-1]}
    return {name: round(value * 1e3, 2) for name, value in chosen.items()}
