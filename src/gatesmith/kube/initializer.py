"""The storage initializer: fetches artifacts for a pod before its server starts, and says why when it cannot.

KServe calls it with pairs of an address and a folder. An address is ``fpga://registry/repository:tag`` (or with
``@sha256:...``); the folder gets an OCI layout, which ``gatesmith serve FOLDER`` reads. Everything is checked here, by
digest and by the signature policy, so that a pod that starts has what it may run.
"""

# Ref: KServe ClusterStorageContainer: args are [uri, path, ...]; exit status 0 means that the files are there
# Ref: Kubernetes terminationMessagePath: /dev/termination-log, at most 4096 bytes

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gatesmith.artifact.connection import Access
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import Moved, pull_artifact
from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactNotFound, GatesmithError, ManifestInvalid

__all__ = ["SCHEME", "Fetch", "fetch", "parse_pairs", "say_end"]

SCHEME = "fpga://"
TERMINATION_LOG = Path("/dev/termination-log")
MAX_MESSAGE_BYTES = 4096
STEPS = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """One artifact and where it goes."""

    reference: Reference
    folder: Path


def parse_pairs(arguments: Sequence[str]) -> list[Fetch]:
    """What KServe gives: an address, a folder, and so on.

    Raises
    ------
    ManifestInvalid
        When an address has no folder, another scheme, or no registry.
    """
    if not arguments or len(arguments) % 2:
        raise ManifestInvalid(f"{len(arguments)} arguments were given, pairs of an address and a folder are needed")
    return [
        Fetch(reference=_reference(uri), folder=Path(folder))
        for uri, folder in zip(arguments[::2], arguments[1::2], strict=True)
    ]


def fetch(one: Fetch, access: Access, *, boards: Sequence[str] = (), needs_firmware: bool = True) -> Moved:
    """Fetch one artifact and check it.

    Parameters
    ----------
    boards : sequence of str
        Boards of this node; the artifact needs firmware for one of them. Empty: for any board.
    needs_firmware : bool
        Without, an artifact that holds the model alone will do: its firmware is built when it is served.

    Raises
    ------
    ArtifactNotFound, SignatureInvalid, DigestMismatch, ManifestInvalid, RegistryUnreachable, RegistryRefused
    AuthenticationFailed, LimitExceeded, StoreWriteFailed
    """
    store, told = Store(one.folder), -1

    def progress(done: int, total: int) -> None:
        nonlocal told
        step = STEPS * done // total if total else STEPS
        if step > told:
            told = step
            _log.info("%s: %d of %d bytes", one.reference, done, total)

    moved = pull_artifact(store.layout, one.reference, access, progress=progress)
    there = list(filter(None, store.inspect(moved.reference)["boards"]))
    wanted = [board for board in boards if board in there] if boards else there
    if not wanted and needs_firmware:
        raise ArtifactNotFound(
            f"{moved.reference} has firmware for {', '.join(there) or 'no board'}, this node has "
            f"{', '.join(boards) or 'none'}; build it for one of these",
            boards=there,
        )
    for board in wanted:
        firmware = store.load(moved.reference, board=board)
        _log.info("%s: firmware for %s, %d bytes, build %s", moved.reference, board, len(firmware.bitstream),
                  firmware.build_id)  # fmt: skip
    return moved


def say_end(words: str, path: Path = TERMINATION_LOG) -> None:
    """Leave the last words where Kubernetes shows them; outside of a pod that does nothing."""
    with suppress(OSError):
        if path.exists():
            path.write_bytes(words.encode()[:MAX_MESSAGE_BYTES])


def _reference(uri: str) -> Reference:
    if not uri.startswith(SCHEME):
        raise ManifestInvalid(f"address {uri[:200]!r} does not begin with {SCHEME}", uri=uri)
    try:
        reference = Reference.parse(uri.removeprefix(SCHEME).rstrip("/"))
    except GatesmithError as error:
        raise ManifestInvalid(f"address {uri[:200]!r}: {error}", uri=uri) from error
    if not reference.registry:
        raise ManifestInvalid(f"address {uri[:200]!r} names no registry; {SCHEME}registry.example/jets:v3", uri=uri)
    return reference
