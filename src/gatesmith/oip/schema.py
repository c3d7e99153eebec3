"""The protocol's messages, from the descriptors that the package ships.

They live in a pool of their own: other packages bring messages of the same names (the reference client, KServe's SDK,
MLServer), and one pool takes each name once.
"""

# Ref: protobuf DescriptorPool: adding a symbol twice is an error, per pool

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["Message", "file_of", "message", "service_names"]

Message = Any
"""A message or its class: made at run time, so unknown to a type checker."""


@cache
def _files() -> dict[str, bytes]:
    """Serialized descriptors by file name."""
    every = FileDescriptorSet.FromString((files(__package__) / "protos.binpb").read_bytes())
    return {file.name: file.SerializeToString() for file in every.file}


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for content in _files().values():
        pool.AddSerializedFile(content)
    return pool


def message(name: str, package: str = "inference") -> Message:
    """The class of a message."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"{package}.{name}"))


def service_names() -> list[str]:
    """Full names of all services."""
    return sorted(
        service.full_name for name in _files() for service in _pool().FindFileByName(name).services_by_name.values()
    )


def file_of(*, name: str = "", symbol: str = "") -> bytes | None:
    """The serialized descriptor of a file, by its name or by a symbol in it."""
    try:
        found = name or _pool().FindFileContainingSymbol(symbol).name
    except KeyError:
        return None
    return _files().get(found)
