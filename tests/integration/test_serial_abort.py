"""A serial port on which a call hangs is given up from another thread, and can be opened again."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from gatesmith.devices.serial import SerialTransport
from gatesmith.errors import DeviceBusy, DeviceTimeout


@pytest.fixture
def port() -> Iterator[str]:
    """A serial port behind which nobody listens."""
    board, port = os.openpty()
    tty.setraw(port)
    yield os.ttyname(port)
    os.close(board)
    os.close(port)


@pytest.mark.parametrize(
    "hang",
    [lambda line: line.read(10, 60.0), lambda line: line.write(bytes(1 << 20))],
    ids=["reading", "writing"],
)
def test_what_hangs_ends_at_once_and_the_port_is_free(port: str, hang: Callable[[SerialTransport], object]) -> None:
    line, failures = SerialTransport(port, baud=115200), []

    def work() -> None:
        try:
            hang(line)
        except DeviceTimeout as error:
            failures.append(str(error))
        line.close()

    thread = threading.Thread(target=work)
    begin = time.monotonic()
    thread.start()
    with pytest.raises(DeviceBusy):
        SerialTransport(port, baud=115200)
    while thread.is_alive() and time.monotonic() - begin < 5:  # it may not have begun to wait
        line.abort()
        thread.join(0.05)
    assert not thread.is_alive()
    assert failures == [f"serial port {port} was given up while it was in use"]
    SerialTransport(port, baud=115200).close()


def test_nothing_is_sent_or_read_after_it(port: str) -> None:
    line = SerialTransport(port, baud=115200)
    line.abort()
    for call in (lambda: line.write(b"x"), lambda: line.read(1, 1.0)):
        with pytest.raises(DeviceTimeout, match="given up"):
            call()
    line.close()
    line.abort()  # too late, and no harm
