"""The little of the Kubernetes API that a node's agent needs: pods of this node that wait, and the node's labels.

It uses the pod's own service account, reads its token anew for every call because it is replaced, and asks for nothing
beyond its own node. Whatever fails here is told in the log: devices are offered without it.
"""

# Ref: Kubernetes API: GET /api/v1/pods?fieldSelector=spec.nodeName=...,status.phase=Pending; PATCH of a node as
# Ref: application/strategic-merge-patch+json, where a label that is null goes away; service account files

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpcore

from gatesmith.errors import ServerUnreachable
from gatesmith.kube.inventory import DOMAIN, NodeDevice

__all__ = ["ACCOUNT", "Cluster", "labels_of", "wanted_by"]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANNOTATION = f"{DOMAIN}/firmware"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""Where KServe notes what a pod serves."""

TIMEOUT_S = 5.0
MAX_BYTES = 16 << 20
_HTTP_ERRORS = (
    httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol
)  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The API server as one node sees it.

    Parameters
    ----------
    url : str
        ``https://kubernetes.default.svc``.
    account : Path
        Folder with ``token`` and ``ca.crt``.
    """

    url: str
    node: str
    account: Path = ACCOUNT

    def waiting_pods(self, resources: set[str]) -> list[dict[str, Any]]:
        """Pods on this node that have not started and ask for one of these resources, the oldest first.

        Raises
        ------
        ServerUnreachable
        """
        fields = quote(f"spec.nodeName={self.node},status.phase=Pending")
        pods = self._call("GET", f"/api/v1/pods?fieldSelector={fields}").get("items", [])
        asked = [pod for pod in pods if resources & _resources(pod)]
        return sorted(asked, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))

    def label(self, labels: Mapping[str, str | None]) -> None:
        """Set labels of this node; one that is None goes away.

        Raises
        ------
        ServerUnreachable
        """
        self._call("PATCH", f"/api/v1/nodes/{quote(self.node)}", {"metadata": {"labels": dict(labels)}})

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = [("accept", "application/json"), ("content-type", "application/strategic-merge-patch+json")]
        try:
            headers.append(("authorization", f"Bearer {(self.account / 'token').read_text().strip()}"))
            trust = ssl.create_default_context(cafile=self.account / "ca.crt") if self.url[:5] == "https" else None
            with httpcore.ConnectionPool(ssl_context=trust) as pool:
                answer = pool.request(
                    method,
                    self.url + path,
                    headers=headers,
                    content=None if body is None else json.dumps(body).encode(),
                    extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)},
                )
            data = json.loads(answer.content[:MAX_BYTES])
        except (OSError, ValueError, *_HTTP_ERRORS) as error:
            raise ServerUnreachable(f"{self.url} does not answer: {type(error).__name__} {error}") from error
        if answer.status >= 300 or not isinstance(data, dict):
            words = data.get("message", "") if isinstance(data, dict) else ""
            raise ServerUnreachable(
                f"{self.url} answered {method} {path.partition('?')[0]} with {answer.status}: {words}"
            )
        return data


def wanted_by(cluster: Cluster, resource: str) -> Callable[[], list[str]]:
    """What pods that wait for a resource want to run, as :class:`gatesmith.kube.plugin.Plugin` asks for it.

    A pod says it with the annotation ``gatesmith.dev/firmware`` (a digest, or the name of a model), or KServe does with
    the address of the model.
    """

    def wanted() -> list[str]:
        try:
            pods = cluster.waiting_pods({resource})
        except ServerUnreachable as error:
            _log.warning("no preference for %s: %s", resource, error)
            return []
        return [want for pod in pods for want in _wants(pod)]

    return wanted


def labels_of(devices: list[NodeDevice]) -> dict[str, str]:
    """Labels that tell the boards and families of a node."""
    boards = sorted({device.board for device in devices})
    families = sorted({device.family for device in devices})
    return {f"{DOMAIN}/board.{name}": str(sum(device.board == name for device in devices)) for name in boards} | {
        f"{DOMAIN}/family.{name}": "true" for name in families
    }


def _wants(pod: Mapping[str, Any]) -> list[str]:
    annotations = pod["metadata"].get("annotations") or {}
    source = str(annotations.get(SOURCE, "")).partition("://")[2]
    model = source.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return [text for text in (str(annotations.get(ANNOTATION, "")), source.partition("@")[2], model) if text]


def _resources(pod: Mapping[str, Any]) -> set[str]:
    containers = pod.get("spec", {}).get("containers") or []
    return {name for one in containers for name in (one.get("resources") or {}).get("limits") or {}}
