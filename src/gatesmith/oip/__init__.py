"""Messages of the Open Inference Protocol over gRPC, for the server's door and the client alike.

The sources are in ``protos/``; ``scripts/compile_proto.py`` makes ``protos.binpb`` of them, which is what is used.
"""
