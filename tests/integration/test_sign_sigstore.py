"""Signatures are read by sigstore's own JavaScript verifier, and by cosign where it is installed.

The statement's digest is compared with that of the manifest's bytes as they lie in the layout folder, so nothing here
is checked against the code that signed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from firmwares import tiny_firmware
from requirements import require

from gatesmith.artifact.keys import generate_key, read_private_key
from gatesmith.artifact.sign import sign_artifact
from gatesmith.artifact.store import Store

PACKAGES = ("@sigstore/verify@3.1.1", "@sigstore/bundle@4.0.0")
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PROGRAM = """
const fs = require("fs"), crypto = require("crypto");
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity } = require("@sigstore/verify");
const pem = fs.readFileSync(process.argv[2]);
const key = crypto.createPublicKey(pem);
const hint = crypto.createHash("sha256").update(key.export({ type: "spki", format: "der" })).digest("base64");
const publicKey = (given) => {
  if (given !== hint) throw new Error("key not found: " + given);
  return { publicKey: key, validFor: () => true };
};
const trust = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [], publicKey };
const verifier = new Verifier(trust, { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 });
const answers = process.argv.slice(3).map((path) => {
  try {
    const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(path)));
    verifier.verify(toSignedEntity(bundle));
    return "OK";
  } catch (error) {
    return error.code || error.message;
  }
});
console.log(JSON.stringify(answers));
"""


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("node", "npm"):
        require(tool)
    folder = tmp_path_factory.mktemp("sigstore")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode != 0:
        said = f"npm cannot install {PACKAGES[0]}: {done.stderr[-300:]}"
        pytest.fail(said) if os.environ.get("GATESMITH_REQUIRE_TOOLS") == "1" else pytest.skip(said)
    (folder / "verify.js").write_text(PROGRAM)
    return folder


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A signed artifact's layout folder and the public key."""
    folder = tmp_path_factory.mktemp("signed")
    public = generate_key(folder / "lab.pem")
    store = Store(folder / "store")
    store.save("iris:v1", [tiny_firmware(), tiny_firmware(board="ulx3s", family="ecp5")])
    sign_artifact(store, "iris:v1", read_private_key(folder / "lab.pem"))
    return store.layout.path, public


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def bundles(layout: Path) -> list[tuple[str, Path]]:
    """Subject's digest and bundle of every signature and attestation, by the files alone."""
    found = []
    for path in sorted((layout / "blobs" / "sha256").iterdir()):
        content = path.read_bytes()
        manifest: dict[str, Any] = json.loads(content) if content.startswith(b"{") else {}
        if manifest.get("artifactType") == BUNDLE:
            found.append((manifest["subject"]["digest"], blob(layout, manifest["layers"][0]["digest"])))
    return found


def answers(verifier: Path, public: Path, paths: list[Path]) -> list[str]:
    command = ["node", "verify.js", str(public), *map(str, paths)]
    done = subprocess.run(command, cwd=verifier, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    given: list[str] = json.loads(done.stdout)
    return given


def test_sigstore_verifies_every_bundle(verifier: Path, signed: tuple[Path, Path]) -> None:
    layout, public = signed
    found = bundles(layout)
    assert len(found) == 7  # two firmwares with two claims each, and the index
    assert answers(verifier, public, [path for _, path in found]) == ["OK"] * 7
    for subject, path in found:
        statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"]))
        assert (
            statement["subject"][0]["digest"]["sha256"]
            == hashlib.sha256(blob(layout, subject).read_bytes()).hexdigest()
        )


def test_sigstore_refuses_what_was_changed_and_another_key(
    verifier: Path, signed: tuple[Path, Path], tmp_path: Path
) -> None:
    layout, public = signed
    bundle = json.loads(bundles(layout)[0][1].read_bytes())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    changed = base64.b64encode(payload.replace(b"sha256", b"sha512")).decode()
    (tmp_path / "changed").write_text(
        json.dumps(bundle | {"dsseEnvelope": bundle["dsseEnvelope"] | {"payload": changed}})
    )
    (tmp_path / "same").write_text(json.dumps(bundle))
    assert answers(verifier, public, [tmp_path / "changed", tmp_path / "same"]) == ["SIGNATURE_ERROR", "OK"]
    other = generate_key(tmp_path / "other.pem")
    assert answers(verifier, other, [tmp_path / "same"])[0].startswith("key not found")


def test_cosign_verifies_a_bundle_over_the_manifest(signed: tuple[Path, Path]) -> None:
    if shutil.which("cosign") is None:
        pytest.skip("cosign is not on PATH")
    layout, public = signed
    for subject, path in bundles(layout):
        statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"]))
        command = [
            "cosign",
            "verify-blob-attestation",
            "--key",
            str(public),
            "--bundle",
            str(path),
            "--new-bundle-format",
        ]
        command += ["--type", statement["predicateType"], "--insecure-ignore-tlog", str(blob(layout, subject))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
