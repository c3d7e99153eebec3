"""Models that come from a real registry: at the first request, in new versions, and while it is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from planes import ask, check, with_plane
from registries import RealRegistry, real_registry

from gatesmith.artifact.connection import Access
from gatesmith.artifact.patience import Limits
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import push_artifact
from gatesmith.artifact.store import Store
from gatesmith.errors import ModelNotFound, RegistryUnreachable
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.repository import ReferenceSource, RegistrySource

PLAIN = Access(plain_http=True, limits=Limits(settle_s=0.05, first_wait_s=0.01))
OLD, NEW = tiny_firmware(seed=1), tiny_firmware(seed=2)
Doubles = list[ArithmeticDevice]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with real_registry(tmp_path / "registry") as running:
        yield running


def push(store: Store, registry: RealRegistry, tag: str, firmware: Firmware) -> None:
    store.save(f"iris:{tag}", [firmware], merge=False)
    target = Reference.parse(f"{registry.address}/lab/iris:{tag}")
    push_artifact(store.layout, Reference.parse(f"iris:{tag}"), target, PLAIN)


def test_a_namespace_is_a_repository(registry: RealRegistry, tmp_path: Path) -> None:
    maker = Store(tmp_path / "maker")
    push(maker, registry, "v1", OLD)
    source = RegistrySource(f"{registry.address}/lab", PLAIN, Store(tmp_path / "server"))

    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        assert plane.names == []
        check(await ask(plane, "iris"))
        assert plane.model("iris").is_firmware(OLD)
        with pytest.raises(ModelNotFound):
            await ask(plane, "jets")
        push(maker, registry, "v2", NEW)
        await plane.load_model("iris")
        assert plane.model("iris").is_firmware(NEW)
        check(await ask(plane, "iris", version="v1"))
        await plane.load_model("iris", {"version": "v1"})
        assert plane.model("iris").is_version("v1")

    with_plane(body, source, devices=2, load_on_demand=True)  # type: ignore[arg-type]


def test_a_tag_that_moves_is_followed_when_told(registry: RealRegistry, tmp_path: Path) -> None:
    maker = Store(tmp_path / "maker")
    push(maker, registry, "stable", OLD)
    reference = Reference.parse(f"{registry.address}/lab/iris:stable")
    source = ReferenceSource({"iris": reference}, PLAIN, Store(tmp_path / "server"))

    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        push(maker, registry, "stable", NEW)
        check(await ask(plane, "iris"))
        assert plane.model("iris").is_firmware(OLD)
        await plane.load_model("iris")
        assert plane.model("iris").is_firmware(NEW)

    with_plane(body, source, preload=["iris"])  # type: ignore[arg-type]


def test_what_was_fetched_is_served_without_the_registry(tmp_path: Path) -> None:
    limits = Limits(settle_s=0.05, first_wait_s=0.01)
    access = Access(plain_http=True, limits=limits)
    with real_registry(tmp_path / "registry") as registry:
        push(Store(tmp_path / "maker"), registry, "v1", OLD)
        reference = Reference.parse(f"{registry.address}/lab/iris:v1")
        ReferenceSource({"iris": reference}, access, Store(tmp_path / "server")).find("iris", None, fresh=True)
    source = ReferenceSource({"iris": reference}, access, Store(tmp_path / "server"))

    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        check(await ask(plane, "iris"))
        with pytest.raises(RegistryUnreachable):
            await plane.load_model("iris")  # somebody asks whether the tag moved
        check(await ask(plane, "iris"))  # and what runs goes on

    with_plane(body, source, preload=["iris"])  # type: ignore[arg-type]
