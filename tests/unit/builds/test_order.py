"""Orders: what makes two of them the same build, and what is refused."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatesmith.aim import TOLERANCE, Aim
from gatesmith.builds.order import Order
from gatesmith.errors import BoardNotFound, BuildError

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ORDER = Order(model=A, model_file="iris.skops", name="iris", board="icebreaker")
AUTO = replace(ORDER, precision="auto")


def test_the_same_thing_has_the_same_digest_whatever_its_file_is_called() -> None:
    assert replace(ORDER, model_file="copy-of-iris.skops").digest == ORDER.digest
    assert Order.from_json(ORDER.to_json()) == ORDER


@pytest.mark.parametrize(
    "change",
    [
        {"model": B},
        {"board": "ulx3s-85f"},
        {"calibration": B, "calibration_file": "x.npy"},
        {"precision": 6},
        {"clock_hz": 1},
        {"seed": 2},
        {"name": "other"},
        {"engine": "unrolled"},
        {"precision": "auto"},
        {"precision": "exact"},
    ],
)
def test_everything_that_changes_the_firmware_changes_the_digest(change: dict[str, Any]) -> None:
    assert replace(ORDER, **change).digest != ORDER.digest


@pytest.mark.parametrize(
    "change",
    [{"tolerance": 1.0}, {"max_error": 0.5}, {"prune": True}, {"labels": B, "labels_file": "y.npy"}],
)
def test_everything_that_changes_a_search_changes_the_digest(change: dict[str, Any]) -> None:
    order = replace(AUTO, **change)
    assert order.digest != AUTO.digest
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"tolerance": TOLERANCE}),
        ({"tolerance": 1}, {"tolerance": 1.0}),
        ({"tolerance": 0.0}, {"tolerance": -0.0}),
        ({"max_error": 2}, {"max_error": 2.0}),
        ({"labels": B, "labels_file": "y.npy"}, {"labels": B, "labels_file": "labels.npy"}),
    ],
)
def test_searches_that_mean_the_same_are_one_build(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert replace(AUTO, **one).digest == replace(AUTO, **other).digest


def test_an_order_becomes_its_aim() -> None:
    order = replace(AUTO, tolerance=2.0, max_error=0.5, prune=True, labels=B, labels_file="y.npy")
    place = Path("job/labels/y.npy")
    assert order.aim(place) == Aim(precision="auto", tolerance=2.0, max_error=0.5, labels=place, prune=True)
    assert order.files == (A, B)
    assert replace(ORDER, calibration=A, calibration_file="x.npy").files == (A,), "one file twice is one file"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "sha256:xyz"}, "order: model is 'sha256:xyz'"),
        ({"model_file": "../../etc/passwd"}, "order: model_file is '../../etc/passwd'"),
        ({"model_file": ".hidden"}, "order: model_file is '.hidden'"),
        ({"name": "a/b"}, "order: name is 'a/b'"),
        ({"precision": 17}, "precision 17 bits, 2 to 16 are possible"),
        ({"precision": True}, "order: precision is of kind bool, int or str is needed"),
        ({"precision": 8.0}, "order: precision is of kind float, int or str is needed"),
        ({"precision": "8"}, "precision '8' is not possible; it is a number of bits, auto or exact"),
        ({"precision": "AUTO"}, "precision 'AUTO' is not possible"),
        ({"precision": "auto" * 9000}, "precision 'autoautoautoautoautoautoautoautoautoaut... is not possible"),
        ({"precision": 10**4000}, "precision 1000000000000000000000000000000000000000... bits"),
        ({"tolerance": 1.0}, "tolerance is of precision 'auto' alone, and precision is 8"),
        ({"precision": "exact", "prune": True}, "prune is of precision 'auto' alone, and precision is exact"),
        ({"labels": B, "labels_file": "y.npy"}, "labels is of precision 'auto' alone"),
        ({"precision": "auto", "labels": B}, "order: labels_file is ''"),
        ({"precision": "auto", "labels_file": "y.npy"}, "order: labels is ''"),
        ({"precision": "auto", "labels": B, "labels_file": "../y.npy"}, "order: labels_file is '../y.npy'"),
        ({"precision": "auto", "tolerance": math.nan}, "tolerance is nan points, 0 to 50 are possible"),
        ({"precision": "auto", "tolerance": -1}, "tolerance is -1 points"),
        ({"precision": "auto", "tolerance": True}, "order: tolerance is of kind bool, float or None is needed"),
        ({"precision": "auto", "tolerance": "1"}, "order: tolerance is of kind str"),
        ({"precision": "auto", "max_error": math.inf}, "max error is inf, 1e-30 to 1e+30 are possible"),
        ({"precision": "auto", "max_error": 1e300}, "max error is 1e+300"),
        ({"precision": "auto", "max_error": 10**4000}, "max error is 1000000000000000000000000000000000000000..."),
        ({"precision": "auto", "max_error": 0}, "max error is 0,"),
        ({"precision": "auto", "prune": 1}, "order: prune is of kind int, bool is needed"),
        ({"engine": "magic"}, "engine 'magic' does not exist"),
        ({"seed": 0}, "order: seed is 0"),
        ({"calibration": A}, "order: calibration_file is ''"),
        ({"trust_pickle": True}, "an order has no field 'trust_pickle'"),
    ],
)
def test_what_comes_from_anyone_is_checked(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=re.escape(words)) as caught:
        Order.from_json(ORDER.to_json() | change)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_a_missing_field_and_a_missing_board() -> None:
    data = ORDER.to_json()
    del data["board"]
    with pytest.raises(BuildError, match="an order needs 'board'"):
        Order.from_json(data)
    with pytest.raises(BoardNotFound):
        Order.from_json(ORDER.to_json() | {"board": "icebraker"})
