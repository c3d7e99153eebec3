"""The storage initializer as KServe calls it: a process with ``uri folder``, its exit status and its last words."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Done, gatesmith, result
from firmwares import tiny_firmware
from ports import free_port
from registries import HTPASSWD, RealRegistry, real_registry

from gatesmith.artifact.store import Store
from gatesmith.errors import ManifestInvalid
from gatesmith.kube import initializer
from gatesmith.kube.initializer import parse_pairs, say_end


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, Path]]:
    """A registry with ``lab/jets:v1`` for two boards, signed, and the folder with the key pair."""
    folder = tmp_path_factory.mktemp("lab")
    with real_registry(folder / "registry") as registry:
        home = folder / "home"
        Store(home / "store").save("jets:v1", [tiny_firmware(board=board) for board in ("icebreaker", "upduino-v3")])
        result(gatesmith("sign", "--generate", folder / "lab.key", "--json", home=home))
        result(gatesmith("sign", "jets:v1", "--key", folder / "lab.key", "--json", home=home))
        target = f"{registry.address}/lab/jets:v1"
        result(gatesmith("push", "jets:v1", target, "--plain-http", "--json", home=home))
        yield registry, folder


def initialize(*arguments: object, home: Path, **popen: Any) -> Done:
    return gatesmith("kube", "initialize", "--plain-http", *arguments, home=home, **popen)


def test_the_files_are_there_and_whole(lab: tuple[RealRegistry, Path], tmp_path: Path) -> None:
    registry, _ = lab
    models = tmp_path / "models"
    done = initialize("--board", "icebreaker", f"fpga://{registry.address}/lab/jets:v1", models, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "bytes" in done.stderr, "it tells its progress"
    assert "firmware for icebreaker" in done.stderr
    firmware = Store(models).load(f"{registry.address}/lab/jets:v1", board="icebreaker")
    assert firmware.bitstream == tiny_firmware(board="icebreaker").bitstream


def test_several_at_once_and_a_digest(lab: tuple[RealRegistry, Path], tmp_path: Path) -> None:
    registry, _ = lab
    home, name = tmp_path / "home", f"fpga://{registry.address}/lab/jets"
    done = initialize("--json", f"{name}:v1", tmp_path / "a", f"{name}:v1", tmp_path / "b", home=home)
    first, second = json.loads(done.stdout)
    assert first == second
    again = initialize("--json", f"{name}@{first['digest']}", tmp_path / "c", home=home)
    assert json.loads(again.stdout)[0]["digest"] == first["digest"]


def test_no_firmware_for_this_node(lab: tuple[RealRegistry, Path], tmp_path: Path) -> None:
    registry, _ = lab
    uri = f"fpga://{registry.address}/lab/jets:v1"
    done = initialize("--board", "ulx3s-85f", "--board", "ulx3s-12f", uri, tmp_path / "m", home=tmp_path / "home")
    assert last_line(done) == (
        f"error: {uri.removeprefix('fpga://')} has firmware for icebreaker, upduino-v3, this node has ulx3s-85f, "
        "ulx3s-12f; build it for one of these"
    )
    accepted = initialize("--board", "ulx3s-85f", "--model-alone", uri, tmp_path / "m", home=tmp_path / "home")
    assert accepted.returncode == 0


def test_a_registry_that_cannot_be_reached(tmp_path: Path) -> None:
    done = initialize(f"fpga://127.0.0.1:{free_port()}/lab/jets:v1", tmp_path / "m", home=tmp_path / "home")
    assert "Connection refused" in last_line(done)


def test_a_name_that_is_not_there_and_a_password_that_is_needed(lab: tuple[RealRegistry, Path], tmp_path: Path) -> None:
    registry, _ = lab
    done = initialize(f"fpga://{registry.address}/lab/absent:v1", tmp_path / "m", home=tmp_path / "home")
    assert "absent" in last_line(done)
    with real_registry(tmp_path / "closed", htpasswd=HTPASSWD) as closed:
        done = initialize(f"fpga://{closed.address}/lab/jets:v1", tmp_path / "m", home=tmp_path / "home")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_a_signature_that_is_missing_or_wrong(lab: tuple[RealRegistry, Path], tmp_path: Path) -> None:
    registry, folder = lab
    uri, home = f"fpga://{registry.address}/lab/jets:v1", tmp_path / "home"
    home.mkdir()
    result(gatesmith("sign", "--generate", tmp_path / "other.key", "--json", home=home))
    policy = 'mode = "require"\nkeys = ["{}"]\n'
    (home / "policy.toml").write_text(policy.format(folder / "lab.pub"))
    good = initialize(uri, tmp_path / "good", home=home)
    assert good.returncode == 0, good.stderr
    (home / "policy.toml").write_text(policy.format(tmp_path / "other.pub"))
    bad = initialize(uri, tmp_path / "bad", home=home)
    assert "not signed by a trusted key" in last_line(bad)


def test_a_full_disk(lab: tuple[RealRegistry, Path], tmp_path: Path) -> None:
    registry, _ = lab
    uri = f"fpga://{registry.address}/lab/jets:v1"
    limit = 3000  # no file may become larger: what a full disk looks like to a program
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))}
    done = initialize(uri, tmp_path / "m", home=tmp_path / "home", **full)
    assert "cannot be written" in last_line(done)
    assert not [path for path in (tmp_path / "m").rglob("*") if path.name.startswith(".")], (
        "nothing half-written is left"
    )
    again = initialize(uri, tmp_path / "m", home=tmp_path / "home")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["fpga://r.example/jets:v1"], "1 arguments were given, pairs of an address and a folder are needed"),
        (["s3://bucket/jets", "/mnt/models"], "address 's3://bucket/jets' does not begin with fpga://"),
        (["fpga://jets:v1", "/mnt/models"], "names no registry"),
        (["fpga://r.example/Jets:v1", "/mnt/models"], "address 'fpga://r.example/Jets:v1': repository 'Jets'"),
        (["fpga://r.example/../../etc:v1", "/mnt/models"], "is not valid"),
    ],
)
def test_wrong_addresses(pairs: list[str], words: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        parse_pairs(pairs)
    assert words in str(caught.value)


def test_last_words_for_kubernetes(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    say_end("nobody reads this", log)
    assert not log.exists()
    log.touch()
    say_end("error: " + "x" * 9000, log)
    assert len(log.read_bytes()) == initializer.MAX_MESSAGE_BYTES


def last_line(done: Done) -> str:
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]
