"""Coroutines without a task, beside the same coroutines in one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from gatesmith.serve.rest_errand import Errand

Journal = list[str]


async def scene(journal: Journal, future: asyncio.Future[str]) -> None:
    """Waits for a future, a thread, nothing in particular, and each of them again."""
    journal.append("begun")
    try:
        for _ in range(2):
            journal.append(await future)
            await asyncio.sleep(0)
            journal.append(await asyncio.to_thread(str, "from a thread"))
    except ValueError as error:
        journal.append(f"caught {error}")
    except asyncio.CancelledError:
        journal.append("cancelled")
        raise
    finally:
        journal.append("over")


def played(
    begin: Callable[[Coroutine[Any, Any, None]], Any], end: Callable[[Any, asyncio.Future[str]], Any]
) -> Journal:
    journal: Journal = []

    async def main() -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        actor = begin(scene(journal, future))
        await asyncio.sleep(0)
        end(actor, future)
        async with asyncio.timeout(10):
            while "over" not in journal:
                await asyncio.sleep(0)

    asyncio.run(main())
    return journal


def errand(coroutine: Coroutine[Any, Any, None]) -> Errand:
    made = Errand(coroutine)
    made.start()
    return made


def cancelled_late(actor: Any, future: asyncio.Future[str]) -> None:
    future.set_result("too late")
    actor.cancel()


ENDS = [
    lambda _, future: future.set_result("result"),
    lambda _, future: future.set_exception(ValueError("no")),
    lambda _, future: future.cancel(),
    lambda actor, _: actor.cancel(),
    cancelled_late,
]


@pytest.mark.parametrize("end", ENDS)
def test_it_goes_as_in_a_task(end: Callable[[Any, asyncio.Future[str]], Any]) -> None:
    journal = played(errand, end)
    assert journal == played(asyncio.ensure_future, end)
    assert journal[0] == "begun"
    assert len(journal) >= 3


def test_what_waits_for_nothing_is_over_at_once() -> None:
    async def main() -> None:
        done = asyncio.get_running_loop().create_future()

        async def work() -> None:
            done.set_result(1)

        errand(work())
        assert done.done()

    asyncio.run(main())


def test_a_failure_is_told_to_the_loop() -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        future = loop.create_future()

        async def work(wait: Awaitable[None]) -> None:
            await wait
            raise ZeroDivisionError("a bug")

        errand(work(future))
        future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [str(context["exception"]) for context in told] == ["a bug"]
