"""The way over gRPC, where grpcio and protobuf are installed."""

# Ref: Open Inference Protocol v2, inference_grpc.md; gRPC core statuscodes.md

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatesmith import errors
from gatesmith.client.tensors import array_of, raw_of
from gatesmith.client.transport import Arrays, Request, unreadable_authority
from gatesmith.errors import GatesmithError, NotInstalled

__all__ = ["GrpcTransport"]

_SERVICE = "/inference.GRPCInferenceService/"
_LARGEST = -1  # gRPC's word for no limit
_ERRORS: dict[str, type[GatesmithError]] = {
    "INVALID_ARGUMENT": errors.TensorMismatch,
    "NOT_FOUND": errors.ModelNotFound,
    "UNAUTHENTICATED": errors.TokenInvalid,
    "PERMISSION_DENIED": errors.AccessRefused,
    "RESOURCE_EXHAUSTED": errors.Overloaded,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "UNAVAILABLE": errors.ServerUnreachable,
}


class GrpcTransport:
    """One server over gRPC.

    Parameters
    ----------
    address : str
        Host and port.
    """

    def __init__(self, address: str, *, secure: bool, token: str | None, ca_file: str | None) -> None:
        try:
            import grpc
            from google.protobuf.json_format import MessageToDict

            from gatesmith.oip.schema import message
        except ImportError as error:
            raise NotInstalled(str(error.name), "pip install 'gatesmith[grpc]'") from error
        self._grpc, self._to_dict, self._message = grpc, MessageToDict, message
        self._address = address
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        options = [("grpc.max_receive_message_length", _LARGEST), ("grpc.max_send_message_length", _LARGEST)]
        if secure:
            try:
                roots = Path(ca_file).read_bytes() if ca_file else None
            except OSError as error:
                raise unreadable_authority(str(ca_file), error) from error
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), options)
        else:
            self._channel = grpc.insecure_channel(address, options)

    def infer(self, request: Request, timeout_s: float) -> Arrays:
        """Run a model."""
        sent = self._message("ModelInferRequest")(model_name=request.model, model_version=request.version or "")
        for tensor in request.inputs:
            sent.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
            sent.raw_input_contents.append(raw_of(tensor.datatype, tensor.array))
        for name in request.outputs:
            sent.outputs.add(name=name)
        for name, value in (("priority", request.priority), ("timeout", request.timeout_us)):
            if value:
                sent.parameters[name].int64_param = value
        answer = self._call("ModelInfer", sent, timeout_s)
        if len(answer.raw_output_contents) != len(answer.outputs):
            raise errors.ServerUnreachable(
                f"the answer has {len(answer.outputs)} outputs and {len(answer.raw_output_contents)} raw contents"
            )
        return {
            output.name: array_of(output.datatype, list(output.shape), raw)
            for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    def server(self, timeout_s: float) -> dict[str, Any]:
        """The server's metadata."""
        return self._asked("ServerMetadata", timeout_s)

    def model(self, name: str, version: str | None, timeout_s: float) -> dict[str, Any]:
        """A model's metadata."""
        found = self._asked("ModelMetadata", timeout_s, name=name, version=version or "")
        for tensor in (*found.get("inputs", ()), *found.get("outputs", ())):
            tensor["shape"] = [int(size) for size in tensor.get("shape", ())]  # 64-bit numbers are strings in JSON
        return found

    def ready(self, name: str | None, version: str | None, timeout_s: float) -> bool:
        """Whether a model, or with no name every model, can answer."""
        if name is None:
            return bool(self._asked("ServerReady", timeout_s).get("ready", False))
        return bool(self._asked("ModelReady", timeout_s, name=name, version=version or "").get("ready", False))

    def load(self, name: str, parameters: Mapping[str, Any], timeout_s: float) -> None:
        """Make a model ready."""
        sent = self._message("RepositoryModelLoadRequest")(model_name=name)
        for key, value in parameters.items():
            kind = "bool_param" if isinstance(value, bool) else "int64_param" if isinstance(value, int) else None
            setattr(sent.parameters[key], kind or "string_param", value if kind else str(value))
        self._call("RepositoryModelLoad", sent, timeout_s)

    def unload(self, name: str, timeout_s: float) -> None:
        """Take a model off its devices."""
        self._asked("RepositoryModelUnload", timeout_s, model_name=name)

    def index(self, ready_only: bool, timeout_s: float) -> list[dict[str, Any]]:
        """What the repository holds."""
        found: list[dict[str, Any]] = self._asked("RepositoryIndex", timeout_s, ready=ready_only).get("models", [])
        return [{"name": "", "version": "", "state": "", "reason": "", **model} for model in found]

    def statistics(self, name: str | None, version: str | None, timeout_s: float) -> list[dict[str, Any]]:
        """Counters of one model, or of all."""
        answer = self._asked("ModelStatistics", timeout_s, name=name or "", version=version or "")
        found: list[dict[str, Any]] = _numbers(answer.get("model_stats", []))
        return found

    def close(self) -> None:
        """Give connections back."""
        self._channel.close()

    def _asked(self, method: str, timeout_s: float, **fields: Any) -> dict[str, Any]:
        answer = self._call(method, self._message(f"{method}Request")(**fields), timeout_s)
        found: dict[str, Any] = self._to_dict(answer, preserving_proto_field_name=True)
        return found

    def _call(self, method: str, sent: Any, timeout_s: float) -> Any:
        call = self._channel.unary_unary(
            f"{_SERVICE}{method}",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=self._message(f"{method}Response").FromString,
        )
        try:
            return call(sent, timeout=timeout_s, metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise self._error(error) from error

    def _error(self, error: Any) -> GatesmithError:
        code = error.code().name
        facts: dict[str, Any] = {"code": code, "url": f"grpc://{self._address}"}
        trailing = dict(error.trailing_metadata() or ())
        kind = _ERRORS.get(code, errors.InferenceError)
        if after := trailing.get("retry-after-ms", ""):
            facts["retry_after_s"] = int(after) / 1000
            if code == "UNAVAILABLE":  # said by a server that was reached
                kind = errors.ModelNotReady
        return kind(f"{facts['url']} answered {code}: {error.details() or 'nothing'}", **facts)


def _numbers(value: Any) -> Any:
    """Numbers of 64 bits, which are strings in JSON, as numbers."""
    if isinstance(value, dict):
        return {key: inner if key in {"name", "version"} else _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return int(value) if isinstance(value, str) and value.isdigit() else value
