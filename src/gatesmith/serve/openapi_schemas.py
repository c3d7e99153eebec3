"""Schemas of the REST door's requests and replies, in JSON Schema's words; ``openapi`` puts them in place."""

# Ref: Open Inference Protocol v2, inference_rest.md: the JSON objects there; JSON Schema 2020-12

from __future__ import annotations

from typing import Any

from gatesmith.tensor import Datatype

__all__ = ["SCHEMAS"]

Json = dict[str, Any]
_WHOLE: Json = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
_TEXT: Json = {"type": "string"}
_TRUTH: Json = {"type": "boolean"}
_DATATYPES: Json = {"type": "string", "enum": [kind.value for kind in Datatype]}
_NULLABLE_TEXT: Json = {"type": ["string", "null"]}


def _object(properties: Json, required: tuple[str, ...] = (), **more: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _list(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_PLACE: Json = {
    "shared_memory_region": _NULLABLE_TEXT,
    "shared_memory_byte_size": _WHOLE,
    "shared_memory_offset": _WHOLE,
}
_DESCRIBED = _object(
    {"name": _TEXT, "datatype": _DATATYPES, "shape": _list({"type": "integer"}), "parameters": {"type": "object"}},
    ("name", "datatype", "shape"),
)
_REQUEST_PARAMETERS: Json = {
    "priority": _WHOLE,
    "timeout": _WHOLE,
    "binary_data_output": _TRUTH,
}
_MAYBE_OBJECT: Json = {"type": ["object", "null"]}

SCHEMAS: dict[str, Json] = {
    "Error": _object({"error": {"type": "string", "minLength": 1}}, ("error",), additionalProperties=False),
    "Empty": _object({}),
    "Document": _object({"openapi": _TEXT}, ("openapi",)),
    "Live": _object({"live": {"const": True}}, ("live",)),
    "Ready": _object({"ready": _TRUTH, "error": _TEXT}, ("ready",)),
    "ModelReady": _object({"name": _TEXT, "ready": _TRUTH, "error": _TEXT}, ("name", "ready")),
    "ServerMetadata": _object(
        {"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}, ("name", "version", "extensions")
    ),
    "TensorMetadata": _DESCRIBED,
    "ModelMetadata": _object(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list(_ref("TensorMetadata")),
            "outputs": _list(_ref("TensorMetadata")),
            "parameters": {"type": "object"},
        },
        ("name", "platform", "inputs", "outputs"),
    ),
    "RequestInput": _object(
        {
            "name": _TEXT,
            "datatype": _DATATYPES,
            "shape": _list(_WHOLE),
            "data": {"type": "array", "description": "Row-major, flat or nested as the shape"},
            "parameters": {**_MAYBE_OBJECT, "properties": {"binary_data_size": _WHOLE, **_PLACE}},
        },
        ("name", "datatype", "shape"),
    ),
    "RequestOutput": _object(
        {
            "name": _TEXT,
            "parameters": {
                **_MAYBE_OBJECT,
                "properties": {"binary_data": _TRUTH, "classification": {**_WHOLE, "minimum": 1}, **_PLACE},
            },
        },
        ("name",),
    ),
    "InferenceRequest": _object(
        {
            "id": _NULLABLE_TEXT,
            "parameters": {**_MAYBE_OBJECT, "properties": _REQUEST_PARAMETERS},
            "inputs": _list(_ref("RequestInput")),
            "outputs": {"type": ["array", "null"], "items": _ref("RequestOutput")},
        },
        ("inputs",),
    ),
    "ResponseOutput": _object(
        {
            "name": _TEXT,
            "datatype": _DATATYPES,
            "shape": _list(_WHOLE),
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        ("name", "datatype", "shape"),
    ),
    "InferenceResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": {"type": "object"},
            "outputs": _list(_ref("ResponseOutput")),
        },
        ("model_name", "outputs"),
    ),
    "V1Models": _object({"models": _list(_TEXT)}, ("models",)),
    "PredictRequest": {
        "oneOf": [
            _object({"instances": {"type": "array"}}, ("instances",)),
            _object({"inputs": {"type": ["array", "object"]}}, ("inputs",)),
        ]
    },
    "PredictResponse": _object({"predictions": {"type": "array"}, "outputs": {"type": ["array", "object"]}}),
    "IndexRequest": _object({"ready": _TRUTH}),
    "RepositoryIndex": _list(
        _object(
            {
                "name": _TEXT,
                "version": _TEXT,
                "state": {"enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
                "reason": _TEXT,
            },
            ("name",),
        )
    ),
    "LoadRequest": _object({"parameters": _MAYBE_OBJECT}),
    "UnloadRequest": _object({"parameters": {**_MAYBE_OBJECT, "properties": {"unload_dependents": _TRUTH}}}),
    "Loaded": _object({"name": _TEXT, "load": _TRUTH}, ("name", "load")),
    "Unloaded": _object({"name": _TEXT, "unload": _TRUTH}, ("name", "unload")),
    "Statistics": _object(
        {"model_stats": _list(_object({"name": _TEXT, "version": _TEXT}, ("name",)))}, ("model_stats",)
    ),
    "ModelConfiguration": _object({"name": _TEXT, "input": {"type": "array"}, "output": {"type": "array"}}, ("name",)),
    "Region": _object(
        {"name": _TEXT, "key": _TEXT, "offset": _WHOLE, "byte_size": _WHOLE}, ("name", "key", "offset", "byte_size")
    ),
    "Regions": _list(_ref("Region")),
    "RegisterRequest": _object({"key": _TEXT, "offset": _WHOLE, "byte_size": _WHOLE}, ("key", "byte_size")),
}
