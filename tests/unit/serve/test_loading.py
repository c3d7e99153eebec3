"""Models that come and go: on demand, in turn, pinned, in new versions."""

from __future__ import annotations

import asyncio

import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from planes import Shelf, ask, check, eventually, one_each, version_of, with_plane

from gatesmith.errors import (
    ArtifactNotFound,
    DeviceNotFound,
    DeviceTimeout,
    ModelNotFound,
    ModelNotReady,
    TensorMismatch,
)
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.pool import Slot, SlotState

Doubles = list[ArithmeticDevice]
OLD, NEW = tiny_firmware(seed=1), tiny_firmware(seed=2)


def running(plane: DataPlane) -> list[str]:
    """Which model each device runs."""
    return [slot.model.name if slot.model else "-" for slot in plane.pool.slots]


def test_the_first_request_loads_a_model() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        assert plane.ready
        assert plane.names == ["a", "b"]
        assert plane.metadata()["extensions"] == []
        assert [entry["state"] for entry in plane.index()] == ["UNAVAILABLE"] * 2
        for answer in await asyncio.gather(*(ask(plane, "a") for _ in range(20))):
            check(answer)
        assert plane.model("a").counts.loads == 1
        assert [(e["name"], e["state"]) for e in plane.index()] == [("a", "READY"), ("b", "UNAVAILABLE")]
        assert [e["name"] for e in plane.index(ready_only=True)] == ["a"]
        assert plane.model("a").is_version("v1")

    with_plane(body, one_each("a", "b"), devices=2, load_on_demand=True)


def test_without_loading_on_demand_a_model_is_loaded_by_hand() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        with pytest.raises(ModelNotReady, match="model a is not loaded"):
            await ask(plane, "a")
        with pytest.raises(ModelNotFound, match=r"no model 'z' is served here; the models are \['a'\]"):
            await ask(plane, "z")
        assert plane.model("a").metadata()["parameters"]["state"] == "UNAVAILABLE"
        with pytest.raises(ModelNotReady):
            plane.model("a").configuration()
        await plane.load_model("a")
        check(await ask(plane, "a"))
        with pytest.raises(ModelNotFound, match="model a has no version 'v7'"):
            await ask(plane, "a", version="v7")
        with pytest.raises(TensorMismatch, match="parameter version is of kind int"):
            await plane.load_model("a", {"version": 3})
        await plane.unload_model("a")
        with pytest.raises(ModelNotReady, match="it was unloaded"):
            await ask(plane, "a")
        with pytest.raises(ModelNotFound):
            await plane.unload_model("z")
        assert plane.pool.slots[0].state is SlotState.FREE
        assert plane.ready

    with_plane(body, one_each("a"))


def test_what_was_unloaded_is_not_loaded_by_a_request() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        await ask(plane, "a")
        await plane.unload_model("a")
        with pytest.raises(ModelNotReady, match="it was unloaded"):
            await ask(plane, "a")
        await plane.load_model("a")
        check(await ask(plane, "a"))

    with_plane(body, one_each("a"), load_on_demand=True)


def test_the_least_recently_used_model_goes() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        for name in ("a", "b", "a", "c"):
            check(await ask(plane, name))
        assert sorted(running(plane)) == ["a", "c"]
        assert plane.model("b").counts.evictions == 1
        assert plane.model("b").reason == "its device went to model c"
        check(await ask(plane, "b"))
        assert sorted(running(plane)) == ["b", "c"]
        assert plane.ready  # nobody asked for a to stay

    with_plane(body, one_each("a", "b", "c"), devices=2, load_on_demand=True)


def test_requests_that_are_there_are_answered_before_a_model_goes() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        await plane.load_model("a")
        doubles[0].hold.clear()
        many = [asyncio.ensure_future(ask(plane, "a", n)) for n in range(10)]
        await eventually(lambda: plane.model("a").waiting == 10)
        other = asyncio.ensure_future(ask(plane, "b"))
        await eventually(lambda: plane.model("a").state == "UNLOADING")
        doubles[0].hold.set()
        for n, answer in enumerate(await asyncio.gather(*many)):
            check(answer, n)
        check(await other)

    with_plane(body, one_each("a", "b"), load_on_demand=True)


def test_a_pinned_model_stays() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        await plane.load_model("b")  # takes as long as it takes, other than a request
        await plane.load_model("c")
        assert running(plane) == ["a", "c"]
        await plane.load_model("c", {"pin": True})
        with pytest.raises(ModelNotReady, match=r"model b was not ready within 0\.05 s; try again in \d+ s") as caught:
            await ask(plane, "b")
        assert int(str(caught.value.facts["retry_after_s"])) >= 1
        plane._pinned.discard("c")
        plane.placement.assign()
        await eventually(lambda: "b" in running(plane))  # it waited in line all the time
        assert "a" in running(plane)

    with_plane(body, one_each("a", "b", "c"), devices=2, load_on_demand=True, pinned=["a"], load_wait_s=0.05)


def test_a_model_keeps_its_device_for_a_while_and_nobody_starves() -> None:
    order: list[str] = []

    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        loop = asyncio.get_running_loop()
        await ask(plane, "a")
        begin = loop.time()

        async def wait_for(name: str) -> None:
            check(await ask(plane, name))
            order.append(name)

        async def go_on() -> None:
            while len(order) < 3:
                await ask(plane, "a")

        others = [asyncio.ensure_future(wait_for(name)) for name in "bcd"]
        going = asyncio.ensure_future(go_on())  # a is the most used all the time and has to leave in its turn
        await asyncio.gather(*others)
        assert loop.time() - begin >= 3 * 0.05
        await going

    with_plane(body, one_each("a", "b", "c", "d"), load_on_demand=True, minimum_residency_s=0.05)
    assert order == ["b", "c", "d"]


def test_a_spare_device_is_taken_before_a_model_has_to_go() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        assert running(plane) == ["a", "a", "a"]
        check(await ask(plane, "b"))
        assert sorted(running(plane)) == ["a", "a", "b"]
        assert plane.model("a").counts.evictions == 0

    with_plane(body, one_each("a", "b"), devices=3, preload=["a"], replicas=3, load_on_demand=True)


def shelf() -> Shelf:
    return Shelf({"iris": {"v1": [OLD]}})


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_a_new_version_takes_over_and_no_request_fails(devices: int) -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        stop, seen, counts = asyncio.Event(), set(), [0] * 8

        async def client(place: int) -> None:
            while not stop.is_set():
                model = await plane.ready_model("iris")
                check(await ask(plane, "iris", counts[place] % 30), counts[place] % 30)
                seen.add(model.version)
                counts[place] += 1

        clients = [asyncio.ensure_future(client(place)) for place in range(len(counts))]
        old = version_of(plane, "iris")
        await eventually(lambda: min(counts) > 1)
        source.models["iris"]["v2"] = [NEW]
        await plane.load_model("iris")
        new = version_of(plane, "iris")
        assert new != old
        before = list(counts)
        await eventually(lambda: new in seen and all(now > then for now, then in zip(counts, before, strict=True)))
        await eventually(lambda: len(plane.model("iris").devices) == devices)
        stop.set()
        await asyncio.gather(*clients)
        assert seen == {old, new}
        states = {entry["version"]: entry["state"] for entry in plane.index()}
        assert states == {new: "READY", old: "UNAVAILABLE"}
        assert [slot.firmware for slot in plane.pool.slots] == [NEW] * devices

    source = shelf()
    with_plane(body, source, devices=devices, preload=["iris"], max_batch=4)


def test_a_new_version_that_fails_in_place_leaves_the_old_one() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        original = doubles[0].program

        def program(firmware: Firmware) -> None:
            if firmware is NEW:
                raise DeviceTimeout("it does not like it")
            original(firmware)

        doubles[0].program = program  # type: ignore[method-assign]
        source.models["iris"]["v2"] = [NEW]
        with pytest.raises(DeviceTimeout, match="does not like it"):
            await plane.load_model("iris")
        assert plane.model("iris").is_version("v1")
        check(await ask(plane, "iris"))  # it waits until the old one is back

    source = shelf()
    with_plane(body, source, preload=["iris"])


def test_loading_what_is_there_already_changes_nothing() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        model = plane.model("iris")
        source.models["iris"]["again"] = [OLD]
        await plane.load_model("iris")
        assert plane.model("iris") is model
        assert model.is_version("again")
        assert plane.pool.slots[0].programmings == 1

    source = shelf()
    with_plane(body, source, preload=["iris"])


def test_an_older_version_can_be_asked_for_by_name() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        check(await ask(plane, "iris"))
        assert plane.model("iris").is_version("v2")
        check(await ask(plane, "iris", version="v1"))
        assert plane.model("iris").is_version("v2")  # which is still the one that is meant
        assert plane.model("iris", "v1").is_firmware(OLD)
        await plane.load_model("iris", {"version": "v1"})
        assert plane.model("iris").is_version("v1")

    with_plane(body, Shelf({"iris": {"v1": [OLD], "v2": [NEW]}}), devices=2, load_on_demand=True)


def test_the_firmware_that_fits_a_free_device_is_taken() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        await plane.load_model("iris")
        assert plane.model("iris").firmware.board == "ulx3s-85f"
        assert running(plane) == ["-", "iris"]

    firmwares = [tiny_firmware(board="icebreaker"), tiny_firmware(board="ulx3s-85f")]
    with_plane(body, Shelf({"iris": {"v1": firmwares}}), devices=2, boards=["tangnano9k", "ulx3s-85f"])


def test_no_firmware_for_any_device_is_told() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        with pytest.raises(ArtifactNotFound, match=r"iris:v1 has no firmware for any of the devices .* for icebreaker"):
            await plane.load_model("iris")
        with pytest.raises(ModelNotReady, match="failed to load"):
            await ask(plane, "iris")

    with_plane(body, shelf(), boards=["ulx3s-85f"])


def test_more_models_than_devices_need_loading_on_demand() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        told: list[BaseException] = []
        plane.on_load_failure = told.append
        await plane.load()
        assert isinstance(told[0], DeviceNotFound)
        assert "2 models and 1 devices were given" in str(told[0])

    with_plane(body, one_each("a", "b"), preload=["a", "b"], load=False)


def fallback_of(plane: DataPlane) -> Slot:
    """A double in the place of the emulator."""
    spares = [slot for slot in plane.pool.slots if slot.is_fallback]
    if spares:
        return spares[0]
    return plane.pool.add(Slot("double:fallback-0", lambda: ArithmeticDevice("double:fallback-0"), is_fallback=True))


def with_fallback(plane: DataPlane) -> None:
    plane.loader.fallbacks.make = lambda: fallback_of(plane)


def test_a_fallback_serves_while_the_device_is_away_and_says_so() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        with_fallback(plane)
        assert (await ask(plane, "a")).parameters == {}
        doubles[0].failure = DeviceTimeout("silent")
        answer = await ask(plane, "a", 3)
        check(answer, 3)
        assert answer.parameters == {"fallback": "double:fallback-0"}
        assert plane.ready
        assert plane.model("a").counts.fallback == 1
        doubles[0].failure = None
        await eventually(lambda: plane.model("a").devices == ["arithmetic:0"])
        assert (await ask(plane, "a")).parameters == {}

    with_plane(body, one_each("a"), preload=["a"])


def test_a_fallback_serves_when_every_device_has_work_and_goes_when_one_is_free() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        with_fallback(plane)
        answer = await ask(plane, "b")
        assert answer.parameters == {"fallback": "double:fallback-0"}
        await plane.unload_model("a")
        await eventually(lambda: plane.model("b").devices == ["arithmetic:0"])
        assert (await ask(plane, "b")).parameters == {}

    with_plane(body, one_each("a", "b"), preload=["a"], load_on_demand=True, minimum_residency_s=3600)


def test_without_a_fallback_there_is_none() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        doubles[0].failure = DeviceTimeout("silent")
        with pytest.raises(ModelNotReady):
            await ask(plane, "a")

    with_plane(body, one_each("a"), preload=["a"])


def test_closing_answers_what_waits() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        doubles[0].hold.clear()
        waiting = [asyncio.ensure_future(ask(plane, "a", n)) for n in range(5)]
        await eventually(lambda: plane.model("a").waiting == 5)
        closing = asyncio.ensure_future(plane.close())
        await asyncio.sleep(0)
        assert not plane.ready
        doubles[0].hold.set()
        for n, answer in enumerate(await asyncio.gather(*waiting)):
            check(answer, n)
        await closing
        with pytest.raises(ModelNotReady):
            await ask(plane, "a")

    assert with_plane(body, one_each("a"), preload=["a"])[0].closed


def test_closing_refuses_what_does_not_end_in_time() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        doubles[0].hold.clear()
        begun = asyncio.ensure_future(ask(plane, "a"))
        await eventually(doubles[0].entered.is_set)
        waiting = asyncio.ensure_future(ask(plane, "a"))
        await asyncio.sleep(0)
        await plane.close()
        with pytest.raises(ModelNotReady, match="the server is stopping"):
            await waiting
        doubles[0].hold.set()
        check(await begun)

    with_plane(body, one_each("a"), preload=["a"], grace_s=0, max_batch=1)
