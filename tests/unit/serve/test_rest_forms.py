"""A request that says what an earlier one said must be read as if it were the first: a reader without memory tells."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest

from gatesmith.serve.bodies import read_body
from gatesmith.serve.rest_forms import Forms
from gatesmith.serve.rest_http import Request
from gatesmith.serve.rest_request import InferRequest, read_infer
from gatesmith.serve.shm import Regions


def tensor(name: str, size: int, **more: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size, **more}
    return {"name": name, "datatype": "FP32", "shape": [1, size // 4], "parameters": parameters}


def request(content: dict[str, Any], *numbers: float, **headers: str) -> Request:
    head = json.dumps(content).encode()
    named = {b"inference-header-content-length": b"%d" % len(head)}
    named |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request("POST", {"name": "m"}, named, head + struct.pack(f"<{len(numbers)}f", *numbers))


def fresh(one: Request) -> InferRequest:
    return read_infer(asyncio.run(read_body(one, 1 << 20)), Regions())


def kept(forms: Forms, one: Request) -> bool:
    forms.keep(one, fresh(one))
    return forms.find(one) is not None


PLAIN = {"inputs": [tensor("x", 8)]}
TWO = {"inputs": [tensor("x", 8), tensor("y", 4), tensor("nothing", 0)]}


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        TWO,
        {**TWO, "parameters": {"binary_data_output": True, "priority": 1, "timeout": 5000}},
        {**TWO, "outputs": [{"name": "p", "parameters": {"binary_data": True}}, {"name": "q"}]},
        {**PLAIN, "outputs": [{"name": "p", "parameters": {"classification": 2}}]},
    ],
)
def test_a_request_is_read_as_if_it_were_the_first(content: dict[str, Any]) -> None:
    forms, count = Forms(), 2 if len(content["inputs"]) == 1 else 3
    first, second = request(content, *range(count)), request(content, *range(7, 7 + count))
    assert forms.find(first) is None
    forms.keep(first, fresh(first))
    assert forms.find(second) == fresh(second)
    assert forms.find(second) != fresh(first)
    assert forms.find(first) == fresh(first)


def test_data_of_another_size_are_read_anew() -> None:
    forms = Forms()
    assert kept(forms, request(PLAIN, 1, 2))
    for numbers in [(), (1,), (1, 2, 3)]:
        assert forms.find(request(PLAIN, *numbers)) is None
    assert forms.find(request(TWO, 1, 2, 3)) is None


def test_what_is_a_request_s_own_is_not_remembered() -> None:
    forms = Forms()
    assert not kept(forms, request({**PLAIN, "id": "seven"}, 1, 2))
    assert not kept(forms, request({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}))
    assert not kept(forms, request({**PLAIN, "parameters": {"note": "x" * 1024}}, 1, 2))
    unzipped = request(PLAIN, 1, 2)
    packed = request(PLAIN, 1, 2, content_encoding="gzip")
    forms.keep(packed, fresh(unzipped))
    assert forms.find(packed) is None
    assert forms.find(unzipped) is None


def test_shared_memory_is_looked_up_each_time() -> None:
    forms, one = Forms(), request(PLAIN, 1, 2)
    asked = fresh(one)
    elsewhere = asked.inputs[0]._replace(data=memoryview(b"12345678"))
    forms.keep(one, asked._replace(inputs=[elsewhere, elsewhere]))
    assert forms.find(one) is None


def test_memory_has_a_bound() -> None:
    forms = Forms()
    requests = [request({"inputs": [tensor(f"x{i}", 8)]}, 1, 2) for i in range(600)]
    assert all(kept(forms, one) for one in requests)
    assert sum(forms.find(one) is not None for one in requests) <= 256
    assert forms.find(requests[-1]) is not None
