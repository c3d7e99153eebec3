"""The program starts fast, and says what it has to say in the right place."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest
import typer

from gatesmith.cli import main as cli
from gatesmith.cli import output
from gatesmith.errors import BuildError

HEAVY = ("numpy", "rich", "amaranth", "da4ml", "pyosys", "sklearn", "onnx", "starlette", "uvicorn", "serial")


def test_the_start_imports_nothing_heavy() -> None:
    code = f"import sys, gatesmith.cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_help_is_there_at_once() -> None:
    command = [sys.executable, "-m", "gatesmith", "--help"]
    seconds = []
    for _ in range(5):
        start = _children_s()
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        seconds.append(_children_s() - start)
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS)
    assert min(seconds) < 1.0  # 0.2 s; of the processor, because tests share their machine


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gatesmith", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_version_and_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"gatesmith {version('gatesmith')}\n"
    assert run(monkeypatch) == 0
    assert capsys.readouterr().out.startswith("Usage: gatesmith")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_speaks_json_and_explains_its_options(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, verb, "--help") == 0
    text = capsys.readouterr().out
    assert "--json" in text
    options = [line.strip() for line in text.splitlines() if line.startswith("  --")]
    assert all("  " in option or len(option) > 30 for option in options), "an option without words"


def test_wrong_usage_names_its_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "verify") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: Missing argument 'target'; see 'gatesmith verify --help'\n"
    assert run(monkeypatch, "verify", "--json") == 2
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["error"]["type"] == "UsageError"


def raising(error: BaseException) -> Callable[..., None]:
    def verb(as_json: bool = False) -> None:
        raise error

    return output.verb(verb)


def test_an_error_on_purpose_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = BuildError("two\nlines and\ttabs", used=5, type="not this one")
    with pytest.raises(typer.Exit) as ended:
        raising(error)()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "error: two lines and tabs\n"
    with pytest.raises(typer.Exit):
        raising(error)(as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said == {"error": {"type": "BuildError", "message": "two lines and tabs", "used": 5}}


def test_an_interrupt_is_130_and_a_bug_stays_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        raising(KeyboardInterrupt())()
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()
