"""What a user gets wrong ends in one line with the culprit in it, and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from command import both, failed, gatesmith, result
from models import small_mlp, trained
from onnx_files import save_mlp
from rtl_store import save_rtl

CALIBRATION = np.random.default_rng(1).normal(size=(50, 2))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad files."""
    folder = tmp_path_factory.mktemp("files")
    good = save_mlp(folder / "good.onnx").read_bytes()
    save_mlp(folder / "erf.onnx", activation="Erf")
    save_mlp(folder / "nan.onnx", not_a_number=True)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "cut.onnx").write_bytes(good[: len(good) // 2])
    (folder / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(500))
    (folder / "iris.pkl").write_bytes(pickle.dumps(trained("iris").estimator))
    np.save(folder / "cal.npy", CALIBRATION)
    np.save(folder / "nan.npy", np.where(np.arange(50)[:, None] == 7, np.nan, CALIBRATION))
    np.save(folder / "wide.npy", np.zeros((5, 3)))
    np.save(folder / "none.npy", np.zeros((0, 2)))
    np.save(folder / "words.npy", np.array([["a", "b"]]))
    (folder / "ragged.csv").write_text("1,2\n3\n", encoding="utf-8")
    (folder / "a.txt").write_text("1 2\n", encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def untouched(home: Path) -> bool:
    """Whether neither an artifact nor a cache entry was written."""
    return not [path for path in home.rglob("*") if path.is_file() and path.name not in {"content.lock"}]


BAD_BUILDS = {
    "unsupported operator": ("erf.onnx --calibration cal.npy", "UnsupportedOperation", ["'act'", "Erf"]),
    "no such model": ("gone.onnx --calibration cal.npy", "ModelUnreadable", ["'gone.onnx'", "does not exist"]),
    "a folder": (". --calibration cal.npy", "ModelUnreadable", ["folder"]),
    "empty model": ("empty.onnx --calibration cal.npy", "ModelUnreadable", ["'empty.onnx'", "0 bytes"]),
    "cut model": ("cut.onnx --calibration cal.npy", "ModelUnreadable", ["'cut.onnx'"]),
    "noise": ("noise.onnx --calibration cal.npy", "ModelUnreadable", ["'noise.onnx'"]),
    "text": ("a.txt --calibration cal.npy", "ModelUnreadable", ["'a.txt'"]),
    "pickle": ("iris.pkl --calibration cal.npy", "ModelUnreadable", ["'iris.pkl'", "--trust-pickle"]),
    "weight that is no number": ("nan.onnx --calibration cal.npy", "ModelError", ["'first'", "weight[1, 0] is nan"]),
    "no calibration": ("good.onnx", "CalibrationNeeded", ["x: [2]", "--calibration"]),
    "calibration not there": ("good.onnx --calibration gone.npy", "CalibrationNeeded", ["'gone.npy'"]),
    "calibration with NaN": ("good.onnx --calibration nan.npy", "CalibrationNeeded", ["row 7", "not finite"]),
    "calibration too wide": ("good.onnx --calibration wide.npy", "CalibrationNeeded", ["[5, 3]", "2"]),
    "calibration without samples": ("good.onnx --calibration none.npy", "CalibrationNeeded", ["no sample"]),
    "calibration of words": ("good.onnx --calibration words.npy", "CalibrationNeeded", ["numbers"]),
    "ragged calibration": ("good.onnx --calibration ragged.csv", "CalibrationNeeded", ["row 2 has 1 column"]),
    "calibration of another kind": ("good.onnx --calibration a.txt", "CalibrationNeeded", ["'a.txt'", ".npz"]),
    "precision 1": ("good.onnx --calibration cal.npy --precision 1", None, ["precision 1 ", "2 to 16"]),
    "precision 99": ("good.onnx --calibration cal.npy --precision 99", None, ["precision 99 ", "2 to 16"]),
    "unknown engine": ("good.onnx --calibration cal.npy --engine warp", "BuildError", ["'warp'", "unrolled"]),
    "clock 0": ("good.onnx --calibration cal.npy --clock-mhz 0", "BuildError", ["--clock-mhz is 0"]),
    "negative clock": ("good.onnx --calibration cal.npy --clock-mhz -5", "BuildError", ["--clock-mhz is -5"]),
    "clock nan": ("good.onnx --calibration cal.npy --clock-mhz nan", "BuildError", ["--clock-mhz is nan"]),
    "clock 1e9": ("good.onnx --calibration cal.npy --clock-mhz 1e9", "BuildError", ["--clock-mhz is 1e+09"]),
    "clock that no PLL makes": ("good.onnx --calibration cal.npy --clock-mhz 13", "BuildError", ["13000000 Hz"]),
    "bad tag": ("good.onnx --calibration cal.npy --tag Bad:v1", "ManifestInvalid", ["'Bad'"]),
    "empty tag": ("good.onnx --calibration cal.npy --tag a:", "ManifestInvalid", ["'a:'"]),
    "tag by digest": (f"good.onnx --calibration cal.npy --tag a@sha256:{'0' * 64}", "ManifestInvalid", ["digest"]),
    "folder with other things": ("good.onnx --calibration cal.npy --out .", "StoreWriteFailed", ["a.txt"]),
    "folder below a file": ("good.onnx --calibration cal.npy --out a.txt/x", "StoreWriteFailed", ["a.txt' is a file"]),
}


@pytest.mark.parametrize("case", BAD_BUILDS)
def test_build_refuses(case: str, files: Path, home: Path) -> None:
    arguments, kind, words = BAD_BUILDS[case]
    before = sorted(path.name for path in files.iterdir())
    line, error = both(["build", *arguments.split(), "--board", "icebreaker"], cwd=files, home=home)
    assert all(word in line for word in words), line
    assert kind is None or error["type"] == kind
    assert untouched(home)
    assert sorted(path.name for path in files.iterdir()) == before


def test_boards_that_are_near_are_named(files: Path, home: Path) -> None:
    line, error = both(["build", files / "good.onnx", "--board", "icebraker"], home=home)
    assert "'icebraker'; did you mean icebreaker?" in line
    assert error["near"] == ["icebreaker"]


def test_a_family_without_other_clocks_says_so(files: Path, home: Path) -> None:
    line, _ = both(
        ["build", "good.onnx", "--calibration", "cal.npy", "--board", "tangnano9k", "--clock-mhz", "30"],
        cwd=files,
        home=home,
    )
    assert "27000000 Hz" in line
    assert "30000000 Hz" in line


WRONG_USAGE = {
    "no verb of that name": (["weld"], "No such command 'weld'"),
    "no model": (["build"], "Missing argument 'model'"),
    "no board": (["build", "m.onnx"], "Missing option '--board'"),
    "unknown option": (["boards", "--loud"], "No such option: --loud"),
    "no number": (["build", "m.onnx", "--board", "b", "--precision", "x"], "--precision"),
    "model like an option": (["build", "-m.onnx", "--board", "b"], "No such option: -m"),
    "too many": (["list", "x"], "unexpected extra argument"),
    "no samples": (["verify", "m", "--samples", "0"], "--samples"),
    "seed": (["build", "m.onnx", "--board", "b", "--seed", "-1"], "--seed"),
}


@pytest.mark.parametrize("case", WRONG_USAGE)
def test_wrong_usage_is_one_line_and_2(case: str) -> None:
    arguments, words = WRONG_USAGE[case]
    line, error = both(arguments, status=2)
    assert words in line
    assert "--help'" in line
    assert error["type"] == "UsageError"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose store holds ``mlp:v1`` for two boards."""
    home = tmp_path_factory.mktemp("store-home")
    save_rtl(home / "store", "mlp:v1", small_mlp(), boards=("icebreaker", "ulx3s-85f"))
    return home


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    np.save(folder / "good.npy", np.zeros((2, 3)))
    np.save(folder / "wide.npy", np.zeros((2, 4)))
    np.save(folder / "nan.npy", np.full((2, 3), np.nan))
    np.savez(folder / "named.npz", a=np.zeros((2, 3)), b=np.zeros((2, 3)))
    return folder


ONE = "--board icebreaker"
BAD_RUNS = {
    "unknown reference": ("infer gone:v1 --input good.npy", "ArtifactNotFound", ["gone:v1", "mlp:v1"]),
    "several boards": ("infer mlp:v1 --input good.npy", "ArtifactNotFound", ["icebreaker, ulx3s-85f", "--board"]),
    "not that board to serve": ("serve mlp:v1 --board ulx3s-12f --http-port 0", "ArtifactNotFound", ["ulx3s-12f"]),
    "several boards to program": ("program mlp:v1 --device emulator:0", "ArtifactNotFound", ["--board"]),
    "not that board": ("infer mlp:v1 --board x --input good.npy", "ArtifactNotFound", ["x", "icebreaker, ulx3s-85f"]),
    "wrong width": (f"infer mlp:v1 {ONE} --input wide.npy", "TensorMismatch", ["[2, 4]", "[-1, 3]"]),
    "NaN": (f"infer mlp:v1 {ONE} --input nan.npy", "TensorMismatch", ["'x'", "not finite"]),
    "no file": (f"infer mlp:v1 {ONE} --input gone.npy", "TensorMismatch", ["'gone.npy'"]),
    "other names": (f"infer mlp:v1 {ONE} --input named.npz", "TensorMismatch", ["'x'", "['a', 'b']"]),
    "unknown kind of device": (f"infer mlp:v1 {ONE} --input good.npy --device tty:0", "DeviceNotFound", ["'tty'"]),
    "no such port": (f"program mlp:v1 {ONE} --device serial:/dev/ttyNONE", "DeviceNotFound", ["/dev/ttyNONE"]),
    "two models, one device": ("serve mlp:v1 mlp:v1 --device emulator:0", "DeviceNotFound", ["2 models", "1 device"]),
    "port": (f"serve mlp:v1 {ONE} --http-port 99999", "ServerNotStarted", ["99999"]),
    "address": (f"serve mlp:v1 {ONE} --host 192.0.2.1 --http-port 0", "ServerNotStarted", ["192.0.2.1"]),
    "unknown level": (f"verify mlp:v1 {ONE} --level hope", "BuildError", ["'hope'", "rtl"]),
    "nothing to inspect": ("inspect gone", "ArtifactNotFound", ["gone:latest"]),
    "nothing to remove": ("remove gone", "ArtifactNotFound", ["gone:latest"]),
    "no folder to pack": ("pack ./gone --tag x:v1", "ArtifactNotFound", ["'gone'"]),
    "folder without artifact": ("pack . --tag x:v1", "ArtifactNotFound", ["no artifact", "--out"]),
    "bad tag to pack": ("pack . --tag X", "ManifestInvalid", ["'X'"]),
    "not a reference": ("inspect http://x", "ManifestInvalid", ["not valid"]),
    "nobody listens": (
        "infer http://127.0.0.1:9/v2/models/mlp --input good.npy",
        "ServerUnreachable",
        ["127.0.0.1:9", "refused"],
    ),
    "no host": ("infer http:// --input good.npy", "InferenceError", ["http:", "/v2/models/NAME"]),
    "no model in the URL": ("infer http://127.0.0.1:9 --input good.npy", "InferenceError", ["/v2/models/NAME"]),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_run_side_refuses(case: str, store: Path, samples: Path) -> None:
    arguments, kind, words = BAD_RUNS[case]
    line, error = both(arguments.split(), cwd=samples, home=store)
    assert all(word in line for word in words), line
    assert error["type"] == kind
    assert [one["reference"] for one in result(gatesmith("list", "--json", home=store))] == ["mlp:v1"]


def test_port_in_use(store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line, error = both(["serve", "mlp:v1", "--board", "icebreaker", "--http-port", port], home=store)
    assert f"127.0.0.1:{port}" in line
    assert error["port"] == port


class _Stranger(BaseHTTPRequestHandler):
    """A server of another kind: whatever is asked, it answers 200 and an empty object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_of_another_kind(samples: Path, home: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        line, error = both(["infer", f"{url}/v2/models/mlp", "--input", samples / "good.npy"], home=home)
        server.shutdown()
    assert f"{url} does not answer as the protocol says" in line
    assert "check the URL" in line
    assert error["type"] == "ServerUnreachable"


def test_damaged_content_is_told_with_its_digest(samples: Path, tmp_path: Path) -> None:
    save_rtl(tmp_path / "store", "mlp:v1", small_mlp(), boards=("icebreaker",))
    largest = max((tmp_path / "store" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[100] ^= 1
    largest.write_bytes(content)
    line, error = both(["infer", "mlp:v1", "--input", samples / "good.npy"], home=tmp_path)
    assert largest.name in line
    assert error["type"] == "DigestMismatch"


@pytest.mark.parametrize("arguments", ["build good.onnx --calibration cal.npy --board icebreaker --tag a:v1", "demo"])
def test_a_home_that_cannot_be_written(arguments: str, files: Path) -> None:
    line, error = both(arguments.split(), cwd=files, home=files / "a.txt" / "home")
    assert "a.txt' is a file" in line
    assert error["type"] == "StoreWriteFailed"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_home_that_may_not_be_written(files: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    line, _ = both(["build", "good.onnx", "--calibration", "cal.npy", "--board", "icebreaker"], cwd=files, home=closed)
    assert f"no permission in {str(closed)!r}" in line


def test_missing_compiler_is_told_before_the_work(files: Path, home: Path, tmp_path: Path) -> None:
    line, error = both(
        ["build", "good.onnx", "--calibration", "cal.npy", "--board", "icebreaker"],
        cwd=files,
        home=home,
        env={"PATH": str(tmp_path)},
    )
    assert "g++ is not installed" in line
    assert "apt-get install g++" in line
    assert error["tool"] == "g++"
    assert untouched(home)


def test_a_bug_keeps_its_traceback(files: Path, tmp_path: Path) -> None:
    """The witness that the other tests would see one: a planted fault is not turned into a line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import gatesmith.boards\n"
        "def broken():\n    raise ZeroDivisionError('planted')\n"
        "gatesmith.boards.all_boards = broken\n",
        encoding="utf-8",
    )
    done = gatesmith("boards", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: planted"
    with pytest.raises(AssertionError):
        failed(done)
