"""Models keep the number of devices that they should have, whatever becomes of these."""

from __future__ import annotations

import asyncio
import threading

import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from planes import Shelf, ask, check, eventually, one_each, with_plane

from gatesmith.errors import DeviceBusy, DeviceTimeout, ModelNotReady
from gatesmith.firmware import Firmware
from gatesmith.serve import pool as pool_module
from gatesmith.serve import replicas
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.model import State
from gatesmith.serve.pool import SlotState

Doubles = list[ArithmeticDevice]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(pool_module, "LONGEST_DELAY_S", 0.004)


def test_a_device_that_was_away_while_versions_changed_comes_back_to_the_new_one() -> None:
    shelf = Shelf({"a": {"v1": [tiny_firmware(name="a")]}})

    async def body(plane: DataPlane, doubles: Doubles) -> None:
        old = plane.model("a").version
        shelf.models["a"]["v2"] = [tiny_firmware(name="a", seed=1)]
        for double in doubles[1:]:
            double.failure = DeviceTimeout("silent")
        while sum(slot.state is SlotState.FENCED for slot in plane.pool.slots) < 2:
            await asyncio.gather(*(ask(plane, "a", n) for n in range(4)))
        await plane.load_model("a")
        assert plane.model("a").version != old
        for double in doubles[1:]:
            double.failure = None
        await eventually(lambda: len(plane.model("a").devices) == 3)
        check(await ask(plane, "a", 2), 2)

    with_plane(body, shelf, devices=3, preload=["a"], max_batch=1)


def test_a_replica_that_went_to_another_model_is_given_back() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        assert len(plane.model("a").devices) == 2
        await plane.load_model("b")
        assert [len(plane.model(name).devices) for name in "ab"] == [1, 1]
        await plane.unload_model("b")
        await eventually(lambda: len(plane.model("a").devices) == 2)

    with_plane(body, one_each("a", "b"), devices=2, preload=["a"])


def test_a_device_that_somebody_took_meanwhile_is_left_to_him() -> None:
    """While the first free device is programmed, the second one becomes another model's."""

    async def body(plane: DataPlane, doubles: Doubles) -> None:
        model = plane.model("a")
        begun, go_on, original = threading.Event(), threading.Event(), doubles[1].program

        def program(firmware: Firmware) -> None:
            begun.set()
            assert go_on.wait(30)
            original(firmware)

        doubles[1].program = program  # type: ignore[method-assign]
        giving = asyncio.ensure_future(plane.loader.replicas.give(model, 3))
        await eventually(begun.is_set)
        await plane.load_model("b")
        go_on.set()
        await giving
        assert [slot.model and slot.model.name for slot in plane.pool.slots] == ["a", "a", "b"]
        check(await ask(plane, "b", 3), 3)

    with_plane(body, one_each("a", "b"), devices=3, preload=["a"], load_on_demand=True)


def test_a_device_that_cannot_run_a_version_is_not_tried_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        model, tries, original = plane.model("a"), [0], doubles[1].program

        def program(firmware: Firmware) -> None:
            tries[0] += 1
            if tries[0] == 1:
                raise DeviceTimeout("silent")
            original(firmware)

        doubles[1].program = program  # type: ignore[method-assign]
        plane.loader.replicas.wanted["a"] = 2
        plane.loader.replicas.look()
        slot = plane.pool.slots[1]
        await eventually(lambda: slot.fencings == 1 and slot.state is SlotState.FREE)
        for _ in range(100):
            plane.loader.replicas.look()
            await asyncio.sleep(0)
        assert tries == [1]
        monkeypatch.setattr(replicas, "REST_S", 0.0)
        plane.loader.replicas._failed.clear()
        plane.loader.replicas.look()
        await eventually(lambda: len(model.devices) == 2)

    with_plane(body, one_each("a"), devices=2, preload=["a"], load_on_demand=True)


def test_a_model_that_had_to_leave_comes_back_when_a_device_is_free() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        await plane.load_model("c")  # by hand: one of the others has to go
        (gone,) = (name for name in "ab" if not plane.model(name).ready)
        assert not plane.ready
        await plane.unload_model("c")
        await eventually(lambda: plane.ready)
        check(await ask(plane, gone, 4), 4)

    with_plane(body, one_each("a", "b", "c"), devices=2, preload=["a", "b"])


def test_an_evicted_model_that_is_loaded_on_demand_is_no_want_of_readiness() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        check(await ask(plane, "b", 1), 1)
        assert not plane.model("a").ready
        assert plane.ready
        check(await ask(plane, "a", 1), 1)

    with_plane(body, one_each("a", "b"), preload=["a"], load_on_demand=True)


def test_a_new_version_pushes_no_other_model_out() -> None:
    """Not even when the device that it was given fails: then the old version goes on."""
    shelf = Shelf({"a": {"v1": [tiny_firmware(name="a")]}, "b": {"v1": [tiny_firmware(name="b", seed=5)]}})

    async def body(plane: DataPlane, doubles: Doubles) -> None:
        plane.loader.replicas.wanted.clear()
        spare = next(slot for slot in plane.pool.slots if slot.model is plane.model("b"))
        device = next(double for double in doubles if double.id == spare.id)
        shelf.models["a"]["v2"] = [tiny_firmware(name="a", seed=1)]
        old, device.failure = plane.model("a").version, DeviceTimeout("silent")
        with pytest.raises(DeviceTimeout):
            await plane.load_model("a")
        assert plane.model("a").version == old
        device.failure = None
        for name in "ab":
            check(await ask(plane, name, 2), 2)
        assert plane.model("b").counts.evictions == 0
        await eventually(lambda: all(slot.state is not SlotState.FENCED for slot in plane.pool.slots))
        await plane.load_model("a")
        assert plane.model("a").version != old
        assert plane.model("b").counts.evictions == 0
        check(await ask(plane, "b", 2), 2)

    with_plane(body, shelf, devices=3, preload=["b", "a"])


def test_a_device_that_fails_while_it_is_emptied_for_a_new_version_serves_the_old_one_again() -> None:
    shelf = Shelf({"a": {"v1": [tiny_firmware(name="a")]}})

    async def body(plane: DataPlane, doubles: Doubles) -> None:
        (device,), (slot,), old = doubles, plane.pool.slots, plane.model("a")
        shelf.models["a"]["v2"] = [tiny_firmware(name="a", seed=1)]
        device.hold.clear()
        last = asyncio.ensure_future(ask(plane, "a", 1))
        await eventually(device.entered.is_set)
        swapping = asyncio.ensure_future(plane.load_model("a"))
        await eventually(lambda: old.state is State.UNLOADING)
        device.failure = DeviceTimeout("silent")
        device.hold.set()
        with pytest.raises(ModelNotReady, match="silent"):
            await last
        with pytest.raises(DeviceBusy, match="failed meanwhile"):
            await swapping
        device.failure = None
        await eventually(lambda: slot.state is SlotState.SERVING)
        assert plane.model("a") is old
        assert old.devices == [slot.id]
        assert device.firmware is old.firmware
        check(await ask(plane, "a", 2), 2)
        await plane.load_model("a")
        assert plane.model("a") is not old

    with_plane(body, shelf, preload=["a"])
