"""gRPC's own client library against the door: what every client of another language relies on too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware
from grpc_serving import Door, grpc_served
from http2_peer import Peer, framed, grpc_head
from registries import make_certificates
from serving import until

from gatesmith.oip.schema import Message, message

grpc: Any = pytest.importorskip("grpc")
IRIS = tiny_firmware()
SERVICE = "/inference.GRPCInferenceService/"
X = np.array([[1, 2.5, -3, 4]], np.float32)


@pytest.fixture(scope="module")
def device() -> ArithmeticDevice:
    return ArithmeticDevice()


@pytest.fixture(scope="module")
def door(device: ArithmeticDevice) -> Iterator[Door]:
    with grpc_served({"iris:v1": (IRIS, device)}, body_limit_bytes=1 << 20, max_waiting=1 << 24) as running:
        yield running


@pytest.fixture
def channel(door: Door) -> Iterator[Any]:
    with grpc.insecure_channel(door.address) as opened:
        yield opened


def method(channel: Any, name: str) -> Any:
    return channel.unary_unary(
        f"{SERVICE}{name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message(f"{name}Response").FromString,
    )


def request(x: np.ndarray[Any, Any] = X, **more: Any) -> Message:
    made = message("ModelInferRequest")(model_name="iris", **more)
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    made.raw_input_contents.append(x.astype("<f4").tobytes())
    return made


def want(x: np.ndarray[Any, Any] = X) -> np.ndarray[Any, Any]:
    return IRIS.contract.decode(expected_payload(IRIS.contract, IRIS.contract.encode({"x": x})))["y"]


def result(answer: Message) -> np.ndarray[Any, Any]:
    return np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(answer.outputs[0].shape)


@pytest.mark.parametrize("compression", ["NoCompression", "Gzip", "Deflate"])
@pytest.mark.parametrize("rows", [1, 3, 4000, 60_000])
def test_small_and_large_messages(channel: Any, compression: str, rows: int) -> None:
    x = np.random.default_rng(rows).integers(-40, 40, (rows, 4)).astype(np.float32) / 16
    answer = method(channel, "ModelInfer")(request(x), compression=getattr(grpc.Compression, compression), timeout=30)
    np.testing.assert_array_equal(result(answer), want(x))


def test_many_calls_on_one_connection(channel: Any) -> None:
    infer = method(channel, "ModelInfer")
    inputs = [np.full((1 + i % 5, 4), i % 7, np.float32) for i in range(400)]
    calls = [infer.future(request(x), timeout=30) for x in inputs]
    for x, call in zip(inputs, calls, strict=True):
        np.testing.assert_array_equal(result(call.result()), want(x))


def test_many_large_calls_at_once_share_the_room(channel: Any) -> None:
    x = np.ones((60_000, 4), np.float32)  # 960 kB each, 24 of them, where 8 MiB may be under way
    calls = [method(channel, "ModelInfer").future(request(x), timeout=60) for _ in range(24)]
    assert all(np.array_equal(result(call.result()), want(x)) for call in calls)


def test_a_message_above_the_limit(channel: Any) -> None:
    x = np.ones((70_000, 4), np.float32)
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with pytest.raises(grpc.RpcError) as caught:
            method(channel, "ModelInfer")(request(x), compression=compression, timeout=30)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1048576 are taken" in caught.value.details()


def test_errors_have_their_codes(channel: Any) -> None:
    cases = [
        (message("ModelInferRequest")(model_name="jets"), grpc.StatusCode.NOT_FOUND, "no model 'jets'"),
        (request(model_version="v9"), grpc.StatusCode.NOT_FOUND, "no version 'v9'"),
        (request(np.ones((1, 3), np.float32)), grpc.StatusCode.INVALID_ARGUMENT, r"\[-1, 4\] is needed"),
        (request(np.full((1, 4), np.nan, np.float32)), grpc.StatusCode.INVALID_ARGUMENT, "not finite"),
    ]
    for made, code, words in cases:
        with pytest.raises(grpc.RpcError, match=words) as caught:
            method(channel, "ModelInfer")(made, timeout=30)
        assert caught.value.code() is code


def test_words_of_errors_arrive_in_every_script(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "ModelReady")(message("ModelReadyRequest")(name="модель 100%"), timeout=30)
    assert "'модель 100%'" in caught.value.details()


def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}TraceSetting")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_noise_is_an_invalid_argument(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}ModelInfer")(b"\xff\xff\xff", timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_deadlines_and_cancelling(door: Door, device: ArithmeticDevice, channel: Any) -> None:
    infer = method(channel, "ModelInfer")
    device.hold.clear()
    device.entered.clear()
    try:
        first = infer.future(request(), timeout=30)
        assert device.entered.wait(10)
        with pytest.raises(grpc.RpcError) as caught:
            infer(request(), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        dropped = infer.future(request(np.ones((9, 4), np.float32)), timeout=30)
        dropped.cancel()
        # Let the cancelled call reach the server: a later call on the connection has to be answered.
        method(channel, "ServerLive")(message("ServerLiveRequest")(), timeout=30)
        device.calls.clear()
    finally:
        device.hold.set()
    np.testing.assert_array_equal(result(first.result()), want())
    infer(request(), timeout=30)
    assert 9 not in device.calls


def test_the_server_itself_keeps_deadlines(door: Door, device: ArithmeticDevice) -> None:
    """Seen with a client that does not end its call by itself."""
    device.hold.clear()
    try:
        with Peer(door.port) as peer:
            stream = peer.call(grpc_head("ModelInfer", grpc_timeout="200m"), framed(request().SerializeToString()))
            assert peer.status(stream)[0] == 4
    finally:
        device.hold.set()


def test_overload_and_retry_information() -> None:
    slow = ArithmeticDevice()
    slow.hold.clear()
    with grpc_served({"iris": (IRIS, slow)}, max_waiting=2) as door, grpc.insecure_channel(door.address) as channel:
        infer = method(channel, "ModelInfer")
        try:
            calls = [infer.future(request(), timeout=30)]
            assert slow.entered.wait(10)
            calls += [infer.future(request(), timeout=30) for _ in range(5)]
            until(lambda: sum(call.done() for call in calls) >= 3)
            for refused in (call for call in calls if call.done()):
                assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert int(dict(refused.trailing_metadata())["retry-after-ms"]) >= 1
        finally:
            slow.hold.set()
        assert calls[0].exception() is None
        assert sum(call.exception() is None for call in calls) >= 2


def test_not_ready_is_unavailable() -> None:
    unloaded = grpc_served({"iris": (IRIS, ArithmeticDevice())}, load=False)
    with unloaded as door, grpc.insecure_channel(door.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            method(channel, "ModelInfer")(request(), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "retry-after-ms" in dict(caught.value.trailing_metadata())
        assert not method(channel, "ModelReady")(message("ModelReadyRequest")(name="iris"), timeout=30).ready
        assert not method(channel, "ServerReady")(message("ServerReadyRequest")(), timeout=30).ready
        assert method(channel, "ServerLive")(message("ServerLiveRequest")(), timeout=30).live


def test_a_bug_is_internal_and_tells_nothing_of_its_inside(
    door: Door, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buggy(*_arguments: Any, **_more: Any) -> None:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(door.plane, "infer", buggy)
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "ModelInfer")(request(), timeout=30)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "the server failed: ZeroDivisionError; see its log"


def test_tls(tmp_path: Path) -> None:
    authority, (certificate, key) = make_certificates(tmp_path)
    settings = {"tls_certificate": str(certificate), "tls_key": str(key)}
    with grpc_served({"iris": (IRIS, ArithmeticDevice())}, **settings) as door:
        credentials = grpc.ssl_channel_credentials(authority.read_bytes())
        with grpc.secure_channel(door.address, credentials) as channel:
            x = np.ones((20_000, 4), np.float32)
            np.testing.assert_array_equal(result(method(channel, "ModelInfer")(request(x), timeout=30)), want(x))
        with grpc.insecure_channel(door.address) as channel, pytest.raises(grpc.RpcError) as caught:
            method(channel, "ServerLive")(message("ServerLiveRequest")(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_graceful_end_loses_no_call() -> None:
    device = ArithmeticDevice()
    device.hold.clear()
    with grpc_served({"iris": (IRIS, device)}) as door, grpc.insecure_channel(door.address) as channel:
        calls = [method(channel, "ModelInfer").future(request(), timeout=30) for _ in range(8)]
        assert device.entered.wait(10)
        ended = threading.Thread(target=lambda: door.call(door.door.stop(10)))
        ended.start()
        device.hold.set()
        for call in calls:
            np.testing.assert_array_equal(result(call.result()), want())
        ended.join(10)
        assert not ended.is_alive()


def test_clients_that_come_and_go(door: Door) -> None:
    def once(i: int) -> bool:
        with grpc.insecure_channel(door.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            return np.array_equal(result(method(channel, "ModelInfer")(request(), timeout=30)), want())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(once, range(40)))
