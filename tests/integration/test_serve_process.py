"""The server as a process of its own: signals, ports, and models that cannot be loaded."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from ports import free_port
from serving import served

from gatesmith.errors import DeviceNotFound, ServerNotStarted
from gatesmith.serve.server import Server, serve_models
from gatesmith.serve.settings import Settings

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from firmwares import ArithmeticDevice, tiny_firmware
from gatesmith.errors import GatesmithError
from gatesmith.serve.server import serve_models
from gatesmith.serve.settings import Settings
device = ArithmeticDevice()
models = {"iris:v1": (tiny_firmware(), device)}
try:
    serve_models(models, Settings.from_environment(), on_started=lambda url: print(url, flush=True))
except GatesmithError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    sys.exit(1)
except KeyboardInterrupt:
    sys.exit(130 if device.closed else 2)
sys.exit(0 if device.closed else 2)
"""


@contextlib.contextmanager
def process(**environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1])]
    settings = {"GATESMITH_GRPC_PORT": "0", **environment}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings)
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=30)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_it_gracefully(number: signal.Signals, code: int) -> None:
    with process(GATESMITH_HTTP_PORT="0") as child:
        assert child.stdout
        url = child.stdout.readline().strip()
        assert httpx.get(f"{url}/v2/health/live").status_code == 200
        child.send_signal(number)
        out, error = child.communicate(timeout=30)
        assert (child.returncode, out, error) == (code, "", "")


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(GATESMITH_HTTP_PORT=str(port)) as child:
            out, _ = child.communicate(timeout=30)
    assert child.returncode == 1
    assert out.startswith(f"ServerNotStarted: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert out.count("\n") == 1


def test_a_grpc_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(GATESMITH_HTTP_PORT="0", GATESMITH_GRPC_PORT=str(port)) as child:
            out, _ = child.communicate(timeout=30)
    assert child.returncode == 1
    assert out.startswith(f"ServerNotStarted: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert "GATESMITH_GRPC_PORT; -1 means no gRPC" in out
    assert out.count("\n") == 1


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ServerNotStarted, match=r"cannot listen on 192\.0\.2\.1:0: "):
        Server({}, Settings(host="192.0.2.1", http_port=0))


def test_a_model_that_cannot_be_loaded_ends_the_server() -> None:
    device = ArithmeticDevice()
    device.failure = DeviceNotFound("no device runs firmware for board icebreaker")
    with pytest.raises(DeviceNotFound, match="no device runs firmware"):
        serve_models({"iris": (tiny_firmware(), device)}, Settings(http_port=0, grpc_port=0))
    assert device.closed


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with served({"iris": (tiny_firmware(), ArithmeticDevice())}, host="::1") as running:
        assert running.url.startswith("http://[::1]:")


@pytest.mark.parametrize("case", ["admin port", "grpc port", "certificate"])
def test_a_server_that_does_not_start_holds_no_port(case: str, tmp_path: Path) -> None:
    noise = tmp_path / "noise.pem"
    noise.write_text("no certificate")
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as line:
        taken = line.getsockname()[1]
        settings = {
            "admin port": Settings(http_port=port, admin_port=taken),
            "grpc port": Settings(http_port=port, admin_port=free_port(), grpc_port=taken),
            "certificate": Settings(http_port=port, tls_certificate=str(noise), tls_key=str(noise)),
        }[case]
        with pytest.raises(ServerNotStarted) as caught:
            Server({}, settings)
        for each in filter(None, (port, settings.admin_port if case == "grpc port" else 0)):
            socket.create_server(("127.0.0.1", each)).close()
    assert caught.value  # and with it, all that the attempt left


def test_what_has_ended_can_be_stopped() -> None:
    settings = {"drain_s": 0.01}
    with served({"iris": (tiny_firmware(), ArithmeticDevice())}, **settings) as running:
        pass
    running.stop()
