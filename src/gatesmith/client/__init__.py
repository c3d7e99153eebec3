"""A client of the Open Inference Protocol: arrays in, arrays out, over HTTP or gRPC."""

from gatesmith.client.client import Client

__all__ = ["Client"]
