"""A hostile registry and its victim, shared by all tests about them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile_client import World, a_world

from gatesmith.artifact.store import Store


@pytest.fixture(scope="session")
def hostile_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("client")) as world:
        yield world


@pytest.fixture
def world(hostile_session: World) -> World:
    """The same for every test, with nothing in it."""
    hostile_session.registry.reset()
    hostile_session.elsewhere.reset()
    store = Store(hostile_session.home / "store")
    for entry in store.list():
        if entry.reference != "mine:v1":
            store.remove(entry.reference)
    return hostile_session
