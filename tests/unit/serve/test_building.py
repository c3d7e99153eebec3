"""Models without firmware, which are built while the server runs; and tags that move while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from planes import Shelf, ask, check, eventually, version_of, with_plane

from gatesmith.errors import DesignDoesNotFit, ModelNotReady, RegistryUnreachable
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.following import follow
from gatesmith.serve.pool import Slot
from gatesmith.serve.source import Offer

Doubles = list[ArithmeticDevice]
BUILT, SKETCH = tiny_firmware(board="ulx3s-85f", seed=7), tiny_firmware(board="ulx3s-85f", seed=8)


class Smithy:
    """Builds what is missing, when it is let."""

    def __init__(self, *, failure: Exception | None = None) -> None:
        self.go, self.failure = asyncio.Event(), failure
        self.asked: list[tuple[str, str]] = []

    async def firmware(self, offer: Offer, board: str, progress: Callable[[float], None]) -> Firmware:
        self.asked.append((offer.reference, board))
        progress(0.4)
        await self.go.wait()
        if self.failure:
            raise self.failure
        return BUILT

    async def preview(self, offer: Offer, board: str) -> Firmware:
        assert (offer.reference, board) == self.asked[-1]
        return SKETCH


def shelf() -> Shelf:
    """A model with firmware for a board that is not here."""
    return Shelf({"iris": {"v1": [tiny_firmware(seed=1)]}})


def with_fallback(plane: DataPlane) -> None:
    def make() -> Slot:
        device = ArithmeticDevice("double:fallback-0")
        return plane.pool.add(Slot(device.id, lambda: device, is_fallback=True))

    plane.loader.fallbacks.make = make


def test_a_builder_makes_what_is_missing_and_its_progress_is_seen() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        loading = asyncio.ensure_future(plane.load_model("iris"))
        await eventually(lambda: bool(smithy.asked))
        parameters = plane.model("iris").metadata()["parameters"]
        assert (parameters["state"], parameters["progress"]) == ("building", 0.4)
        assert plane.index()[0]["state"] == "LOADING"
        with pytest.raises(ModelNotReady, match="is being loaded"):
            await ask(plane, "iris")
        smithy.go.set()
        await loading
        assert smithy.asked == [("iris:v1", "ulx3s-85f")]
        assert plane.model("iris").metadata()["parameters"]["state"] == "READY"
        assert plane.model("iris").is_firmware(BUILT)
        check(await ask(plane, "iris"))

    smithy = Smithy()
    with_plane(body, shelf(), boards=["ulx3s-85f"], builder=smithy)


def test_meanwhile_an_emulated_board_answers_only_where_fallbacks_were_asked_for() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        with_fallback(plane)
        loading = asyncio.ensure_future(plane.load_model("iris"))
        await eventually(lambda: plane.model("iris").ready)
        answer = await ask(plane, "iris")
        check(answer)
        assert answer.parameters == {"fallback": "double:fallback-0"}
        assert plane.model("iris").is_firmware(SKETCH)
        assert plane.model("iris").metadata()["parameters"]["state"] == "building"
        asking = [asyncio.ensure_future(ask(plane, "iris", n)) for n in range(20)]
        smithy.go.set()
        await loading
        for number, one in enumerate(asking):
            check(await one, number)
        answer = await ask(plane, "iris")
        assert answer.parameters == {}
        assert plane.model("iris").is_firmware(BUILT)
        assert plane.model("iris").metadata()["parameters"]["state"] == "READY"
        await eventually(lambda: plane.model("iris").devices == ["arithmetic:0"])

    smithy = Smithy()
    with_plane(body, shelf(), boards=["ulx3s-85f"], builder=smithy)


def test_a_build_that_fails_is_told_and_the_device_is_free_again() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        smithy.go.set()
        with pytest.raises(DesignDoesNotFit, match="design needs 9"):
            await plane.load_model("iris")
        assert plane.index()[0]["state"] == "UNAVAILABLE"
        assert "design needs 9" in plane.index()[0]["reason"]
        assert len(plane.pool.free()) == 1

    smithy = Smithy(failure=DesignDoesNotFit("design needs 9 LC, the part has 4"))
    with_plane(body, shelf(), boards=["ulx3s-85f"], builder=smithy)


def test_loading_again_what_was_built_changes_nothing() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        smithy.go.set()
        await plane.load_model("iris")
        before = version_of(plane, "iris")
        await plane.load_model("iris")
        assert (version_of(plane, "iris"), plane.model("iris").counts.loads) == (before, 1)

    smithy = Smithy()
    with_plane(body, shelf(), boards=["ulx3s-85f"], builder=smithy)


class Registry(Shelf):
    """A shelf whose tag may move, and which may be away."""

    def __init__(self) -> None:
        super().__init__({"iris": {"v1": [tiny_firmware(seed=1)]}})
        self.away = False

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        if self.away:
            self.found.append((name, version, fresh))
            raise RegistryUnreachable("no connection")
        return super().find(name, version, fresh=fresh)


def test_a_tag_that_moves_rolls_over_and_no_request_is_lost() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        following = asyncio.ensure_future(follow(plane.loader, 0.001))
        old, new = tiny_firmware(seed=1), tiny_firmware(seed=2)
        check(await ask(plane, "iris"))
        registry.away = True
        asked = len(registry.found)
        await eventually(lambda: len(registry.found) > asked + 2)
        assert plane.model("iris").is_firmware(old), "a registry that is away changes nothing"
        registry.away = False
        registry.models["iris"]["v1"] = [replace(new, name="iris")]
        answers = 0
        while not plane.model("iris").is_firmware(new):
            check(await ask(plane, "iris", answers), answers)
            answers += 1
        assert answers
        check(await ask(plane, "iris"))
        following.cancel()

    registry = Registry()
    with_plane(body, registry, devices=2, preload=["iris"])
