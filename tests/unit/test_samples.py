"""Samples from files: what is read, and the one line for each way a file can be wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatesmith.errors import TensorMismatch
from gatesmith.samples import load_samples

VALUES = np.array([[1.0, 2.5], [-3.0, 4e-3]])


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5\n-3,4e-3\n",
        "a,b\n1,2.5\n-3,4e-3",
        "\ufeff1,2.5\r\n-3,4e-3\r\n",
        '"first, of two",b\n1,2.5\n\n-3, 4e-3 \n',
        ",width\n1,2.5\n-3,4e-3\n",
    ],
    ids=["plain", "header", "spreadsheet", "quotes and blanks", "unnamed column"],
)
def test_csv(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8", newline="")
    ((name, values),) = load_samples(path).items()
    assert name == ""
    assert values.dtype == np.float64
    assert (values == VALUES).all()


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n"])
def test_csv_without_samples(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    assert len(load_samples(path)[""]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n\n3\n", "row 4 has 1 columns, the first sample has 2"),
        ("1,2\n3,4,5\n", "row 2 has 3 columns, the first sample has 2"),
        ("a,b\n1,2\n3,x\n", "row 3, column 2 is 'x', a number is needed"),
        ("1,\n3,4\n", "row 1, column 2 is '', a number is needed"),
        ("1,2\n\0,4\n", "cannot be read: "),
        ("\ud800", "cannot be read: 'utf-8' codec can't decode"),
    ],
    ids=["short", "long", "word", "hole", "null", "encoding"],
)
def test_csv_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(TensorMismatch, match=words):
        load_samples(path)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u2", "?", ">f4"])
def test_one_array_whatever_the_suffix(name: str, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / name
    values = np.array([[0, 1], [1, 0]], dtype)
    with path.open("wb") as file:
        np.save(file, values)
    assert (load_samples(path)[""] == values).all()
    assert load_samples(path)[""].dtype == values.dtype


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_several_arrays_whatever_the_suffix(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        np.savez_compressed(file, a=VALUES, b=VALUES[0])
    arrays = load_samples(path)
    assert list(arrays) == ["a", "b"]
    assert (arrays["a"] == VALUES).all()


def damaged(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    values = np.array([{}, []], dtype=object)
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=values)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(TensorMismatch, match="Object arrays cannot be loaded when allow_pickle=False"):
            load_samples(tmp_path / name)
    with pytest.raises(TensorMismatch, match="magic string"):
        load_samples(damaged(tmp_path / "p.npy", b"\x80\x04N."))


def test_refused(tmp_path: Path) -> None:
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846, 8), }".ljust(117) + b"\n"
    cases = {
        tmp_path: "is a folder",
        tmp_path / "none.csv": "does not exist",
        damaged(tmp_path / "x.txt", b"1,2"): r"is not one of \.npz, \.npy and \.csv",
        damaged(tmp_path / "empty.npy", b""): "cannot be read: ",
        damaged(tmp_path / "words.npz", b"words"): "cannot be read: ",
        damaged(tmp_path / "huge.npy", header + huge): "cannot be read: ",
        zipped(tmp_path / "text.npz", "a.txt", b"hello"): r"member 'a\.txt' is no array",
        zipped(tmp_path / "cut.npz", "a.npy", b"\x93NUMPY"): "cannot be read: ",
    }
    for path, words in cases.items():
        with pytest.raises(TensorMismatch, match=words) as caught:
            load_samples(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatesmith.samples.MAX_UNPACKED_BYTES", 100)
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1000))
    with pytest.raises(TensorMismatch, match="unpacks to 8128 bytes, 100 are possible"):
        load_samples(tmp_path / "x.npz")


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv"])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_damaged_files_end_in_an_error_or_arrays(suffix: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "csv":
        np.savetxt(path, VALUES, delimiter=",")
    else:
        with path.open("wb") as file:
            np.save(file, VALUES) if suffix == "npy" else np.savez_compressed(file, a=VALUES, b=VALUES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=5))
        content = content or bytearray(b"\0")
    path.write_bytes(content)
    try:
        arrays = load_samples(path)
    except TensorMismatch as error:
        words = str(error)
    else:
        words = ""
        assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert "\n" not in words
