"""The gRPC door: the Open Inference Protocol over HTTP/2, without a gRPC library.

From the socket inwards: ``http2`` (frames, with ``hpack`` and ``streams``), ``calls`` (gRPC's messages, deadlines and
statuses), ``service`` and ``infer`` (what the methods mean), ``door`` (listening, TLS, the end). The messages are
in ``gatesmith.oip``. Why there is no gRPC library below is in ``docs/decisions/0008-own-grpc-transport.md``.
"""
