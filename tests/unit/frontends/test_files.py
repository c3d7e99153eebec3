"""Model files that are missing, damaged or hostile: a GatesmithError in one line, whatever the bytes."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import trained
from onnx_models import model, node, value
from skops import io as skops_io

import gatesmith.frontends
from gatesmith.errors import GatesmithError, ModelUnreadable, NotInstalled, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.model.graph import Graph


def onnx_bytes() -> bytes:
    w = np.arange(12, dtype=np.float32).reshape(4, 3)
    nodes = [node("Gemm", "x w", "h"), node("Clip", "h a b", "c"), node("Softmax", "c")]
    made = model(nodes, [value("x", None, 4)], [value("y", None, 3)], w=w, a=-1.0, b=1.0)
    return bytes(made.SerializeToString())


def skops_bytes() -> bytes:
    return skops_io.dumps(trained("iris").estimator)


VALID: dict[str, Callable[[], bytes]] = {"m.onnx": onnx_bytes, "m.skops": skops_bytes}


def read(path: Path) -> Graph | str:
    """The graph, or the message of the error; anything but a GatesmithError escapes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions in damaged files
            return read_model(path)
    except GatesmithError as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 1000
    return words


@pytest.mark.parametrize("name", VALID)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(VALID[name]())
    assert isinstance(read(path), Graph)
    assert isinstance(read(path.rename(tmp_path / "no-suffix")), Graph)


BAD: dict[str, tuple[bytes, str]] = {
    "m.onnx": (b"", "has 0 bytes, 1 to 1073741824 are possible"),
    "a.onnx": (b"not a model", "is not a valid ONNX model: "),
    "b.onnx": (onnx_bytes()[:-9], "is not a valid ONNX model: "),
    "c.onnx": (np.random.default_rng(0).bytes(5000), "is not a valid ONNX model: "),
    "d.onnx": (b"\x08\x08", "is not a valid ONNX model: "),
    "e.bin": (
        b"\x00\x01\x02",
        "is not a model file of a known kind; known are catboost, ",
    ),
    "f.json": (b'{"model": 1}', "is not a model file of a known kind"),
    "g.skops": (b"no zip", "is not a whole .skops file: "),
    "h.skops": (skops_bytes()[:500], "is not a whole .skops file: "),
    "i.pkl": (b"no pickle", "is a pickle or joblib file, and reading one runs the code in it; save the model with"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    content, words = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelUnreadable) as caught:
        read_model(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_zip_that_is_no_skops(tmp_path: Path) -> None:
    for name, words in (
        ("m.zip", "not a model file of a known kind"),
        ("m.skops", "is not a whole .skops file: KeyError"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("weights.txt", "1 2 3")
        with pytest.raises(ModelUnreadable, match=words):
            read_model(tmp_path / name)


def test_a_zip_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatesmith.frontends.sklearn.MAX_UNPACKED_BYTES", 10_000)
    path = tmp_path / "m.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", " " * 20_000)
    with pytest.raises(ModelUnreadable, match="unpacks to 20000 bytes, 10000 are possible"):
        read_model(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    cases = {
        tmp_path / "none.onnx": "does not exist",
        tmp_path: "is a folder",
        tmp_path / ("x" * 300): "does not exist",
        "nul\0byte.onnx": "does not exist",
        "": "is a folder",
    }
    for path, words in cases.items():
        with pytest.raises(ModelUnreadable, match=words):
            read_model(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_bytes())

    opened = Path.open

    def denied(self: Path, *args: Any, **named: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **named)

    monkeypatch.setattr(Path, "open", denied)  # root may read everything, so chmod shows nothing
    with pytest.raises(ModelUnreadable, match=r"m\.onnx' cannot be read: Permission denied"):
        read_model(path)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(gatesmith.frontends.MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ModelUnreadable, match="has 1073741825 bytes, 1 to 1073741824 are possible"):
        read_model(path)


@pytest.mark.parametrize("what", [3, None, {"a": 1}, [1.0], np.ones(3), object()])
def test_objects_that_are_no_models(what: object) -> None:
    with pytest.raises(
        UnsupportedOperation,
        match="is no known model; known are catboost, ",
    ):
        read_model(what)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.target, "ran"))


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.pickle", "m"])
def test_a_pickle_does_not_run_unless_trusted(name: str, tmp_path: Path) -> None:
    path, proof = tmp_path / name, tmp_path / "proof"
    path.write_bytes(pickle.dumps(Malicious(proof)))
    with pytest.raises(ModelUnreadable, match=r"runs the code in it; .* give --trust-pickle if you made the file"):
        read_model(path)
    assert not proof.exists()
    with pytest.raises(UnsupportedOperation, match=r"an object of builtins\.int is no estimator of scikit-learn"):
        read_model(path, trust_pickle=True)
    assert proof.read_text() == "ran"  # the fault that the refusal prevents


def test_a_pickle_inside_a_skops_file_does_not_run(tmp_path: Path) -> None:
    proof, whole = tmp_path / "proof", io.BytesIO(skops_bytes())
    path = tmp_path / "m.skops"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            is_array = member.endswith(".npy")
            new.writestr(member, pickle.dumps(Malicious(proof)) if is_array else old.read(member))
    with pytest.raises(ModelUnreadable, match=r"is not a whole \.skops file: ValueError"):
        read_model(path)
    assert not proof.exists()


class NotTrusted:
    def __init__(self) -> None:
        self.n_features_in_ = 3


def test_types_that_skops_does_not_trust_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.skops"
    skops_io.dump(NotTrusted(), path)
    with pytest.raises(ModelUnreadable, match=r"holds types that are not trusted: .*NotTrusted") as caught:
        read_model(path)
    assert any("NotTrusted" in name for name in caught.value.facts["types"])  # type: ignore[union-attr]


@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize("name", ["m.pkl", "m.joblib"])
def test_trusted_pickles_are_read(name: str, compress: int, tmp_path: Path) -> None:
    path = tmp_path / name
    joblib.dump(trained("iris").estimator, path, compress=compress)
    assert (
        read_model(path, trust_pickle=True, name="m").digest == read_model(trained("iris").estimator, name="m").digest
    )
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelUnreadable, match="cannot be read: "):
        read_model(path, trust_pickle=True)


@pytest.mark.parametrize(("library", "name"), [("onnx", "m.onnx"), ("skops", "m.skops"), ("joblib", "m.pkl")])
def test_a_missing_library_is_named(library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_bytes(VALID.get(name, lambda: pickle.dumps(1))())
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(NotInstalled, match=r"is not installed; pip install 'gatesmith\[(onnx|sklearn)\]'"):
        read_model(path, trust_pickle=True)


FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.mark.parametrize("name", VALID)
@FUZZ
@given(data=st.data())
def test_damaged_files_end_in_an_error_or_a_model(name: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(CONTENT.setdefault(name, VALID[name]()))
    path = tmp_path / name
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[position] ^= 1 << data.draw(st.integers(0, 7))
        else:
            content[position : position + data.draw(st.integers(1, 40))] = data.draw(st.binary(max_size=8))
    path.write_bytes(bytes(content) or b"\0")
    read(path)


@pytest.mark.parametrize("name", VALID)
def test_cut_files_end_in_an_error(name: str, tmp_path: Path) -> None:
    content = VALID[name]()
    path = tmp_path / name
    for size in range(1, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:size])
        assert isinstance(read(path), str), size


CONTENT: dict[str, bytes] = {}
