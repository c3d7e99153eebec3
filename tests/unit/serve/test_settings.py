from __future__ import annotations

import pytest

from gatesmith.errors import ServerNotStarted
from gatesmith.serve.settings import Settings


def test_defaults_listen_on_this_machine_only() -> None:
    assert Settings.from_environment({}) == Settings()
    assert (Settings().host, Settings().http_port) == ("127.0.0.1", 8080)


def test_every_field_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "HOST": "::1",
        "HTTP_PORT": "9000",
        "BODY_LIMIT_BYTES": "1000",
        "BODY_TIMEOUT_S": "2.5",
        "MAX_BATCH": "8",
        "MAX_WAITING": "16",
        "GRACE_S": "3",
        "BUILD_PRECISION": "auto",
        "BUILD_TOLERANCE": "1.5",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"GATESMITH_{name}", value)
    settings = Settings.from_environment()
    assert [str(getattr(settings, name.lower())) for name in values] == list(values.values())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("HTTP_PORT", "http", "GATESMITH_HTTP_PORT is 'http', a number is needed"),
        ("HTTP_PORT", "70000", "setting http_port is 70000, 0 to 65535 are possible"),
        ("BODY_TIMEOUT_S", "nan", "setting body_timeout_s is nan"),
        ("MAX_BATCH", "0", "setting max_batch is 0"),
    ],
)
def test_wrong_values_are_one_line(name: str, text: str, message: str) -> None:
    with pytest.raises(ServerNotStarted) as caught:
        Settings.from_environment({f"GATESMITH_{name}": text})
    assert str(caught.value).startswith(message)
