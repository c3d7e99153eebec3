from __future__ import annotations

import pytest

from gatesmith.artifact.reference import Reference
from gatesmith.errors import ManifestInvalid

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("iris", "", "iris", "latest", ""),
        ("iris:v1", "", "iris", "v1", ""),
        ("lab/jets:v3", "", "lab/jets", "v3", ""),
        ("localhost/jets", "localhost", "jets", "latest", ""),
        ("localhost:5000/lab/jets:v3", "localhost:5000", "lab/jets", "v3", ""),
        ("registry.example/lab/jets", "registry.example", "lab/jets", "latest", ""),
        (f"iris@{DIGEST}", "", "iris", "", DIGEST),
        (f"registry.example/iris:v1@{DIGEST}", "registry.example", "iris", "v1", DIGEST),
        ("a__b/c-.d".replace("-.", "-"), "", "a__b/c-d", "latest", ""),
        ("[::1]:5000/iris:v1", "[::1]:5000", "iris", "v1", ""),
    ],
)
def test_parts(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.tag, found.digest) == (registry, repository, tag, digest)
    assert Reference.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "", ":v1", "iris:", "iris@", "Iris", "iris:v 1", "../etc/passwd", "iris/../x", "/iris", "iris/", "iris:v1:v2",
        "a___b", "iris:.v1", "iris:" + "v" * 129, "iris@sha256:0a", "iris@md5:" + "0a" * 32, f"iris@{DIGEST}\n",
        "iris\n", "a" * 256, "reg.example:port/iris", "-reg.example/iris", f"iris@{DIGEST.upper()}",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ManifestInvalid):
        Reference.parse(text)
