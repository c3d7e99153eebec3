"""The ASGI application in a server that is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
from firmwares import ArithmeticDevice, tiny_firmware

from gatesmith.serve.app import create_app


def test_devices_live_as_long_as_the_application_whatever_a_client_asks_for() -> None:
    device = ArithmeticDevice()

    async def main() -> None:
        app = create_app({"iris": (tiny_firmware(), device)})
        heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        heard.put_nowait({"type": "lifespan.startup"})
        life = asyncio.create_task(app({"type": "lifespan"}, heard.get, said.put))
        assert await said.get() == {"type": "lifespan.startup.complete"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            while (await client.get("/v2/models/iris/ready")).status_code != 200:
                await asyncio.sleep(0)

            tasks = asyncio.all_tasks()
            words: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
            asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            asked.put_nowait({"type": "websocket.connect"})
            await app({"type": "websocket", "path": "/v2"}, asked.get, words.put)
            assert [words.get_nowait() for _ in range(words.qsize())] == [{"type": "websocket.close", "code": 1000}]
            assert asyncio.all_tasks() == tasks
            assert (await client.get("/v2/models/iris/ready")).status_code == 200

        assert not device.closed
        heard.put_nowait({"type": "lifespan.shutdown"})
        await life
        assert said.get_nowait() == {"type": "lifespan.shutdown.complete"}
        assert device.closed

    asyncio.run(asyncio.wait_for(main(), 30))
