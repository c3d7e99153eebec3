"""Models without firmware, served: the server asks here, and firmware is built by a service or on this machine.

The server knows only :class:`~gatesmith.serve.repository.Builder`; what stands behind it needs the build side, so it
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.builds.client import BuildClient
from gatesmith.builds.depot import plan_reference
from gatesmith.builds.job import BUILT, Job, Limits
from gatesmith.builds.local import build_locally
from gatesmith.builds.order import Order
from gatesmith.errors import ArtifactNotFound, BuildError, ModelNotFound, ModelUnreadable
from gatesmith.firmware import Firmware
from gatesmith.frontends import default_name
from gatesmith.serve.repository import Offer

__all__ = ["LocalBuilds", "ModelBuilder", "ModelFiles", "ServiceBuilds", "model_files"]

STAGES = ("read", "quantize", "trace", "gateware", "synthesis", "routing", "packing", "verify", "push")
"""In the order of a build, to tell how far it is."""

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
        """See :class:`gatesmith.serve.repository.Source`."""
        return sorted(self._paths)

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`gatesmith.serve.repository.Source`; the file as it is now is the only version."""
        del fresh  # it is read when it is built
        path = self._paths.get(name)
        if path is None or version:
            raise ModelNotFound(f"no model {name[:80]!r} of version {version or 'any'} among the files", model=name)
        return Offer(
            name=name, tag="", reference=str(path), boards=(), read=_nothing_to_read(path), fits=lambda _board: False
        )


class ModelBuilder:
    """What the server asks: see :class:`gatesmith.serve.repository.Builder`.

    Parameters
    ----------
    store : Store
        Where artifacts that hold a model are; firmware that was built is kept there too.
    precision : int
        Bits of weights and activations.
    """

    def __init__(self, builds: Builds, store: Store, *, precision: int = 8) -> None:
        self._builds, self._store, self._precision = builds, store, precision

    async def firmware(self, reference: str, board: str, progress: Callable[[float], None]) -> Firmware:
        """The firmware of a model for a board, built if nobody built it before.

        Raises
        ------
        BuildError
            When no board is known, or the build failed.
        ModelError, ArtifactError, ServerUnreachable
        """
        if not board:
            raise BuildError(f"{reference} has to be built, and no board is known; give --board", reference=reference)
        stop, loop = threading.Event(), asyncio.get_running_loop()

        def tell(share: float) -> None:
            loop.call_soon_threadsafe(progress, share)

        shown = _Shown(reference, board, tell)
        try:
            return await asyncio.to_thread(self._firmware, reference, board, shown, stop)
        finally:
            stop.set()

    def _firmware(self, reference: str, board: str, progress: Progress, stop: threading.Event) -> Firmware:
        wish = self._wish(reference, board)
        place = str(plan_reference("", wish.order))
        try:
            return self._store.load(place, board=board)
        except ArtifactNotFound:
            _log.info("%s is built for %s", reference, board)
        began = time.monotonic()
        firmware = self._builds.build(wish, progress, stop)
        self._store.save(place, [firmware], merge=False)
        _log.info("%s was ready for %s after %.1f s", reference, board, time.monotonic() - began)
        return firmware

    def _wish(self, reference: str, board: str) -> Wish:
        path = Path(reference)
        if path.is_file():
            name, model, calibration = path.name, path.read_bytes(), _calibration(path.parent)
        else:
            (name, model), calibration = self._store.model(reference), None
        data = calibration.read_bytes() if calibration else b""
        order = Order(
            model=_digest(model),
            model_file=name,
            name=default_name(Path(name)),
            board=board,
            calibration=_digest(data) if calibration else "",
            calibration_file=calibration.name if calibration else "",
            precision=self._precision,
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
            folder = Path(scratch) / "layout"
            folder.mkdir()
            client.fetch(id, folder)
            return _only_firmware(folder, wish)


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

    def __init__(self, reference: str, board: str, tell: Callable[[float], None]) -> None:
        self._what, self._tell, self._next = f"{reference} for {board}", tell, 0.0

    def __call__(self, stage: str, done: float) -> None:
        share = (STAGES.index(stage) + done) / len(STAGES) if stage in STAGES else 0.0
        self._tell(min(share, 1.0))
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


def _only_firmware(folder: Path, wish: Wish) -> Firmware:
    """What a service sent, checked against what was asked for and this machine's policy."""
    store = Store(folder)
    (entry,) = store.list()
    firmware = store.load(entry.reference, board=wish.order.board)
    if firmware.model_digest != wish.order.model or firmware.board != wish.order.board:
        raise BuildError(
            f"the build service sent firmware of model {firmware.model_digest[:19]} for {firmware.board}, "
            f"{wish.order.model[:19]} for {wish.order.board} was asked for"
        )
    return replace(firmware, model_file=(wish.order.model_file, wish.model))


def _calibration(folder: Path) -> Path | None:
    return next((folder / name for name in CALIBRATION if (folder / name).is_file()), None)


def _nothing_to_read(path: Path) -> Callable[[str], Firmware]:
    def read(board: str) -> Firmware:
        raise ArtifactNotFound(f"{path} is a model, it has no firmware for board {board or 'of any kind'}", board=board)

    return read


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
