"""One repository in a registry, as a place that holds content: the distribution protocol, both ways.

Whatever comes in is checked while it comes in, and a broken transfer goes on where it stopped. Whatever goes out is
read from a file piece by piece, and only when it is not there already. Names change last.
"""

# Ref: OCI distribution-spec 1.1: pull, push, content discovery, content management, referrers with the tag schema
# Ref: RFC 9110 section 14: Range, Content-Range

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, ClassVar
from urllib.parse import urlencode

from gatesmith.artifact import media_types
from gatesmith.artifact.answer import Answer
from gatesmith.artifact.checked import CheckedWriter, Told
from gatesmith.artifact.connection import Connection
from gatesmith.artifact.descriptor import Descriptor, parse_json
from gatesmith.artifact.download import download
from gatesmith.artifact.merge import with_referrers
from gatesmith.artifact.pointers import INDEX_TYPES, MANIFEST_TYPES, parse_pointers
from gatesmith.artifact.reference import TAG, Reference
from gatesmith.artifact.upload import upload
from gatesmith.errors import (
    ArtifactError,
    ArtifactNotFound,
    DigestMismatch,
    LimitExceeded,
    ManifestInvalid,
    RegistryRefused,
)

if TYPE_CHECKING:
    from gatesmith.artifact.transport import Transport

__all__ = ["MAX_MANIFEST_BYTES", "Registry"]

MAX_MANIFEST_BYTES = 4 << 20
MAX_FETCH_BYTES = 16 << 20
MAX_TAGS = 100_000
MAX_REFERRERS = 4096
MAX_AMENDS = 50
SETTLE_TIMES, MAX_SETTLE_S = 5.0, 5.0
MAX_PAGES = 1000
_ACCEPTED = (*INDEX_TYPES, *MANIFEST_TYPES)
Change = Callable[[bytes | None], bytes]
_LINK = re.compile(r'\s*<([^>]{1,2048})>\s*;\s*rel="?next"?')


class Registry:
    """Content of one repository. Implements :class:`~.transport.Transport`.

    Parameters
    ----------
    connection : Connection
        To the registry; repositories of one registry may share it.
    """

    keeps_links: ClassVar[bool] = True

    def __init__(self, connection: Connection, repository: str) -> None:
        hub = connection.registry in {"docker.io", "index.docker.io"} and "/" not in repository
        self.connection, self.repository = connection, f"library/{repository}" if hub else repository
        self.path = f"/v2/{self.repository}"
        self._has_referrers_api: bool | None = None
        self._held: dict[str, bytes] = {}

    @property
    def _scope(self) -> str:
        return f"repository:{self.repository}:pull"

    @property
    def _writing(self) -> str:
        return f"repository:{self.repository}:pull,push"

    def resolve(self, reference: Reference) -> Descriptor:
        """What a tag or digest stands for now; its digest is computed here, not believed."""
        wanted = reference.digest or reference.tag
        answer = self._get_manifest(wanted, _ACCEPTED, str(reference))
        media_type, content = _media_type(answer), answer.content
        descriptor = Descriptor.of(media_type, content)
        told = answer.headers.get("docker-content-digest", descriptor.digest)
        for expected in (reference.digest, told if told.startswith("sha256:") else ""):
            if expected and expected != descriptor.digest:
                raise DigestMismatch(
                    f"registry {self.connection.registry} sends a manifest of digest {descriptor.digest} for "
                    f"{reference}, {expected[:80]} is wanted",
                    digest=expected,
                    found_digest=descriptor.digest,
                )
        if media_type not in _ACCEPTED:
            raise ManifestInvalid(f"{reference} is a {media_type[:80]}, not an artifact", media_type=media_type)
        parse_pointers(media_type, content)
        self._held = {descriptor.digest: content}
        return descriptor

    def fetch(self, descriptor: Descriptor) -> bytes:
        """Content that fits in memory, checked."""
        if descriptor.media_type in _ACCEPTED:
            return self.fetch_manifest(descriptor)
        if descriptor.size > MAX_FETCH_BYTES:
            raise LimitExceeded(
                f"{descriptor.digest} is announced with {descriptor.size} bytes, {MAX_FETCH_BYTES} are read at once",
                size=descriptor.size,
            )
        with self.opened(descriptor) as file:
            return file.read()

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """A manifest or index, checked."""
        if descriptor.digest in self._held:
            return self._held[descriptor.digest]
        if descriptor.size > MAX_MANIFEST_BYTES:
            raise LimitExceeded(
                f"manifest {descriptor.digest} is announced with {descriptor.size} bytes, {MAX_MANIFEST_BYTES} are "
                "read",
                size=descriptor.size,
            )
        answer = self._get_manifest(
            descriptor.digest, (descriptor.media_type,), descriptor.digest, most_bytes=descriptor.size + 1
        )
        descriptor.check(answer.content)
        if _media_type(answer) != descriptor.media_type:
            raise ManifestInvalid(
                f"manifest {descriptor.digest} comes as {_media_type(answer)[:80]}, {descriptor.media_type[:80]} was "
                "announced",
                digest=descriptor.digest,
            )
        return answer.content

    def holds(self, descriptor: Descriptor) -> bool:
        """Whether the registry says that it has a blob."""
        return self._head(f"{self.path}/blobs/{descriptor.digest}")

    def holds_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the registry says that it has a manifest."""
        return self._head(f"{self.path}/manifests/{descriptor.digest}", accept=descriptor.media_type)

    def put(self, descriptor: Descriptor, content: bytes) -> None:
        """Store content that is in memory."""
        descriptor.check(content)
        if descriptor.media_type in _ACCEPTED:
            self.put_manifest(descriptor, content)
        elif not self.holds(descriptor):
            with tempfile.TemporaryFile() as file:
                file.write(content)
                self._upload(descriptor, file, None)

    def put_manifest(self, descriptor: Descriptor, content: bytes, *, tag: str = "") -> None:
        """Store a manifest or index, and name it."""
        descriptor.check(content)
        answer = self.connection.call(
            "PUT",
            f"{self.path}/manifests/{tag or descriptor.digest}",
            scope=self._writing,
            headers={"content-type": descriptor.media_type, "content-length": str(len(content))},
            body=lambda: [content],
            good={200, 201, 202},
            what=f"the manifest {tag or descriptor.digest}",
        )
        told = answer.headers.get("docker-content-digest", descriptor.digest)
        if told != descriptor.digest:
            raise DigestMismatch(
                f"registry {self.connection.registry} stored manifest {descriptor.digest} as {told[:80]}",
                digest=descriptor.digest,
            )
        if "oci-subject" in answer.headers:
            self._has_referrers_api = True

    def put_from(self, descriptor: Descriptor, source: Transport, *, told: Told | None = None) -> None:
        """Store content that another place holds; within one registry, it is only linked."""
        if isinstance(source, Registry) and source.connection is self.connection and self._mount(descriptor, source):
            return
        with source.opened(descriptor) as file:
            self._upload(descriptor, file, told)

    def name(self, descriptor: Descriptor, content: bytes, tag: str) -> None:
        """Put a manifest or index under a tag, or under its digest alone, unless that is so already."""
        there = self._tagged(tag or descriptor.digest)
        if there is None or there[0].digest != descriptor.digest:
            self.put_manifest(descriptor, content, tag=tag)

    def tag(self, reference: Reference, descriptor: Descriptor) -> None:
        """Let a tag point to a manifest or index that was put."""
        self.put_manifest(descriptor, self.fetch_manifest(descriptor), tag=reference.tag)

    def tags(self) -> list[str]:
        """Every tag of the repository, sorted.

        Raises
        ------
        ArtifactNotFound, RegistryRefused
        """
        found, listed = set[str](), 0
        for answer in self._pages(f"{self.path}/tags/list?n=1000", good={200}):
            tags = parse_json(answer.content, "list of tags").get("tags") or []
            if not isinstance(tags, list):
                raise RegistryRefused(f"registry {self.connection.registry} lists tags that cannot be read")
            listed += len(tags)
            if listed > MAX_TAGS:
                raise LimitExceeded(f"{self.repository} has more than {MAX_TAGS} tags", limit=MAX_TAGS)
            found |= {tag for tag in tags if isinstance(tag, str) and TAG.fullmatch(tag)}
        return sorted(found)

    def delete(self, digest: str) -> None:
        """Delete a manifest, and with it every tag that points to it.

        Raises
        ------
        ArtifactNotFound, AuthenticationFailed, RegistryRefused
        """
        scope = f"repository:{self.repository}:pull,push,delete"
        self.connection.call("DELETE", f"{self.path}/manifests/{digest}", scope=scope, good={200, 202}, what=digest)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Manifests whose subject is this one, from the API, or from the tag that stands in for it."""
        found = self._api(digest)
        if found is not None:
            return found
        content = self._tagged(_referrers_tag(digest))
        return parse_pointers(media_types.INDEX, content[1]).manifests if content else ()

    def attach(self, descriptor: Descriptor, subject: str) -> None:
        """Let a manifest that was put be found as a referrer of its subject."""
        self.attach_all([(descriptor, subject)])

    def attach_all(self, attached: Sequence[tuple[Descriptor, str]]) -> None:
        """List manifests under the tags that stand in for the referrers API, unless the registry has one."""
        if not attached or self._api(attached[0][1]) is not None:
            return
        contents = {descriptor.digest: self.fetch_manifest(descriptor) for descriptor, _ in attached}
        by_tag: dict[str, list[Descriptor]] = {}
        for descriptor, subject in attached:
            by_tag.setdefault(_referrers_tag(subject), []).append(descriptor)

        def adding(mine: list[Descriptor]) -> Change:
            return lambda old: with_referrers(old, [(d, contents[d.digest]) for d in mine])

        self.amend({tag: adding(mine) for tag, mine in by_tag.items()})

    def amend(self, changes: Mapping[str, Change]) -> None:
        """Change indexes under tags that others may change at the same time, so that no change is lost.

        The protocol cannot compare and swap. So a tag is read once more right before it is written, and again after
        all who may have read the old content then have written; when the change is gone, it is made again.

        Parameters
        ----------
        changes : mapping of str to callable
            Tag to what takes the index's bytes, or nothing, and returns the new ones; the same ones when nothing is
            left to do.

        Raises
        ------
        RegistryRefused
            When others keep winning.
        """
        limits, pause = self.connection.access.limits, self.connection.access.pause
        left = dict(changes)
        for _ in range(MAX_AMENDS):
            start = time.monotonic()
            left = {tag: change for tag, change in left.items() if self._change(tag, change)}
            if not left:
                return
            # others are about as far from the registry as this writer, and do no more than it did
            pause(min(max(limits.settle_s, SETTLE_TIMES * (time.monotonic() - start)), MAX_SETTLE_S))
        raise RegistryRefused(f"others keep changing {self.repository}:{next(iter(left))}; try again later")

    def _change(self, tag: str, change: Change) -> bool:
        """Make a change, unless it is made already; whether that has to be looked at again."""
        old = self._tagged(tag)
        new = change(old[1] if old else None)
        if old and old[1] == new:
            return False
        if self._tagged(tag) == old:
            self.put_manifest(Descriptor.of(media_types.INDEX, new), new, tag=tag)
        return True

    def pour(self, descriptor: Descriptor, writer: CheckedWriter) -> None:
        """Send a blob to a writer; a transfer that breaks goes on where it stopped."""
        url = f"{self.path}/blobs/{descriptor.digest}"
        download(self.connection, url, scope=self._scope, descriptor=descriptor, writer=writer)

    @contextlib.contextmanager
    def opened(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """A blob in a file without a name, checked."""
        with tempfile.TemporaryFile() as file:
            writer = CheckedWriter(descriptor, file)
            self.pour(descriptor, writer)
            writer.finish()
            file.seek(0)
            yield file

    def _get_manifest(
        self, wanted: str, accepted: Iterable[str], what: str, *, most_bytes: int = MAX_MANIFEST_BYTES
    ) -> Answer:
        return self.connection.call(
            "GET",
            f"{self.path}/manifests/{wanted}",
            scope=self._scope,
            good={200},
            headers={"accept": ", ".join(accepted)},
            most_bytes=most_bytes,
            what=what,
        )

    def _tagged(self, tag: str) -> tuple[Descriptor, bytes] | None:
        try:
            answer = self._get_manifest(tag, _ACCEPTED, tag)
        except ArtifactNotFound:
            return None
        return Descriptor.of(_media_type(answer), answer.content), answer.content

    def _head(self, url: str, *, accept: str = "*/*") -> bool:
        answer = self.connection.call("HEAD", url, scope=self._scope, headers={"accept": accept}, good={200, 404})
        return answer.status == 200

    def _mount(self, descriptor: Descriptor, source: Registry) -> bool:
        """Ask for a blob of another repository in the same registry; whether it is there now."""
        query = urlencode({"mount": descriptor.digest, "from": source.repository})
        scope = f"{self._writing} repository:{source.repository}:pull"
        answer = self.connection.call("POST", f"{self.path}/blobs/uploads/?{query}", scope=scope, good={201, 202})
        if answer.status == 202:  # an upload was begun instead
            with contextlib.suppress(ArtifactError):
                self.connection.call("DELETE", self.connection.target(answer), scope=self._writing, good={204, 202})
        return answer.status == 201

    def _upload(self, descriptor: Descriptor, file: BinaryIO, told: Told | None) -> None:
        upload(self.connection, self.path, scope=self._writing, descriptor=descriptor, file=file, told=told)

    def _api(self, digest: str) -> tuple[Descriptor, ...] | None:
        """What the referrers API says; nothing when there is none."""
        if self._has_referrers_api is False:
            return None
        found: list[Descriptor] = []
        for answer in self._pages(f"{self.path}/referrers/{digest}", good={200, 400, 401, 403, 404, 405, 501}):
            if answer.status != 200 or _media_type(answer) != media_types.INDEX:
                self._has_referrers_api = False
                return None
            found += parse_pointers(media_types.INDEX, answer.content).manifests
            if len(found) > MAX_REFERRERS:
                raise LimitExceeded(f"{digest} has more than {MAX_REFERRERS} referrers", limit=MAX_REFERRERS)
        self._has_referrers_api = True
        return tuple(found)

    def _pages(self, url: str, *, good: Collection[int]) -> Iterator[Answer]:
        """The answers of a list that comes in pages."""
        seen: set[str] = set()
        while url:
            seen.add(url)
            answer = self.connection.call(
                "GET", url, scope=self._scope, good=good, most_bytes=MAX_MANIFEST_BYTES, what=self.repository
            )
            yield answer
            match = _LINK.match(answer.headers.get("link", ""))
            link = Answer(status=200, url=answer.url, headers={"location": match[1] if match else ""})
            url = self.connection.target(link) if match else ""
            if url in seen:
                raise RegistryRefused(f"registry {self.connection.registry} sends the pages of a list in a circle")
            if len(seen) == MAX_PAGES:
                raise LimitExceeded(f"registry {self.connection.registry} sends a list of more than {MAX_PAGES} pages")


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip()


def _referrers_tag(digest: str) -> str:
    return digest.replace(":", "-")
