"""A dataplane over device doubles, models from memory, and a clock that needs no sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware

from gatesmith.errors import ModelNotFound
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.deployment import Answer
from gatesmith.serve.pool import Slot
from gatesmith.serve.settings import Settings
from gatesmith.serve.source import Builder, Offer
from gatesmith.serve.tensors import InputTensor

__all__ = ["Shelf", "ask", "check", "eventually", "one_each", "version_of", "with_plane"]


class Shelf:
    """A source: firmware by model name and tag; the newest tag is the last one."""

    def __init__(self, models: dict[str, dict[str, Sequence[Firmware]]]) -> None:
        self.models = models
        self.found: list[tuple[str, str | None, bool]] = []

    def names(self) -> Sequence[str]:
        return sorted(self.models)

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        self.found.append((name, version, fresh))
        tags = self.models.get(name, {})
        tag = version or (list(tags)[-1] if tags else "")
        if tag not in tags:
            raise ModelNotFound(f"no {name} {version}")
        firmwares = {firmware.board: firmware for firmware in tags[tag]}
        return Offer(
            name=name,
            tag=tag,
            reference=f"{name}:{tag}",
            boards=tuple(firmwares),
            read=lambda board: firmwares[board],
            fits=lambda board: board in firmwares,
        )


def one_each(*names: str) -> Shelf:
    """A shelf with one version of each model; all give the same answers and are different firmware."""
    return Shelf({name: {"v1": [tiny_firmware(name=name, seed=seed)]} for seed, name in enumerate(names)})


def with_plane(
    body: Callable[[DataPlane, list[ArithmeticDevice]], Awaitable[Any]],
    source: Shelf,
    *,
    devices: int = 1,
    boards: Sequence[str] = (),
    preload: Sequence[str] = (),
    pinned: Sequence[str] = (),
    builder: Builder | None = None,
    load: bool = True,
    **settings: Any,
) -> list[ArithmeticDevice]:
    """Run a test's body against a dataplane whose devices are doubles, in an event loop of its own."""
    settings = {"minimum_residency_s": 0.0, "load_wait_s": 20.0, **settings}

    async def main() -> list[ArithmeticDevice]:
        plane = DataPlane({}, Settings(**settings), sources=[source], preload=preload, pinned=pinned, builder=builder)
        doubles = [ArithmeticDevice(f"arithmetic:{i}") for i in range(devices)]
        for place, double in enumerate(doubles):
            board = boards[place] if boards else ""
            plane.pool.add(Slot(double.id, lambda double=double: double, board=board))  # type: ignore[misc]
        try:
            if load:
                await plane.load()
            await asyncio.wait_for(body(plane, doubles), 60)
        finally:
            for double in doubles:
                double.hold.set()
            await plane.close()
        return doubles

    return asyncio.run(main())


async def ask(plane: DataPlane, name: str, value: float = 1.0, *, version: str | None = None, **options: Any) -> Answer:
    """One request as a door makes it."""
    model = await plane.ready_model(name, version)
    return await plane.infer(model, [InputTensor("x", "FP32", [1, 4], [value, 2.0, 3.0, 4.0])], **options)


def check(answer: Answer, value: float = 1.0) -> None:
    """It is what an arithmetic device answers."""
    contract = tiny_firmware().contract
    x = np.array([[value, 2.0, 3.0, 4.0]], np.float32)
    want = contract.decode(expected_payload(contract, contract.encode({"x": x})))["y"]
    assert answer.outputs["y"].tolist() == want.tolist()


async def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Let the event loop run until it holds; fails after the time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


def version_of(plane: DataPlane, name: str) -> str:
    """The version that is meant now."""
    return plane.model(name).version
