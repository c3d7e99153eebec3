from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatesmith import errors
from gatesmith.serve.errors import STATUS, http_status


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
        assert status in {502, 503, 504}
    elif issubclass(kind, errors.InferenceError):
        assert 400 <= status < 500


def test_an_error_without_family_is_the_servers() -> None:
    assert http_status(errors.GatesmithError("message")) == 500


def test_all_leaves_were_found() -> None:
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in LEAVES)
    assert len(LEAVES) > 25
