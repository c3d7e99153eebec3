"""What ``gatesmith serve`` is given, as sources of models: references, folders, model files; and who builds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gatesmith.cli.asked import aim
from gatesmith.cli.targets import named

if TYPE_CHECKING:
    from gatesmith.artifact.connection import Access
    from gatesmith.serve.settings import Settings
    from gatesmith.serve.source import Builder, Offer, Source

__all__ = ["builder_of", "check_readable", "sources_of"]

LOCAL = "local"
BUILD_PACKAGES = ("amaranth", "da4ml", "pyosys")
HOLDS_FIRMWARE = ("index.json", "firmware", "models/firmware", "*/firmware", "*/models/firmware")


def sources_of(
    targets: Sequence[str], repositories: Sequence[str], settings: Settings
) -> tuple[list[Source], list[str]]:
    """Where models come from, and the names of those that are loaded at the start.

    Raises
    ------
    ArtifactError, ModelUnreadable
    """
    from gatesmith.artifact.connection import Access
    from gatesmith.errors import ManifestInvalid
    from gatesmith.serve.repository import source_of

    ca = Path(settings.registry_ca) if settings.registry_ca else None
    access = Access(plain_http=settings.registry_plain_http, ca=ca, realms=())
    sources = [_source(target, access) for target in targets]
    names = [name for source in sources for name in source.names()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ManifestInvalid(
            f"two models are called {twice[0]}; start one of them under another name: NAME=TARGET", model=twice[0]
        )
    return [*sources, *(source_of(repository, access) for repository in repositories)], names


def builder_of(settings: Settings) -> Builder | None:
    """Who makes firmware where there is none: the service that was named, or this machine if it has what that needs."""
    from gatesmith.builds.serving import LocalBuilds, ModelBuilder, ServiceBuilds

    chosen = aim(settings.build_precision, tolerance=settings.build_tolerance)
    if not settings.build_service and not all(map(find_spec, BUILD_PACKAGES)):
        return None
    if settings.build_service in {"", LOCAL}:
        return ModelBuilder(LocalBuilds(), aim=chosen)
    ca = Path(settings.build_ca) if settings.build_ca else None
    service = ServiceBuilds(settings.build_service, token=_token(settings.build_token_file), ca=ca)
    return ModelBuilder(service, aim=chosen)


def check_readable(sources: Sequence[Source], name: str, boards: Sequence[str], *, builds: bool) -> None:
    """Read a model's firmware once, for the first device that it fits: what cannot be read is told at the start.

    Parameters
    ----------
    boards : sequence of str
        Of the devices; empty for one that runs any.
    builds : bool
        Whether firmware that is missing is built.
    """
    source = next(source for source in sources if name in source.names())
    offer = source.find(name, None, fresh=False)
    fits = [board for board in boards if (not board and offer.boards) or offer.fits(board)]
    if builds and not fits and _holds_model(offer):
        return
    offer.read(fits[0] or next(iter(offer.boards), "") if fits else boards[0])


def _holds_model(offer: Offer) -> bool:
    from gatesmith.errors import ArtifactNotFound

    try:
        offer.model()
    except ArtifactNotFound:
        return False
    return True


def _source(text: str, access: Access) -> Source:
    from gatesmith.errors import ManifestInvalid
    from gatesmith.serve.naming import RenamedSource, split_name

    name, target = split_name(text)
    source = _unnamed(target, access)
    if not name:
        return source
    if len(source.names()) != 1:
        raise ManifestInvalid(f"{target!r} holds the models {list(source.names())}, one can be called {name}")
    return RenamedSource(name, source, source.names()[0])


def _unnamed(target: str, access: Access) -> Source:
    from gatesmith.artifact.reference import Reference
    from gatesmith.builds.serving import ModelFiles, model_files
    from gatesmith.errors import ArtifactNotFound
    from gatesmith.serve.repository import ReferenceSource, model_name, source_of

    if any(any(Path(target).glob(pattern)) for pattern in HOLDS_FIRMWARE):
        source = source_of(target, access)
        if not source.names():
            raise ArtifactNotFound(
                f"folder {target!r} holds no artifact; give a folder that 'gatesmith build --out' wrote", path=target
            )
        return source
    if files := model_files(target):
        return ModelFiles(files)
    _, reference = named(target, access=access)
    return ReferenceSource({model_name(reference): Reference.parse(reference)}, access)


def _token(path: str) -> str:
    from gatesmith.errors import AuthenticationFailed

    if not path or not Path(path).exists():
        return ""  # a secret that is optional
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AuthenticationFailed(f"token file {path} cannot be read: {error}") from error
