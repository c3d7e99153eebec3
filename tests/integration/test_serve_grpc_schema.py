"""The protocol's messages: wire-compatible with the reference client's, up to date, and good neighbours."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h2.events
import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from http2_peer import Peer, framed, grpc_head
from serving import served

from gatesmith.oip.schema import _pool, message

grpc: Any = pytest.importorskip("grpc")
service_pb2: Any = pytest.importorskip("tritonclient.grpc.service_pb2")
model_config_pb2: Any = pytest.importorskip("tritonclient.grpc.model_config_pb2")
SCRIPT = Path(__file__).parents[2] / "scripts" / "compile_proto.py"


def kinds(descriptor: Any) -> dict[str, Any]:
    """All messages of a file, nested ones too, by their full name."""
    found: dict[str, Any] = {}
    waiting = list(descriptor.message_types_by_name.values())
    while waiting:
        one = waiting.pop()
        found[one.full_name] = one
        waiting += one.nested_types
    return found


OURS = kinds(_pool().FindFileByName("inference.proto"))
THEIRS = kinds(service_pb2.DESCRIPTOR) | kinds(model_config_pb2.DESCRIPTOR)


@pytest.mark.parametrize("name", sorted(OURS))
def test_fields_have_the_protocols_numbers_and_types(name: str) -> None:
    theirs = {field.name: field for field in THEIRS[name].fields}
    for field in OURS[name].fields:
        other = theirs[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), (
            field.name
        )
        for part in ("message_type", "enum_type", "containing_oneof"):
            mine, yours = getattr(field, part), getattr(other, part)
            assert (mine and mine.full_name) == (yours and yours.full_name), field.name


def test_enumerations_have_the_protocols_numbers() -> None:
    file = _pool().FindFileByName("inference.proto")
    for name, enum in file.enum_types_by_name.items():
        theirs = model_config_pb2.DESCRIPTOR.enum_types_by_name[name]
        assert {v.name: v.number for v in enum.values} == {v.name: v.number for v in theirs.values}


def test_methods_are_the_protocols() -> None:
    ours = _pool().FindServiceByName("inference.GRPCInferenceService")
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for method in ours.methods:
        other = theirs[method.name]
        for part in ("input_type", "output_type"):
            assert getattr(method, part).full_name == getattr(other, part).full_name
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)


def test_the_compiled_messages_are_up_to_date() -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools is not installed")
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, "run scripts/compile_proto.py"


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_other_packages_messages_may_be_in_the_same_process(order: str) -> None:
    lines = ["from gatesmith.oip.schema import message; message('ModelInferRequest')", "import tritonclient.grpc"]
    program = "; ".join(lines if order == "ours first" else lines[::-1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def port() -> Any:
    with served({"iris": (tiny_firmware(), ArithmeticDevice())}) as server:
        yield server.grpc_port


@pytest.mark.parametrize(
    ("service", "answer"),
    [("", 1), ("liveness", 1), ("readiness", 1), ("inference.GRPCInferenceService", 1), ("other", None)],
)
def test_the_standard_health_service(service: str, answer: int | None, port: int) -> None:
    request = message("HealthCheckRequest", "grpc.health.v1")(service=service).SerializeToString()
    with Peer(port) as peer:
        stream = peer.call(grpc_head(__path="/grpc.health.v1.Health/Check"), framed(request))
        assert peer.status(stream)[0] == (0 if answer else 5)
        if answer:
            assert peer.body(stream) == framed(bytes([8, answer]))


def test_health_is_watched(port: int) -> None:
    with Peer(port) as peer:
        stream = peer.call(grpc_head(__path="/grpc.health.v1.Health/Watch"), framed())
        assert peer.until(h2.events.DataReceived, stream).data == framed(b"\x08\x01")


def test_who_watches_is_told_of_the_end_and_does_not_delay_it() -> None:
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served({"iris": (tiny_firmware(), ArithmeticDevice())}, grace_s=60))
        channel = stack.enter_context(grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")))
        states = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
        assert next(states) == b"\x08\x01"
        server.stop()
        assert next(states) == b"\x08\x02"
        assert states.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(version: str, port: int) -> None:
    kind = message("ServerReflectionRequest", "grpc.reflection.v1")
    answer = message("ServerReflectionResponse", "grpc.reflection.v1")
    asked = [
        kind(list_services="*"),
        kind(file_containing_symbol="inference.GRPCInferenceService"),
        kind(file_by_filename="inference.proto"),
        kind(file_containing_symbol="no.such.Thing"),
    ]
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    with Peer(port) as peer:
        stream = peer.call(grpc_head(__path=path), b"".join(framed(one.SerializeToString()) for one in asked))
        body, answers = peer.body(stream), []
        while body:
            size = 5 + int.from_bytes(body[1:5])
            answers.append(answer.FromString(body[5:size]))
            body = body[size:]
    assert [one.WhichOneof("message_response") for one in answers] == [
        "list_services_response",
        "file_descriptor_response",
        "file_descriptor_response",
        "error_response",
    ]
    names = [service.name for service in answers[0].list_services_response.service]
    assert "inference.GRPCInferenceService" in names
    assert answers[1].file_descriptor_response == answers[2].file_descriptor_response
