"""Keys, signatures and the policy through the command line: what is not signed is loaded by no verb."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from bitfiles import xilinx
from command import both, failed, gatesmith, result
from firmwares import tiny_firmware

from gatesmith.artifact.store import Store

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Store(tmp_path / "store").save("iris:v1", [tiny_firmware(), tiny_firmware(board="ulx3s-85f", family="ecp5")])
    made = result(gatesmith("sign", "--generate", tmp_path / "lab.pem", "--json", home=tmp_path))
    assert made == {"key": str(tmp_path / "lab.pem"), "public_key": str(tmp_path / "lab.pub")}
    return tmp_path


def test_sign_and_verify(home: Path) -> None:
    line, error = both(["verify", "iris:v1", "--key", home / "lab.pub"], home=home)
    assert line == "iris:v1, firmware for icebreaker, is not signed"
    assert error["type"] == "SignatureInvalid"
    signed = result(gatesmith("sign", "iris:v1", "--key", home / "lab.pem", "--json", home=home))
    assert [one["board"] for one in signed["signed"]] == ["icebreaker", "ulx3s-85f", ""]
    verified = result(gatesmith("verify", "iris:v1", "--key", home / "lab.pub", "--json", home=home))
    assert verified == {"reference": "iris:v1", "signed": signed["signed"]}
    assert signed["digest"] == signed["signed"][-1]["digest"]


@pytest.mark.parametrize("verb", ["infer", "program", "serve"])
def test_no_verb_loads_what_the_policy_refuses(home: Path, verb: str) -> None:
    (home / "policy.toml").write_text('mode = "require"\nkeys = ["lab.pub"]')
    np.save(home / "x.npy", np.zeros((1, 4)))
    options = {"infer": ["--input", home / "x.npy"], "program": ["--device", "emulator:0"], "serve": []}
    arguments = [verb, "iris:v1", "--board", "icebreaker", *options[verb]]
    assert failed(gatesmith(*arguments, home=home)) == "iris:v1 is not signed"


def test_a_warning_is_a_line_beside_the_result(home: Path) -> None:
    (home / "policy.toml").write_text('keys = ["lab.pub"]')
    done = gatesmith("verify", "iris:v1", "--board", "icebreaker", "--level", "reference", home=home)
    assert done.stderr.splitlines()[0] == "iris:v1 is not signed"
    assert "carries no graph" in done.stderr.splitlines()[1]


@pytest.mark.parametrize(
    "arguments",
    [[], ["iris:v1"], ["--key", "k"], ["iris:v1", "--generate", "k"], ["iris:v1", "--key", "k", "--generate", "k"]],
)
def test_wrong_usage_of_sign(home: Path, arguments: list[str]) -> None:
    assert "give REF and --key to sign" in failed(gatesmith("sign", *arguments, home=home), status=2)


def test_the_contract_in_the_documentation_can_be_packed(home: Path) -> None:
    text = (DOCS / "artifact.md").read_text().split("```toml\n")[1].split("```")[0]
    lines = [line for line in text.splitlines() if not line.startswith(("platform", "[link]", "kind =", "divisor"))]
    (home / "contract.toml").write_text("\n".join(lines))
    assert tomllib.loads("\n".join(lines))["board"] == "pynq-z2"
    (home / "rtl").mkdir()
    (home / "rtl" / "top.v").write_text("module top(input clk, input rx, output tx); assign tx = rx; endmodule")
    (home / "jets.onnx").write_bytes(b"model")
    (home / "jets.bit").write_bytes(xilinx("7z020clg400"))
    options = ["--bitstream", home / "jets.bit", "--contract", home / "contract.toml", "--tag", "lab/jets:v1"]
    packed = result(gatesmith("pack", *options, "--json", home=home))
    seen = result(gatesmith("inspect", "lab/jets:v1", "--json", home=home))
    assert (packed["boards"], packed["firmwares"]) == (["pynq-z2"], [seen["firmwares"][0]["digest"]])
    config = seen["firmwares"][0]["config"]
    assert (config["verified"], config["engine"]) == ([], "hls4ml")


def test_the_policy_in_the_documentation_is_understood(home: Path) -> None:
    from gatesmith.artifact.policy import Mode, load_policy
    from gatesmith.artifact.reference import Reference

    text = (DOCS / "signing.md").read_text().split("```toml\n")[1].split("```")[0]
    (home / "documented.toml").write_text(text)
    policy = load_policy(home / "documented.toml")
    assert policy.rule(Reference.parse("registry.example/lab/jets:v3")).mode is Mode.REQUIRE
    assert policy.otherwise.mode is Mode.WARN


def test_a_tag_holds_one_model_unless_asked(home: Path) -> None:
    folder = home / "build"
    other = tiny_firmware(model_digest="sha256:" + "cd" * 32)
    Store(folder).save("iris:latest", [other])
    line, error = both(["pack", folder, "--tag", "iris:v1"], home=home)
    assert "would hold firmware of 2 models" in line
    assert len(error["models"]) == 2
    packed = result(gatesmith("pack", folder, "--tag", "iris:v1", "--replace", "--json", home=home))
    assert json.dumps(packed["boards"]) == '["icebreaker"]'
