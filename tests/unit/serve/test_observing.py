"""Log lines and spans: there when asked for, not imported when not."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from firmwares import ArithmeticDevice
from planes import ask, one_each, with_plane

from gatesmith.errors import TensorMismatch
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.logs import configure_logs
from gatesmith.serve.observing import observer_of
from gatesmith.serve.settings import Settings
from gatesmith.serve.tensors import InputTensor


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("gatesmith")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


async def one_good_one_bad(plane: DataPlane, _doubles: list[ArithmeticDevice]) -> None:
    await ask(plane, "a")
    with pytest.raises(TensorMismatch):
        await plane.infer(plane.model("a"), [InputTensor("x", "FP32", [2, 4], [1.0] * 8)], ["z"])


def logged(log_format: str, *, log_requests: bool = True) -> list[str]:
    stream = io.StringIO()
    configure_logs(Settings(log_format=log_format), stream)
    with_plane(one_good_one_bad, one_each("a"), preload=["a"], log_requests=log_requests)
    return [line for line in stream.getvalue().splitlines() if "runs model" not in line]


def test_what_clients_write_stays_in_its_line_and_moves_no_terminal() -> None:
    """A planted fault: a model's name that looks like a record of its own."""
    stream = io.StringIO()
    configure_logs(Settings(), stream)
    name = "x\n2026-01-01T00:00:00+0000 INFO all is well\r\x1b[2K\x9b\u2028\u202e\udcff"
    log = logging.getLogger("gatesmith.serve")
    log.warning("model %s is not loaded", name)
    try:
        raise ValueError(name)
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    first, second, *trace = text.split("\n")
    assert first.endswith(
        "WARNING model x\\n2026-01-01T00:00:00+0000 INFO all is well\\r\\x1b[2K\\x9b\\u2028\\u202e\\udcff is not loaded"
    )
    assert second.endswith("ERROR failed")
    assert all(line.startswith("  ") for line in trace[:-1])
    assert text.replace("\n", "").isprintable()


def test_requests_as_json() -> None:
    good, bad = [json.loads(line) for line in logged("json")]
    assert (good["level"], good["model"], good["outcome"]) == ("info", "a", "success")
    assert good["ms"] > 0
    assert good["message"].startswith("request model=a version=")
    assert bad["outcome"] == "TensorMismatch"


def test_requests_as_text() -> None:
    good, _ = logged("text")
    assert " INFO request model=a version=" in good


def test_nothing_is_said_of_requests_unless_asked() -> None:
    assert logged("text", log_requests=False) == []
    assert observer_of(Settings()) is None


def test_exceptions_stay_in_one_line() -> None:
    stream = io.StringIO()
    configure_logs(Settings(log_format="json"), stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("gatesmith.serve").exception("it failed", extra={"device": "emulator:0"})
    (line,) = stream.getvalue().splitlines()
    data = json.loads(line)
    assert (data["message"], data["device"]) == ("it failed", "emulator:0")
    assert "two\nlines" in data["exception"]


class Collector(BaseHTTPRequestHandler):
    """Receives traces."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence."""


def test_spans_arrive_at_a_collector() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    Collector.received = []
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        with_plane(one_good_one_bad, one_each("a"), preload=["a"], traces_endpoint=endpoint)
        collector.shutdown()
        thread.join()
    ((path, body),) = Collector.received
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    facts = [
        {attribute.key: attribute.value.string_value for attribute in span.attributes}
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [fact["gatesmith.outcome"] for fact in facts] == ["success", "TensorMismatch"]
    assert facts[0]["gatesmith.model"] == "a"


def test_neither_metrics_nor_traces_are_imported_before_they_are_needed() -> None:
    code = (
        "import sys, gatesmith.serve.server; "
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
