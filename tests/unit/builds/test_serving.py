"""Models that are built while a server runs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from firmwares import tiny_firmware

from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.builds.serving import ModelBuilder, Progress, Wish
from gatesmith.firmware import Firmware
from gatesmith.serve.source import Offer

MANY = 48  # more than any executor that asyncio makes has threads


class Patient:
    """Builds nothing before it is let."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def build(self, wish: Wish, progress: Progress, stop: threading.Event) -> Firmware:
        assert self.go.wait(60)
        return tiny_firmware(board=wish.order.board, model_digest=wish.order.model)


def _offer(number: int) -> Offer:
    return Offer(
        name=f"m{number}",
        tag="",
        reference=f"m{number}",
        boards=(),
        read=lambda _board: tiny_firmware(),
        fits=lambda _board: False,
        model=lambda: (f"m{number}.onnx", b"model %d" % number),
    )


def test_builds_that_take_long_keep_no_thread_from_the_server(tmp_path: Path) -> None:
    async def main() -> None:
        builds = Patient()
        builder = ModelBuilder(builds, Store(tmp_path, policy=UNCHECKED))
        asked = [
            asyncio.ensure_future(builder.firmware(_offer(number), "icebreaker", lambda _share: None))
            for number in range(MANY)
        ]
        await asyncio.sleep(0)
        try:
            assert await asyncio.wait_for(asyncio.to_thread(int, "7"), 20) == 7
            assert not any(one.done() for one in asked)
        finally:
            builds.go.set()
        assert len({firmware.model_digest for firmware in await asyncio.gather(*asked)}) == MANY

    asyncio.run(main())
