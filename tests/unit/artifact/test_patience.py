from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from gatesmith.artifact.patience import Limits, Patience, retry_after_s
from gatesmith.errors import RegistryUnreachable

ERROR = RegistryUnreachable("away")


def test_waits_grow_and_end() -> None:
    waits: list[float] = []
    patience = Patience(Limits(tries=5, first_wait_s=1.0), pause=waits.append)
    for _ in range(4):
        patience.wait(ERROR)
    assert [0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits)] == [True] * 4
    with pytest.raises(RegistryUnreachable):
        patience.wait(ERROR)
    assert len(waits) == 4


def test_all_waits_together_stay_within_the_limit() -> None:
    waits: list[float] = []
    patience = Patience(Limits(tries=100, patience_s=60.0), pause=waits.append)
    patience.wait(ERROR, wanted_s=59.0)
    with pytest.raises(RegistryUnreachable):
        patience.wait(ERROR, wanted_s=61.0)
    with pytest.raises(RegistryUnreachable):
        patience.wait(ERROR, wanted_s=float("inf"))
    assert waits == [59.0]


def test_the_default_is_never_longer_than_a_minute() -> None:
    limits = Limits()
    assert limits.patience_s <= 60
    assert sum(limits.first_wait_s * 2**n for n in range(limits.tries)) < limits.patience_s


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), (" 17 ", 17.0), ("9" * 40, 999999999.0)])
def test_seconds(text: str, seconds: float) -> None:
    assert retry_after_s(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "1.5", "soon", "²", "Fri, 99 Zzz 9999 00:00:00 GMT", "0x10"])
def test_what_cannot_be_read_is_nothing(text: str) -> None:
    assert retry_after_s(text) is None


def test_dates() -> None:
    left = retry_after_s(formatdate(time.time() + 100, usegmt=True))
    assert left is not None
    assert 97 < left <= 100
    assert retry_after_s("Mon, 01 Jan 2001 00:00:00 GMT") == 0.0
