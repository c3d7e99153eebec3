"""OpenAPI 3.1 documents of the REST door, written from the protocols: all of it, and the standard endpoints alone.

The documents say what any model's endpoint takes and gives; which tensors one model has is in its metadata, so a
request that fits the schema can still be refused with 400.
"""

# Ref: Open Inference Protocol v2, inference_rest.md; Triton's extension pages; KServe V1 protocol; OpenAPI 3.1.1

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from gatesmith.serve.openapi_schemas import SCHEMAS

__all__ = ["oip_document", "own_document"]

Json = dict[str, Any]
_M = "/v2/models/{model_name}"
_V = f"{_M}/versions/{{model_version}}"
_MEMORY = "/v2/systemsharedmemory"
_ADMIN = (401, 403)
_WORDS = {
    400: "The request is not one of the protocol, or does not fit the model",
    401: "A token is needed, or another one",
    403: "Not allowed on this address",
    404: "No such model, version or region",
    408: "The request took too long to arrive",
    413: "The body is too large",
    415: "The body's content encoding is not read",
    500: "The server failed",
    502: "The link to the device, or a registry, failed",
    503: "Not ready, or too much is waiting; Retry-After says when to try again",
    504: "The device did not answer in time, or the request's own time is over",
}
_BODY_FAILURES = (400, 408, 413, 415)
_DEVICE_FAILURES = (404, 500, 502, 503, 504)


@cache
def own_document() -> Json:
    """Everything that the door answers."""
    paths = {**_standard_paths(), **_v1_paths(), **_extension_paths(), **_memory_paths(), **_service_paths()}
    return _document("gatesmith", paths)


@cache
def oip_document() -> Json:
    """The endpoints that every server of the Open Inference Protocol has, and nothing else."""
    return _document("Open Inference Protocol v2", _standard_paths())


def _document(title: str, paths: Json) -> Json:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("gatesmith"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": _used(paths),
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }


def _used(content: Any) -> Json:
    """The schemas that some content refers to, and those that these refer to."""
    found: Json = {}
    waiting = [content]
    while waiting:
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        name = value.get("$ref", "").rpartition("/")[2] if isinstance(value, dict) else ""
        if name and name not in found:
            found[name] = SCHEMAS[name]
            waiting.append(SCHEMAS[name])
    return dict(sorted(found.items()))


def _standard_paths() -> Json:
    infer = _operation("infer", "InferenceRequest", "InferenceResponse", _BODY_FAILURES + _DEVICE_FAILURES)
    infer["parameters"] = [
        {"name": "Inference-Header-Content-Length", "in": "header", "schema": {"type": "integer", "minimum": 0},
         "description": "Length of the JSON where binary tensor data follow it"},
    ]  # fmt: skip
    infer["requestBody"]["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    infer["responses"]["200"]["content"]["application/octet-stream"] = {"schema": {}}
    without_header = {**infer, "operationId": "infer"}
    return {
        "/v2": {"get": _operation("server_metadata", None, "ServerMetadata")},
        "/v2/health/live": {"get": _operation("server_live", None, "Live")},
        "/v2/health/ready": {"get": _unready("server_ready", "Ready", ())},
        _M: _on_model({"get": _operation("model_metadata", None, "ModelMetadata", (404,))}),
        _V: _on_version({"get": _operation("version_metadata", None, "ModelMetadata", (404,))}),
        f"{_M}/ready": _on_model({"get": _unready("model_ready", "ModelReady", (404,))}),
        f"{_V}/ready": _on_version({"get": _unready("version_ready", "ModelReady", (404,))}),
        f"{_M}/infer": _on_model({"post": without_header}),
        f"{_V}/infer": _on_version({"post": {**infer, "operationId": "version_infer"}}),
    }


def _v1_paths() -> Json:
    predict = _operation("v1_predict", "PredictRequest", "PredictResponse", _BODY_FAILURES + _DEVICE_FAILURES)
    return {
        "/v1/models": {"get": _operation("v1_models", None, "V1Models")},
        "/v1/models/{model_name}": _on_model({"get": _unready("v1_model_ready", "ModelReady", (404,))}),
        "/v1/models/{model_name}:predict": _on_model({"post": predict}),
    }


def _extension_paths() -> Json:
    index = _operation("repository_index", "IndexRequest", "RepositoryIndex", _BODY_FAILURES, optional=True)
    load = _operation("repository_load", "LoadRequest", "Loaded", _failures_of_loading(), optional=True)
    unload = _operation("repository_unload", "UnloadRequest", "Unloaded", _failures_of_loading(), optional=True)
    return {
        "/v2/models/stats": {"get": _operation("statistics", None, "Statistics")},
        f"{_M}/stats": _on_model({"get": _operation("model_statistics", None, "Statistics", (404,))}),
        f"{_V}/stats": _on_version({"get": _operation("version_statistics", None, "Statistics", (404,))}),
        f"{_M}/config": _on_model({"get": _operation("model_configuration", None, "ModelConfiguration", (404,))}),
        f"{_V}/config": _on_version({"get": _operation("version_configuration", None, "ModelConfiguration", (404,))}),
        "/v2/repository/index": {"post": index},
        "/v2/repository/models/{model_name}/load": _on_model({"post": _secured(load)}),
        "/v2/repository/models/{model_name}/unload": _on_model({"post": _secured(unload)}),
    }


def _memory_paths() -> Json:
    region = f"{_MEMORY}/region/{{region_name}}"
    named = [_path_parameter("region_name")]
    register = _operation("memory_register", "RegisterRequest", "Empty", (*_BODY_FAILURES, *_ADMIN))
    forget = _operation("memory_unregister", None, "Empty", (*_BODY_FAILURES, *_ADMIN))
    forget_all = _operation("memory_unregister_all", None, "Empty", (*_BODY_FAILURES, *_ADMIN))
    return {
        f"{_MEMORY}/status": {"get": _operation("memory_status", None, "Regions")},
        f"{region}/status": {
            "parameters": named, "get": _operation("memory_region_status", None, "Regions", (404,))
        },
        f"{region}/register": {"parameters": named, "post": _secured(register)},
        f"{region}/unregister": {"parameters": named, "post": _secured(forget)},
        f"{_MEMORY}/unregister": {"post": _secured(forget_all)},
    }  # fmt: skip


def _service_paths() -> Json:
    metrics: Json = {"operationId": "metrics", "responses": {"200": {"description": "Prometheus text"}}}
    metrics["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/metrics": {"get": metrics},
        "/openapi.json": {"get": _operation("openapi", None, "Document")},
        "/openapi-oip.json": {"get": _operation("openapi_oip", None, "Document")},
    }


def _failures_of_loading() -> tuple[int, ...]:
    return (*_BODY_FAILURES, *_ADMIN, *_DEVICE_FAILURES)


def _operation(
    name: str, request: str | None, reply: str, failures: tuple[int, ...] = (), *, optional: bool = False
) -> Json:
    responses: Json = {"200": {"description": "Success", "content": _json(reply)}}
    for status in sorted(failures):
        responses[str(status)] = {"description": _WORDS[status], "content": _json("Error")}
    operation: Json = {"operationId": name, "responses": responses}
    if request:
        operation["requestBody"] = {"required": not optional, "content": _json(request)}
    return operation


def _unready(name: str, reply: str, failures: tuple[int, ...]) -> Json:
    """An operation that answers 503 in its own form."""
    operation = _operation(name, None, reply, failures)
    operation["responses"]["503"] = {"description": "Not ready", "content": _json(reply)}
    return operation


def _secured(operation: Json) -> Json:
    return {**operation, "security": [{}, {"admin": []}]}


def _on_model(operations: Json) -> Json:
    return {"parameters": [_path_parameter("model_name")], **operations}


def _on_version(operations: Json) -> Json:
    return {"parameters": [_path_parameter("model_name"), _path_parameter("model_version")], **operations}


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
