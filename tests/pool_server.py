"""A server process over a store, with programmable boards as its pool: ``pool_server.py STORE NAME,... LINK...``.

Prints one JSON object with its addresses. Settings come from the environment.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import sys
from functools import partial
from pathlib import Path

from board_process import ProgrammableBoard

from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.logs import configure_logs
from gatesmith.serve.pool import Slot
from gatesmith.serve.repository import StoreSource
from gatesmith.serve.server import Server
from gatesmith.serve.settings import Settings


def main(store: str, names: str, *links: str) -> None:
    """Serve until a signal."""
    faulthandler.register(signal.SIGUSR1)  # tells where every thread is
    settings = Settings.from_environment()
    configure_logs(settings)
    source = StoreSource(Store(Path(store), policy=UNCHECKED))
    plane = DataPlane({}, settings, sources=[source], preload=[name for name in names.split(",") if name])
    for link in links:
        plane.pool.add(Slot(f"serial:{link}", partial(ProgrammableBoard, link), board="icebreaker"))
    server = Server(plane=plane)
    sys.stdout.write(json.dumps({"url": server.url, "grpc_port": server.grpc_port}) + "\n")
    sys.stdout.flush()
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
