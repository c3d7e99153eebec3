"""The kubelet's messages, in a descriptor pool of their own like those of the inference protocol."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["Message", "message"]

Message = Any
"""A message or its class: made at run time, so unknown to a type checker."""


@cache
def message(name: str) -> Message:
    """The class of a message of package ``v1beta1``."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"v1beta1.{name}"))


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString((files(__package__) / "protos.binpb").read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
