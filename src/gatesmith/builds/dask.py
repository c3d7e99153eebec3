"""Builds on a Dask cluster: each one a task that wants a worker's resources, watched and ended from here.

A worker needs ``gatesmith[build,dask]`` and keeps its caches under its own ``GATESMITH_HOME``. When it is lost the
scheduler gives the task to another one, a few times; the firmware comes back as bytes, so workers share no disk.
"""

# Ref: distributed API: Client.submit(resources=, pure=), Worker.log_event, Client.subscribe_topic, Event

from __future__ import annotations

import tempfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatesmith.builds.job import Job, Limits, Tell, pack_layout, unpack_layout
from gatesmith.builds.local import build_locally
from gatesmith.errors import BuildCancelled, BuildLost, GatesmithError, NotInstalled, ServerNotStarted

__all__ = ["DaskBuilder"]

POLL_S = 0.5
CONNECT_S = 10.0
SLOTS = 64
"""Builds that are handed to the scheduler at a time; it gives them to workers as their resources are free."""


class DaskBuilder:
    """A Dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, ``tcp://host:port`` or ``tls://host:port``.
    resources : mapping of str to float
        What a worker must have free for one build (``build=1``, ``vivado=1``); see ``dask worker --resources``.

    Raises
    ------
    ServerNotStarted
        When the scheduler does not answer.
    NotInstalled
    """

    def __init__(
        self, address: str, *, resources: Mapping[str, float] | None = None, limits: Limits | None = None
    ) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise NotInstalled("Dask", "pip install 'gatesmith[dask]'") from error
        self.slots = SLOTS
        self._resources, self._limits = dict(resources or {}), limits or Limits()
        try:
            self._client = Client(address, timeout=CONNECT_S, name="gatesmith-builds")
        except (OSError, TimeoutError, ValueError) as error:
            raise ServerNotStarted(
                f"Dask scheduler {address} does not answer: {error}; check that it runs there", address=address
            ) from error

    def build(self, job: Job, folder: Path, *, tell: Tell, cancel: threading.Event) -> dict[str, Any]:
        """See :class:`gatesmith.builds.foreman.Builder`."""
        from distributed import Event

        topic = f"gatesmith-{uuid.uuid4().hex}"
        ended = Event(topic, client=self._client)
        self._client.subscribe_topic(topic, lambda event: _told(event, tell))
        future = self._client.submit(
            _build_on_worker, job, self._limits, topic, resources=self._resources or None, pure=False, key=topic
        )
        try:
            while not _is_over(future):
                if cancel.wait(POLL_S):
                    ended.set()
                    raise BuildCancelled("the build was cancelled")
            result, layout = self._result(future)
        finally:
            future.release()
            self._client.unsubscribe_topic(topic)
        unpack_layout(layout, folder / "out")
        return dict(result)

    def close(self) -> None:
        """Leave the cluster."""
        self._client.close()

    @staticmethod
    def _result(future: Any) -> tuple[dict[str, Any], bytes]:
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            result, layout = future.result()
        except (KilledWorker, CancelledError, CommClosedError, OSError, TimeoutError) as error:
            words = " ".join(str(error).split())[:300]
            raise BuildLost(f"the cluster lost the build: {type(error).__name__} {words}") from error
        if isinstance(result, GatesmithError):
            raise result
        return result, layout


def _told(event: Any, tell: Tell) -> None:
    _, message = event
    if isinstance(message, Mapping):
        tell(message)


def _is_over(future: Any) -> bool:
    return bool(future.status != "pending")


def _build_on_worker(job: Job, limits: Limits, topic: str) -> tuple[dict[str, Any] | GatesmithError, bytes]:
    """Build in a temporary folder of a worker; an error of the build is a value, so that Dask does not try it again."""
    from distributed import Event, get_client, get_worker

    worker, cancel, over = get_worker(), threading.Event(), threading.Event()
    ended = Event(topic, client=get_client())

    def watch() -> None:
        while not over.wait(POLL_S):
            try:
                if ended.is_set():
                    cancel.set()
            except Exception:  # the scheduler is gone, and with it whoever could ask
                cancel.set()

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="gatesmith-") as scratch:
        folder = Path(scratch) / f"job-{uuid.uuid4().hex}"
        try:
            result = build_locally(
                job, folder, limits=limits, tell=lambda said: worker.log_event(topic, dict(said)), cancel=cancel
            )
            return result, pack_layout(folder / "out")
        except BuildLost:
            raise
        except GatesmithError as error:
            return error, b""
        finally:
            over.set()
