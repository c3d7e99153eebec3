"""What a user may name: an artifact by reference or folder, and the places that a build writes to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gatesmith.errors import ArtifactNotFound, StoreWriteFailed

if TYPE_CHECKING:
    from gatesmith.artifact.connection import Access
    from gatesmith.artifact.store import Store

__all__ = ["check_out", "check_writable", "named", "new_folder"]

LAYOUT_FILES = {"blobs", "content.lock", "index.json", "index.lock", "oci-layout", "partial"}


def named(target: str, *, local: bool = False, access: Access | None = None) -> tuple[Store, str]:
    """The store and the reference that a user's REF or DIR stands for.

    A reference that names a registry and is not in the local store is fetched, unless ``local``; ``access`` says how.

    Raises
    ------
    ArtifactNotFound
        When a folder holds no artifact, or several.
    """
    from gatesmith.artifact.store import Store

    folder = Path(target)
    if not folder.is_dir():
        if target.startswith((".", "/", "~")):
            raise ArtifactNotFound(f"folder {target!r} does not exist", path=target)
        if not local:
            _fetch_missing(target, access)
        return Store(), target
    if not (folder / "index.json").is_file() and _stored(target):
        return Store(), target  # a folder that only happens to have the name of an artifact
    store = Store(folder)
    found = [entry.reference for entry in store.list()]
    if len(found) != 1:
        holds = f"{len(found)} artifacts ({', '.join(found)})" if found else "no artifact"
        raise ArtifactNotFound(
            f"folder {target!r} holds {holds}, one is needed; give a folder that 'gatesmith build --out' wrote",
            path=target,
        )
    return store, found[0]


def _fetch_missing(target: str, access: Access | None) -> None:
    from gatesmith.artifact.reference import Reference
    from gatesmith.cli.registries import access_to, byte_progress

    if not Reference.parse(target).registry or _stored(target):
        return
    from gatesmith.artifact.remote import pull_artifact
    from gatesmith.artifact.store import Store

    with byte_progress(f"pull {target}", as_json=False) as progress:
        pull_artifact(
            Store().layout, Reference.parse(target), access or access_to(False, None, None), progress=progress
        )


def _stored(target: str) -> bool:
    from gatesmith.artifact.store import Store
    from gatesmith.errors import ArtifactError

    try:
        Store().resolve(target)
    except ArtifactError:
        return False
    return True


def check_writable(folder: Path) -> None:
    """Before long work: whether its results can be written to a folder that may not exist yet.

    Raises
    ------
    StoreWriteFailed
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise StoreWriteFailed(f"folder {str(folder)!r} cannot be made: {str(there)!r} is a file", path=str(folder))
    if not os.access(there, os.W_OK | os.X_OK):
        raise StoreWriteFailed(
            f"folder {str(folder)!r} cannot be written: no permission in {str(there)!r}; choose another place",
            path=str(folder),
        )


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Around the writing of a folder: when that fails, a folder that was not there is not there again."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def check_out(folder: Path, reference: str) -> None:
    """Whether a build may write its artifact to a folder: it is new or empty, or holds that artifact and nothing else.

    Raises
    ------
    StoreWriteFailed
    """
    from gatesmith.artifact.store import Store

    check_writable(folder)
    strange = sorted({path.name for path in folder.iterdir()} - LAYOUT_FILES) if folder.is_dir() else []
    if not strange and folder.is_dir():
        strange = [entry.reference for entry in Store(folder).list() if entry.reference != reference]
    if strange:
        holds = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        raise StoreWriteFailed(
            f"folder {str(folder)!r} holds other things ({holds}); give a new folder, or an empty one", path=str(folder)
        )
