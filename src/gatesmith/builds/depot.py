"""Where finished firmware is looked for and kept: the store of this machine, then a registry that sites share.

A firmware has two names in both: ``<model>:<first digits of its plan>`` for people, and ``plans:<plan digest>``, the
index by which any build service that reaches the registry finds what another one built. What comes from the registry
passes the signature policy of this machine like any other artifact, or it counts as not there.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gatesmith.artifact.connection import Access
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.manifest import firmware_digest
from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import pull_artifact, push_artifact
from gatesmith.artifact.store import Store
from gatesmith.artifact.transfer import transfer
from gatesmith.builds.job import BUILT, pack_layout
from gatesmith.builds.order import Order
from gatesmith.errors import ArtifactError, ArtifactNotFound
from gatesmith.firmware import Firmware
from gatesmith.flow import Build

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["PLANS", "Depot", "plan_reference"]

PLANS = "plans"
"""Repository of the index of plan digests, beside those of the models."""

SHOWN_DIGITS = 12
_log = logging.getLogger(__name__)


def plan_reference(namespace: str, order: Order) -> Reference:
    """The name under which a finished firmware is found by whoever has the same order."""
    prefix = f"{namespace}/" if namespace else ""
    return Reference.parse(f"{prefix}{PLANS}:{order.digest.removeprefix('sha256:')}")


@dataclass(frozen=True, kw_only=True)
class Depot:
    """Finished firmware.

    Parameters
    ----------
    registry : str
        Registry and namespace, ``registry.example/lab``; nothing is looked for or pushed without one.
    key : private key, optional
        Signs what was built here, before it is pushed.
    """

    store: Store
    registry: str = ""
    access: Access = field(default_factory=Access)
    key: EllipticCurvePrivateKey | None = None

    def find(self, order: Order) -> dict[str, Any] | None:
        """A finished firmware for an order, as the result of a build; None when there is none that can be trusted.

        An unreachable registry is told in the log: it must not keep anybody from building.
        """
        here = self._loaded(plan_reference("", order), order)
        if here is not None:
            return self._result(order, here, "store")
        if not self.registry:
            return None
        there = plan_reference(self.registry, order)
        try:
            pull_artifact(self.store.layout, there, self.access)
        except ArtifactNotFound:
            return None
        except ArtifactError as error:
            _log.warning("%s was not looked for: %s", there, error)
            return None
        firmware = self._loaded(there, order)
        return None if firmware is None else self._result(order, firmware, "registry")

    def keep(self, order: Order, built: Path) -> dict[str, Any]:
        """Take a build's layout into the store, and sign it; what it holds must be for the order."""
        firmware = Store(built, policy=UNCHECKED).load(BUILT, board=order.board, with_model=True)
        own = plan_reference("", order)
        for name in (self._shown("", order), own):
            self.store.save(str(name), [firmware], merge=False)
        if self.key is not None:
            from gatesmith.artifact.sign import sign_artifact

            sign_artifact(self.store, str(own), self.key)
        return self._result(order, firmware, "built")

    def push(self, order: Order) -> str:
        """Put a kept firmware into the registry, under both names.

        Returns
        -------
        str
            Its reference there, with the digest; empty without a registry.

        Raises
        ------
        RegistryUnreachable, RegistryRefused, AuthenticationFailed
        """
        if not self.registry:
            return ""
        source = plan_reference("", order)
        name = self._shown(self.registry, order)
        moved = push_artifact(self.store.layout, source, name, self.access)
        push_artifact(self.store.layout, source, plan_reference(self.registry, order), self.access)
        return f"{name}@{moved.digest}"

    def packed(self, order: Order) -> bytes:
        """A kept firmware with its signatures, as a tar of an OCI layout.

        Raises
        ------
        ArtifactNotFound
        """
        source = self.store.layout
        with TemporaryDirectory() as folder, source.session():
            place = next((p for p in self._places(order) if self._holds(p)), self._places(order)[0])
            top, target = source.resolve(place), Layout(Path(folder))
            with target.session(writing=True):
                done = transfer(source, target, top)
                target.update(self._shown("", order), lambda _: top, attached=done.attached)
            return pack_layout(Path(folder))

    def _places(self, order: Order) -> list[Reference]:
        places = [plan_reference("", order)]
        return [*places, plan_reference(self.registry, order)] if self.registry else places

    def _holds(self, reference: Reference) -> bool:
        with suppress(ArtifactNotFound):
            return bool(self.store.layout.resolve(reference))
        return False

    def _loaded(self, reference: Reference, order: Order) -> Firmware | None:
        try:
            firmware = self.store.load(str(reference), board=order.board)
        except ArtifactNotFound:
            return None
        except ArtifactError as error:
            _log.warning("%s is not used: %s", reference, error)
            return None
        if firmware.board != order.board or firmware.model_digest != order.model:
            _log.warning("%s holds firmware of another model or board, it is not used", reference)
            return None
        return firmware

    def _shown(self, namespace: str, order: Order) -> Reference:
        prefix = f"{namespace}/" if namespace else ""
        digits = order.digest.removeprefix("sha256:")[:SHOWN_DIGITS]
        return Reference.parse(f"{prefix}{order.name}:{digits}")

    def _result(self, order: Order, firmware: Firmware, origin: str) -> dict[str, Any]:
        reference = self._shown(self.registry, order) if origin == "registry" else self._shown("", order)
        return {
            "reference": str(reference),
            "digest": firmware_digest(firmware),
            "origin": origin,
            **Build(firmware=firmware, cached=origin != "built", seconds={}).to_json(),
        }
