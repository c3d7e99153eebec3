from __future__ import annotations

import pytest

from gatesmith.serve.rest_http import HttpError, Reply, Request, Route, Router


async def answer(_request: Request) -> Reply:
    return Reply(b"")


ROUTES = [
    Route("POST", "/v2/models/{name}/infer", answer),
    Route("POST", "/v1/models/{name}:predict", answer),
    Route("GET", "/v2/models/stats", answer),
    Route("GET", "/v2/models/{name}", answer),
    Route("DELETE", "/v2/models/{name}", answer),
    Route("GET", "/v2/models/{name}/versions/{version}", answer),
    Route("GET", "/v1/models/{name}", answer),
    Route("GET", "/", answer),
]


@pytest.fixture
def router() -> Router:
    return Router(ROUTES)


@pytest.mark.parametrize(
    ("method", "url", "path", "names"),
    [
        ("POST", "/v2/models/iris/infer", "/v2/models/{name}/infer", {"name": "iris"}),
        ("POST", "/v1/models/iris:predict", "/v1/models/{name}:predict", {"name": "iris"}),
        ("POST", "/v1/models/a:b:predict", "/v1/models/{name}:predict", {"name": "a:b"}),
        ("GET", "/v1/models/iris", "/v1/models/{name}", {"name": "iris"}),
        ("GET", "/v2/models/stats", "/v2/models/stats", {}),
        ("HEAD", "/v2/models/a%20b", "/v2/models/{name}", {"name": "a b"}),
        ("DELETE", "/v2/models/%C3%A4", "/v2/models/{name}", {"name": "ä"}),
        ("GET", "/v2/models/a/versions/sha256:1", "/v2/models/{name}/versions/{version}",
         {"name": "a", "version": "sha256:1"}),
        ("GET", "/", "/", {}),
    ],
)  # fmt: skip
def test_paths_that_are_found(router: Router, method: str, url: str, path: str, names: dict[str, str]) -> None:
    for _ in range(2):  # the second time from memory
        match = router.find(method.encode(), url.encode())
        assert (match.route.path, match.names) == (path, names)


@pytest.mark.parametrize(
    "url",
    ["", "/v3", "/v2/models", "/v2/models/", "/v2/models/a/", "/v2/models//infer", "/v1/models/", "//", "*",
     "/v2/models/a%2Fb", "/v2/models/../x/y", "/V2/models/a", "/v2/models/a/infer/x", "/" + "x" * 100_000, "/%ff"],
)  # fmt: skip
def test_paths_that_are_not(router: Router, url: str) -> None:
    with pytest.raises(HttpError, match="no such path") as caught:
        router.find(b"GET", url.encode())
    assert caught.value.status == 404
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("method", "url", "allowed"),
    [
        ("GET", "/v2/models/iris/infer", "OPTIONS, POST"),
        ("PUT", "/v2/models/iris", "DELETE, GET, HEAD, OPTIONS"),
        ("DELETE", "/v2/models/stats", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/models/iris:predict", "OPTIONS, POST"),
        ("HEAD", "/v2/models/iris/infer", "OPTIONS, POST"),
        ("NOTHING", "/", "GET, HEAD, OPTIONS"),
    ],
)
def test_wrong_methods(router: Router, method: str, url: str, allowed: str) -> None:
    for asked, status in ((method, 405), ("OPTIONS", 204)):
        with pytest.raises(HttpError) as caught:
            router.find(asked.encode(), url.encode())
        assert caught.value.status == status
        assert caught.value.headers == ((b"allow", allowed.encode()),)


def test_what_is_remembered_is_bounded(router: Router) -> None:
    for i in range(5000):
        router.find(b"GET", b"/v2/models/%d" % i)
        router.find(b"GET", b"/v2/models/" + b"x" * 300 + b"%d" % i)
    assert len(router._remembered) <= 1024
    assert all(len(url) < 300 for _, url in router._remembered)
