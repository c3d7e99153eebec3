"""The OpenAPI documents say what the server does: requests are made from them, and every answer has to fit."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import jsonschema
import pytest
from conformance import check_document
from firmwares import ArithmeticDevice, tiny_firmware, two_port_firmware
from serving import served

from gatesmith.serve.server import Server

pytest.importorskip("schemathesis")


@pytest.fixture
def server() -> Iterator[Server]:
    models = {"iris:v1": (tiny_firmware(), ArithmeticDevice()), "two": (two_port_firmware(), ArithmeticDevice("a:1"))}
    with served(models) as running:
        yield running


@pytest.mark.parametrize("document", ["/openapi.json", "/openapi-oip.json"])
@pytest.mark.parametrize("model", ["", "iris"])
def test_answers_fit_the_documents(server: Server, document: str, model: str) -> None:
    outcome = check_document(server.url, document, examples=5, model=model, version="v1")
    assert outcome.failures == 0, outcome.text
    assert outcome.cases > 50
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


def test_a_wrong_document_is_noticed(server: Server, tmp_path: object) -> None:
    document = httpx.get(f"{server.url}/openapi-oip.json").json()
    live = document["components"]["schemas"]["Live"]
    live["properties"]["live"]["const"] = False
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(httpx.get(f"{server.url}/v2/health/live").json(), live)


def test_the_standard_document_is_part_of_our_own(server: Server) -> None:
    own, standard = (httpx.get(f"{server.url}/{name}.json").json() for name in ("openapi", "openapi-oip"))
    assert own["paths"].items() >= standard["paths"].items()
    assert own["components"]["schemas"].items() >= standard["components"]["schemas"].items()
    assert set(standard["paths"]) == {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        *(f"/v2/models/{{model_name}}{version}{action}"
          for version in ("", "/versions/{model_version}") for action in ("", "/ready", "/infer")),
    }  # fmt: skip


def test_every_route_is_documented(server: Server) -> None:
    own = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    for path, operations in own.items():
        real = path.format(model_name="iris", model_version="v1", region_name="none")
        allowed = httpx.options(f"{server.url}{real}").headers["allow"].split(", ")
        documented = {method.upper() for method in operations if method in {"get", "post"}}
        assert documented <= set(allowed), path
