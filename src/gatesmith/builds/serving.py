"""Models without firmware, served: the server asks here, and firmware is built by a service or on this machine.

The server knows only :class:`~gatesmith.serve.source.Builder`; what stands behind it needs the build side, so it
is put together up here. A build that was asked for goes on when the server ends: the next one finds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gatesmith.aim import Aim
from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.builds.client import BuildClient
from gatesmith.builds.depot import plan_reference
from gatesmith.builds.job import BUILT, Job, Limits
from gatesmith.builds.local import build_locally
from gatesmith.builds.order import Order
from gatesmith.errors import ArtifactNotFound, BuildError, ModelNotFound, ModelUnreadable
from gatesmith.firmware import Firmware
from gatesmith.frontends import default_name, model_content
from gatesmith.serve.source import Offer
from gatesmith.tools import cache_path

__all__ = ["LocalBuilds", "ModelBuilder", "ModelFiles", "ServiceBuilds", "model_files"]

STAGES = ("read", "quantize", "search", "trace", "gateware", "synthesis", "routing", "packing", "verify", "push")
"""In the order of a build, to tell how far it is; it has the second or the third, and others that take no time."""

SUFFIXES = (".onnx", ".skops")
CALIBRATION = ("calibration.npz", "calibration.npy", "calibration.csv")
SHOW_EVERY_S = 5.0
_log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A model's files as they are, and the board that they are to run on."""

    order: Order
    model: bytes
    calibration: bytes = b""


class Builds(Protocol):
    """Something that builds."""

    def build(self, wish: Wish, progress: Progress, stop: threading.Event) -> Firmware:
        """The firmware; blocks.

        Raises
        ------
        GatesmithError
        """


class ModelFiles:
    """Model files on this machine as a source of models: each has no firmware, so a builder is asked.

    Parameters
    ----------
    paths : mapping of str to Path
        By model name.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    def names(self) -> Sequence[str]:
        """See :class:`gatesmith.serve.source.Source`."""
        return sorted(self._paths)

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`gatesmith.serve.source.Source`; the file as it is now is the only version."""
        del fresh  # it is read when it is built
        path = self._paths.get(name)
        if path is None or version:
            raise ModelNotFound(f"no model {name[:80]!r} of version {version or 'any'} among the files", model=name)
        return Offer(
            name=name,
            tag="",
            reference=str(path),
            boards=(),
            read=_nothing_to_read(path),
            fits=lambda _board: False,
            model=lambda: (path.name, model_content(path)),
            calibration=lambda: _calibration(path.parent),
        )


class ModelBuilder:
    """What the server asks: see :class:`gatesmith.serve.source.Builder`.

    Parameters
    ----------
    store : Store, optional
        Where firmware that was built is kept; in the caches of this machine without.
    aim : Aim, optional
        How formats are chosen; labels are those that the calibration data holds.
    """

    def __init__(self, builds: Builds, store: Store | None = None, *, aim: Aim | None = None) -> None:
        self._builds, self._aim = builds, aim or Aim()
        # nobody else writes there, and what comes from a service was checked against the policy
        self._store = store or Store(cache_path("served"), policy=UNCHECKED)
        # Of their own: builds take minutes, and the event loop's few threads are for what requests wait for.
        self._threads = ThreadPoolExecutor(thread_name_prefix="build")

    async def firmware(self, offer: Offer, board: str, progress: Callable[[float], None]) -> Firmware:
        """The firmware of a model for a board, built if nobody built it before.

        Raises
        ------
        BuildError
            When no board is known, or the build failed.
        ModelError, ArtifactError, ServerUnreachable
        """
        loop = asyncio.get_running_loop()

        def tell(share: float) -> None:
            loop.call_soon_threadsafe(progress, share)

        progress(0.0)
        return await self._ask(offer, board, tell, emulated=False)

    async def preview(self, offer: Offer, board: str) -> Firmware:
        """Firmware for an emulated board, without place and route.

        Raises
        ------
        BuildError, ModelError, ArtifactError, ServerUnreachable
        """
        return await self._ask(offer, board, lambda _share: None, emulated=True)

    async def _ask(self, offer: Offer, board: str, tell: Callable[[float], None], *, emulated: bool) -> Firmware:
        if not board:
            raise BuildError(
                f"{offer.reference} has to be built, and no board is known; give --board", reference=offer.reference
            )
        stop = threading.Event()
        shown = _Shown(f"{offer.reference} for {'an emulated ' if emulated else ''}{board}", tell)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._firmware, offer, board, shown, stop, emulated)
        finally:
            stop.set()

    def _firmware(
        self, offer: Offer, board: str, progress: Progress, stop: threading.Event, emulated: bool
    ) -> Firmware:
        wish = self._wish(offer, board, emulated)
        place = str(plan_reference("", wish.order))
        try:
            return self._store.load(place, board=board)
        except ArtifactNotFound:
            _log.info("%s is built for %s", offer.reference, board)
        began = time.monotonic()
        firmware = self._builds.build(wish, progress, stop)
        self._store.save(place, [firmware], merge=False)
        _log.info("%s was ready for %s after %.1f s", offer.reference, board, time.monotonic() - began)
        return firmware

    def _wish(self, offer: Offer, board: str, emulated: bool) -> Wish:
        name, model = offer.model()
        data_name, data = offer.calibration()
        order = Order(
            model=_digest(model),
            model_file=name,
            name=default_name(Path(name)),
            board=board,
            calibration=_digest(data) if data_name else "",
            calibration_file=data_name,
            precision=self._aim.precision,
            tolerance=self._aim.tolerance,
            max_error=self._aim.max_error,
            prune=self._aim.prune,
            emulated=emulated,
        )
        return Wish(order=order, model=model, calibration=data)


class ServiceBuilds:
    """A build service somewhere."""

    def __init__(self, url: str, *, token: str = "", ca: Path | None = None) -> None:
        self._url, self._token, self._ca = url, token, ca

    def build(self, wish: Wish, progress: Progress, stop: threading.Event) -> Firmware:
        """Ask for the build, follow it, fetch its firmware."""
        with tempfile.TemporaryDirectory() as scratch, BuildClient(self._url, token=self._token, ca=self._ca) as client:
            files = {}
            for digest, content in ((wish.order.model, wish.model), (wish.order.calibration, wish.calibration)):
                if digest:
                    files[digest] = Path(scratch) / digest.removeprefix("sha256:")
                    files[digest].write_bytes(content)
            id = str(client.submit(wish.order, files)["id"])
            for event in client.watch(id):
                if stop.is_set():
                    raise BuildError("the server is stopping; the build goes on", id=id)
                if event["kind"] == "progress":
                    progress(str(event["stage"]), float(event["done"]))
            client.result(id)
            return client.firmware(id, wish.order, wish.model)


class LocalBuilds:
    """This machine, in a process of its own like a build service's; needs ``gatesmith[build]``."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def build(self, wish: Wish, progress: Progress, stop: threading.Event) -> Firmware:
        """Build it here."""

        def tell(said: Mapping[str, Any]) -> None:
            if "stage" in said:
                progress(str(said["stage"]), float(said["done"]))

        job = Job(order=wish.order, model=wish.model, calibration=wish.calibration)
        with tempfile.TemporaryDirectory(prefix="gatesmith-") as scratch:
            folder = Path(scratch) / "job"
            build_locally(job, folder, limits=self._limits, tell=tell, cancel=stop)
            return Store(folder / "out", policy=UNCHECKED).load(BUILT, board=wish.order.board)


class _Shown:
    """One share of the whole from stages and their shares, and a line in the log now and then."""

    def __init__(self, what: str, tell: Callable[[float], None]) -> None:
        self._what, self._tell, self._next, self._share = what, tell, 0.0, 0.0

    def __call__(self, stage: str, done: float) -> None:
        if stage in STAGES:
            self._share = min((STAGES.index(stage) + done) / len(STAGES), 1.0)
        share = self._share
        self._tell(share)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SHOW_EVERY_S
            _log.info("%s is being built: %s %.0f %%", self._what, stage, 100 * share)


def model_files(target: str) -> dict[str, Path]:
    """Model files that a path names: itself, or the only one in a folder, by model name; nothing for anything else.

    Raises
    ------
    ModelUnreadable
        When a folder holds several.
    """
    path = Path(target)
    if path.is_file() and path.suffix in SUFFIXES:
        return {default_name(path): path}
    found = sorted(one for one in path.glob("*") if one.suffix in SUFFIXES) if path.is_dir() else []
    if len(found) > 1:
        raise ModelUnreadable(
            f"folder {target!r} holds {len(found)} model files ({', '.join(one.name for one in found[:4])}); name one",
            path=target,
        )
    return {default_name(found[0]): found[0]} if found else {}


def _calibration(folder: Path) -> tuple[str, bytes]:
    found = next((folder / name for name in CALIBRATION if (folder / name).is_file()), None)
    return (found.name, found.read_bytes()) if found else ("", b"")


def _nothing_to_read(path: Path) -> Callable[[str], Firmware]:
    def read(board: str) -> Firmware:
        raise ArtifactNotFound(f"{path} is a model, it has no firmware for board {board or 'of any kind'}", board=board)

    return read


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
