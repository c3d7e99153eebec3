from __future__ import annotations

from pathlib import Path

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.keys import generate_key, read_private_key
from gatesmith.artifact.manifest import firmware_digest
from gatesmith.artifact.policy import UNCHECKED, Finding, Mode, Policy, load_policy
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.sign import sign_artifact
from gatesmith.artifact.store import Store
from gatesmith.errors import ManifestInvalid, SignatureInvalid

ICE, ECP5 = tiny_firmware(), tiny_firmware(board="ulx3s", family="ecp5")
LAB = "registry.example/lab/iris:v1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path))
    (tmp_path / "keys").mkdir()
    for name in ("lab", "other"):
        generate_key(tmp_path / "keys" / f"{name}.pem")
    return tmp_path


@pytest.fixture
def store(home: Path) -> Store:
    store = Store()
    for reference in (LAB, "iris:v1"):
        store.save(reference, [ICE, ECP5])
    return store


def write(home: Path, text: str) -> None:
    (home / "policy.toml").write_text(text)


def test_the_first_rule_that_matches_decides(home: Path) -> None:
    write(
        home,
        """
        mode = "off"
        [[rule]]
        repositories = ["registry.example/lab/*"]
        mode = "require"
        keys = ["keys/lab.pub"]
        unscannable = "refuse"
        [[rule]]
        repositories = ["registry.example/*", "iris"]
        loops = "warn"
        """,
    )
    policy = load_policy()
    rule = policy.rule(Reference.parse("registry.example/lab/deep/iris:v1"))
    assert (rule.mode, rule.keys, rule.unscannable) == (Mode.REQUIRE, (home / "keys" / "lab.pub",), Finding.REFUSE)
    assert policy.rule(Reference.parse("registry.example/x")).loops is Finding.WARN
    assert policy.rule(Reference.parse("iris")).mode is Mode.WARN
    assert policy.rule(Reference.parse("registry.examples/lab/x")).mode is Mode.OFF


def test_require_loads_what_a_key_of_the_rule_signed(home: Path, store: Store) -> None:
    write(home, 'mode = "require"\nkeys = ["keys/lab.pub"]')
    with pytest.raises(SignatureInvalid, match="iris:v1 is not signed"):
        store.load(LAB, board="icebreaker")
    sign_artifact(store, LAB, read_private_key(home / "keys" / "other.pem"))
    with pytest.raises(SignatureInvalid, match="made with another key"):
        store.load(LAB, board="icebreaker")
    sign_artifact(store, LAB, read_private_key(home / "keys" / "lab.pem"))
    assert store.load(LAB, board="icebreaker") == ICE
    assert store.load(f"registry.example/lab/iris@{firmware_digest(ICE)}") == ICE
    assert Store(store.layout.path, policy=UNCHECKED).load("iris:v1", board="ulx3s") == ECP5


def test_a_signed_index_counts_for_the_firmwares_that_it_names(home: Path, store: Store) -> None:
    from gatesmith.artifact.signatures import pack_signature

    top = store.layout.names()["iris:v1"]
    packed = pack_signature(top, read_private_key(home / "keys" / "lab.pem"))
    for descriptor, content in packed.blobs:
        store.layout.put(descriptor, content)
    store.layout.attach(packed.descriptor, top.digest)
    write(home, 'mode = "require"\nkeys = ["keys/lab.pub"]')
    assert store.load("iris:v1", board="icebreaker") == ICE
    store.save("iris:v1", [tiny_firmware(seed=1)])
    with pytest.raises(SignatureInvalid, match="is not signed"):
        store.load("iris:v1", board="icebreaker")


def test_require_without_keys_loads_nothing(home: Path, store: Store) -> None:
    write(home, 'mode = "require"')
    with pytest.raises(SignatureInvalid, match=r"policy\.toml names no key for it"):
        store.load("iris:v1", board="icebreaker")


def test_warn_tells_and_loads(home: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    write(home, 'keys = ["keys/lab.pub"]')
    assert store.load(LAB, board="icebreaker") == ICE
    assert [record.message for record in caplog.records] == [f"{LAB} is not signed"]


def test_without_a_policy_own_builds_are_silent_and_others_are_told(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.load("iris:v1", board="icebreaker") == ICE
    assert not caplog.records
    store.load(LAB, board="icebreaker")
    assert [record.message for record in caplog.records] == [
        f"{LAB} is not checked: {store.layout.path.parent / 'policy.toml'} names no key for it"
    ]


def test_off_is_silent(home: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    write(home, 'mode = "off"')
    store.load(LAB, board="icebreaker")
    assert not caplog.records


@pytest.mark.parametrize("where", ["", '[[rule]]\nrepositories = ["*"]\n'])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('mode = "demand"', "mode is 'demand', known are off, warn, require"),
        ("mode = 1", "mode is 1"),
        ('keys = "lab.pub"', "a list of strings is needed"),
        ("keys = [1]", "a list of strings is needed"),
        ('key = ["lab.pub"]', "'key' is not known"),
        ('loops = "ignore"', "loops is 'ignore', known are allow, warn, refuse"),
        ('unscannable = ""', "unscannable is ''"),
    ],
)
def test_a_policy_that_is_misspelt_is_an_error(home: Path, where: str, line: str, words: str) -> None:
    write(home, where + line)
    with pytest.raises(ManifestInvalid, match=words):
        load_policy()


@pytest.mark.parametrize(
    "text", ["mode = ", '[[rule]]\nmode = "off"', "rule = 1", 'repositories = ["x"]', "\xff", '[rule]\nmode="off"']
)
def test_a_policy_that_cannot_be_read_is_an_error(home: Path, text: str) -> None:
    (home / "policy.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ManifestInvalid, match="policy"):
        load_policy()


def test_a_missing_policy_is_told_when_it_was_named(home: Path) -> None:
    assert load_policy() == Policy()
    with pytest.raises(ManifestInvalid, match="does not exist"):
        load_policy(home / "none.toml")


def test_a_key_that_is_missing_is_no_way_in(home: Path, store: Store) -> None:
    write(home, 'mode = "require"\nkeys = ["keys/gone.pub"]')
    with pytest.raises(SignatureInvalid, match="cannot be read"):
        store.load("iris:v1", board="icebreaker")
