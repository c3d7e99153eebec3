"""Manifests as an API server would take them: KServe's CRDs, Kubernetes' schemas, nothing unknown anywhere."""

# Ref: Kubernetes CRDs prune what their schema does not know: a strict check forbids it wherever properties are listed
# Ref: prometheus-operator ServiceMonitor and PodMonitor v1; KEDA ScaledObject v1alpha1: the fields that are used here

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

__all__ = ["CRDS", "check", "documents", "problems"]

CRDS = Path(__file__).parents[2] / "shared" / "data" / "kserve-crds"
VERSION = "1.34"

_SELECTOR = {
    "type": "object",
    "properties": {
        "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
        "matchExpressions": {"type": "array"},
    },
    "additionalProperties": False,
}
_ENDPOINT = {
    "type": "object",
    "required": ["path"],
    "properties": {
        "port": {"type": "string"},
        "targetPort": {"type": ["integer", "string"]},
        "path": {"type": "string"},
        "interval": {"type": "string", "pattern": "^[0-9]+s$"},
    },
    "additionalProperties": False,
}
_FOREIGN = {
    "ServiceMonitor": {
        "required": ["selector", "endpoints"],
        "properties": {"selector": _SELECTOR, "endpoints": {"type": "array", "items": _ENDPOINT, "minItems": 1}},
    },
    "PodMonitor": {
        "required": ["selector", "podMetricsEndpoints"],
        "properties": {
            "selector": _SELECTOR,
            "namespaceSelector": {"type": "object"},
            "podMetricsEndpoints": {"type": "array", "items": _ENDPOINT, "minItems": 1},
        },
    },
    "ScaledObject": {
        "required": ["scaleTargetRef", "triggers"],
        "properties": {
            "scaleTargetRef": {"type": "object", "required": ["name"]},
            "minReplicaCount": {"type": "integer"},
            "maxReplicaCount": {"type": "integer"},
            "triggers": {"type": "array", "items": {"type": "object", "required": ["type", "metadata"]}},
        },
    },
}


def documents(text: str) -> list[dict[str, Any]]:
    """Every object of a file."""
    return [document for document in yaml.safe_load_all(text) if document]


def check(document: dict[str, Any]) -> None:
    """Fail, with all that is wrong."""
    wrong = problems(document)
    name = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
    assert not wrong, f"{name}: {wrong}"


def problems(document: dict[str, Any]) -> list[str]:
    """What an API server would refuse or drop."""
    kind = document.get("kind", "")
    if str(document.get("apiVersion", "")).startswith("serving.kserve.io/"):
        return _by_schema(document, _kserve(kind, document["apiVersion"].rpartition("/")[2]))
    if kind in _FOREIGN:
        return _by_schema(document["spec"], {"type": "object", "additionalProperties": False, **_FOREIGN[kind]})
    if kind == "Kustomization":
        return []
    try:
        kubernetes_validate.validate(document, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


def _by_schema(document: Any, schema: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(document)
    ]


@cache
def _kserve(kind: str, version: str) -> dict[str, Any]:
    plural = kind.lower() + "s"
    path = CRDS / f"serving.kserve.io_{plural}.yaml"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    found = yaml.safe_load(path.read_text())
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in found["spec"]["versions"] if v["name"] == version]
    strict = _strict(copy.deepcopy(schema))
    strict["properties"]["metadata"] = {"type": "object"}
    return strict


def _strict(schema: Any) -> Any:
    """Nothing unknown where properties are listed; integers or strings where the schema says so in its own words."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string") is True:
        schema.pop("type", None)
        schema["type"] = ["integer", "string"]
    return schema
