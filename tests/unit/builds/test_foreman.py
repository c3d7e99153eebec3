"""The foreman with a builder that does as told: what is tried again, what is not, and what is found."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.builds import foreman as module
from gatesmith.builds.blobs import Blobs
from gatesmith.builds.depot import Depot
from gatesmith.builds.foreman import ATTEMPTS, Foreman
from gatesmith.builds.job import BUILT, Job, Tell
from gatesmith.builds.order import Order
from gatesmith.builds.queue import Queue, Record, State
from gatesmith.errors import (
    ArtifactNotFound,
    BuildCancelled,
    BuildLost,
    DesignDoesNotFit,
    DigestMismatch,
    StoreWriteFailed,
)

MODEL = b"a model"
DIGEST = "sha256:" + hashlib.sha256(MODEL).hexdigest()
ORDER = Order(model=DIGEST, model_file="tiny.onnx", name="tiny", board="icebreaker")
WAIT_S = 20.0


class Actor:
    """A builder that acts once for each function it was given, then builds well."""

    slots = 2

    def __init__(self, *acts: Callable[[threading.Event], None]) -> None:
        self.acts, self.built = list(acts), 0

    def build(self, job: Job, folder: Path, *, tell: Tell, cancel: threading.Event) -> dict[str, Any]:
        self.built += 1
        tell({"stage": "synthesis", "done": 0.5})
        if self.acts:
            self.acts.pop(0)(cancel)
        firmware = tiny_firmware(board="icebreaker", model_digest=job.order.model)
        Store(folder / "out", policy=UNCHECKED).save(BUILT, [firmware], merge=False)
        return {"seconds": {"synthesis": 1.0}}

    def close(self) -> None:
        pass


def _raise(error: Exception) -> Callable[[threading.Event], None]:
    def act(_cancel: threading.Event) -> None:
        raise error

    return act


async def _upload(blobs: Blobs, content: bytes = MODEL, digest: str = DIGEST) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield content[:3]
        yield content[3:]

    await blobs.write(digest, parts())


class Shop:
    """A foreman at work in a folder."""

    def __init__(self, folder: Path, actor: Actor) -> None:
        self.blobs = Blobs(folder / "files")
        self.depot = Depot(store=Store(folder / "store", policy=UNCHECKED))
        self.foreman = Foreman(Queue(folder / "queue.sqlite"), self.blobs, self.depot, actor, folder / "work")

    async def __aenter__(self) -> Foreman:
        await _upload(self.blobs)
        self.task = asyncio.create_task(self.foreman.run())
        return self.foreman

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.foreman.queue.close()


async def _until(foreman: Foreman, id: str, *states: State) -> Record:
    async with asyncio.timeout(WAIT_S):
        while True:
            seen = foreman.changes
            record = foreman.queue.get(id)
            assert record is not None
            if record.state in states:
                return record
            await foreman.changed(seen, WAIT_S)


def _run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_twenty_ask_and_one_is_built(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Shop(tmp_path, actor) as foreman:
            answers = await asyncio.gather(*(foreman.submit(ORDER, f"user{n}") for n in range(20)))
            assert sum(is_new for _, is_new in answers) == 1
            record = await _until(foreman, answers[0][0].id, State.DONE)
            assert record.result["reference"] == f"tiny:{record.id[:12]}"
            assert (await foreman.submit(ORDER, "late"))[0].state is State.DONE

    actor = Actor()
    _run(scene())
    assert actor.built == 1


def test_a_lost_build_is_tried_again_and_in_the_end_fails(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Shop(tmp_path, actor) as foreman:
            record, _ = await foreman.submit(ORDER, "a")
            record = await _until(foreman, record.id, State.FAILED)
            assert record.error["type"] == "BuildLost"
            assert f"{ATTEMPTS} attempts were made" in record.error["message"]
            again, is_new = await foreman.submit(ORDER, "a")
            assert is_new
            assert (await _until(foreman, again.id, State.DONE)).attempts == 1

    actor = Actor(*[_raise(BuildLost("killed by signal 9"))] * ATTEMPTS)
    _run(scene())
    assert actor.built == ATTEMPTS + 1


def test_what_cannot_be_built_is_not_tried_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Shop(tmp_path, actor) as foreman:
            record, _ = await foreman.submit(ORDER, "a")
            record = await _until(foreman, record.id, State.FAILED)
            assert record.error["message"] == "design needs 9 LC, the part has 4"
            assert record.error["needed"] == 9

    actor = Actor(_raise(DesignDoesNotFit("design needs 9 LC, the part has 4", needed=9)))
    _run(scene())
    assert actor.built == 1


def test_a_bug_of_a_builder_fails_its_build_and_nothing_else(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Shop(tmp_path, actor) as foreman:
            record, _ = await foreman.submit(ORDER, "a")
            record = await _until(foreman, record.id, State.FAILED)
            assert record.error["message"] == "the service failed: ZeroDivisionError; see its log"
            record, _ = await foreman.submit(ORDER, "a", again=True)
            await _until(foreman, record.id, State.DONE)

    actor = Actor(_raise(ZeroDivisionError()))
    _run(scene())


def test_a_cancelled_build_ends(tmp_path: Path) -> None:
    started = threading.Event()

    def wait(cancel: threading.Event) -> None:
        started.set()
        assert cancel.wait(WAIT_S)
        raise BuildCancelled("the build was cancelled")

    async def scene() -> None:
        async with Shop(tmp_path, Actor(wait)) as foreman:
            record, _ = await foreman.submit(ORDER, "anna")
            assert await asyncio.to_thread(started.wait, WAIT_S)
            ended = await foreman.cancel(record.id, "anna")
            assert ended is not None
            assert ended.state is State.CANCELLED
            assert ended.error["message"] == "anna cancelled the build"

    _run(scene())


def test_what_ran_when_the_service_stopped_is_built_at_the_next_start(tmp_path: Path) -> None:
    started = threading.Event()

    def wait(cancel: threading.Event) -> None:
        started.set()
        assert cancel.wait(WAIT_S)
        raise BuildCancelled("the build was cancelled")

    async def first() -> str:
        async with Shop(tmp_path, Actor(wait)) as foreman:
            record, _ = await foreman.submit(ORDER, "a")
            assert await asyncio.to_thread(started.wait, WAIT_S)
            return record.id

    async def second(id: str) -> None:
        async with Shop(tmp_path, Actor()) as foreman:
            assert (await _until(foreman, id, State.DONE)).attempts == 1

    _run(second(_run(first())))


def test_a_firmware_in_the_store_is_found_before_anything_is_queued(tmp_path: Path) -> None:
    async def scene() -> None:
        shop = Shop(tmp_path, actor)
        firmware = tiny_firmware(board="icebreaker", model_digest=DIGEST)
        shop.depot.store.save(f"plans:{ORDER.digest[7:]}", [firmware])
        async with shop as foreman:
            record, is_new = await foreman.submit(ORDER, "a")
            assert (is_new, record.state, record.result["origin"]) == (True, State.DONE, "store")

    actor = Actor()
    _run(scene())
    assert actor.built == 0


def test_a_firmware_of_another_model_is_not_taken(tmp_path: Path) -> None:
    async def scene() -> None:
        shop = Shop(tmp_path, actor)
        strange = tiny_firmware(board="icebreaker", model_digest="sha256:" + "e" * 64)
        shop.depot.store.save(f"plans:{ORDER.digest[7:]}", [strange])
        async with shop as foreman:
            record, _ = await foreman.submit(ORDER, "a")
            assert (await _until(foreman, record.id, State.DONE)).result["origin"] == "built"

    actor = Actor()
    _run(scene())
    assert actor.built == 1


def test_files_are_needed_and_checked(tmp_path: Path) -> None:
    async def scene() -> None:
        shop = Shop(tmp_path, Actor())
        with pytest.raises(ArtifactNotFound, match="was not uploaded"):
            await shop.foreman.submit(ORDER, "a")
        with pytest.raises(DigestMismatch, match="file was announced as"):
            await _upload(shop.blobs, b"another model")
        assert not shop.blobs.holds(DIGEST)
        assert list((tmp_path / "files").iterdir()) == []

    _run(scene())


def test_a_queue_that_cannot_be_used_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.01)

    def fails_at_first(work: Callable[[], Any]) -> Callable[[], Any]:
        def method() -> Any:
            failed.append(work.__name__)
            if failed.count(work.__name__) == 1:
                raise StoreWriteFailed("the disk is full")
            return work()

        return method

    failed: list[str] = []

    async def scene() -> None:
        shop = Shop(tmp_path, Actor())
        queue = shop.foreman.queue
        monkeypatch.setattr(queue, "recover", fails_at_first(queue.recover))
        monkeypatch.setattr(queue, "take", fails_at_first(queue.take))
        async with shop as foreman:
            record, _ = await foreman.submit(ORDER, "a")
            await _until(foreman, record.id, State.DONE)

    _run(scene())
    assert failed.count("recover") == 2
    assert "the disk is full; nothing is built, again in 0.01 s" in caplog.text


def test_an_order_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Shop(tmp_path, Actor()) as foreman:
            absent = replace(ORDER, model="sha256:" + "0" * 64)
            with pytest.raises(ArtifactNotFound):
                await foreman.submit(absent, "a")
            assert not foreman._plans

    _run(scene())
