from typing import Any


def own_document() -> dict[str, Any]:
    return {}


def oip_document() -> dict[str, Any]:
    return {}
