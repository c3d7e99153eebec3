from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatesmith import errors
from gatesmith.serve.errors import STATUS, grpc_code, http_status, retry_after_s


def leaves(kind: type[errors.GatesmithError]) -> Iterator[type[errors.GatesmithError]]:
    below = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    if not below:
        yield kind
    for sub in below:
        yield from leaves(sub)


LEAVES = sorted(leaves(errors.GatesmithError), key=lambda kind: kind.__name__)


def made(kind: type[errors.GatesmithError]) -> errors.GatesmithError:
    return kind("name", "hint") if kind is errors.NotInstalled else kind("message")


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_every_leaf_has_a_status_by_its_class_or_family(kind: type[errors.GatesmithError]) -> None:
    assert any(base in STATUS for base in kind.__mro__)
    status = http_status(made(kind))
    # What may work when tried again is never the client's mistake; what the client must change always is.
    if kind.retryable:
        assert status in {429, 502, 503, 504}
    elif issubclass(kind, errors.InferenceError):
        assert 400 <= status < 500


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_both_protocols_say_the_same(kind: type[errors.GatesmithError]) -> None:
    status, code = http_status(made(kind)), grpc_code(made(kind))
    # Ref: gRPC "http-grpc-status-mapping.md", read from code to status; several codes share a status and the reverse
    possible = {
        400: {"INVALID_ARGUMENT"},
        401: {"UNAUTHENTICATED"},
        403: {"PERMISSION_DENIED"},
        404: {"NOT_FOUND"},
        429: {"RESOURCE_EXHAUSTED"},
        500: {"INTERNAL"},
        502: {"UNAVAILABLE"},
        503: {"UNAVAILABLE", "RESOURCE_EXHAUSTED"},
        504: {"UNAVAILABLE", "DEADLINE_EXCEEDED"},
    }
    assert code in possible[status]


def test_an_error_without_family_is_the_servers() -> None:
    error = errors.GatesmithError("message")
    assert (http_status(error), grpc_code(error)) == (500, "INTERNAL")


@pytest.mark.parametrize(("fact", "seconds"), [(None, 1), (0.2, 1), (3, 3), (3.1, 4), ("soon", 1), (float("inf"), 1)])
def test_when_to_try_again(fact: errors.Fact, seconds: int) -> None:
    assert retry_after_s(errors.ModelNotReady("message", retry_after_s=fact)) == seconds


def test_all_leaves_were_found() -> None:
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in LEAVES)
    assert len(LEAVES) > 25
