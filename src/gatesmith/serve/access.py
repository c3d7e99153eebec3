"""Who may load, unload and register memory: bearer token, separate port, or nobody from outside.

With a token file, these operations need its token, on whatever address. Without one they are for this machine alone:
a server that listens elsewhere refuses them, and so does one that is asked by a web page. The file is read at every
such operation, so a token that is replaced in it counts at once.
"""

# Ref: RFC 6750 section 2.1, the Authorization header; section 3, WWW-Authenticate
# Ref: Fetch standard, "Origin" header: browsers send it with every POST, and programs do not

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path

from gatesmith.errors import AccessRefused, ServerNotStarted, TokenInvalid
from gatesmith.serve.settings import Settings

__all__ = ["Access", "is_loopback"]

_LONGEST = 4096


class Access:
    """The rule for administration, for all doors.

    Raises
    ------
    ServerNotStarted
        When a token file is set and holds no token.
    """

    def __init__(self, settings: Settings) -> None:
        self._file = Path(settings.admin_token_file) if settings.admin_token_file else None
        self._own_port = settings.admin_port != 0
        self._open = is_loopback(settings.host)
        if self._file is not None and not _token(self._file):
            raise ServerNotStarted(
                f"admin token file {self._file} holds no token; write one line into it", path=str(self._file)
            )

    def check(self, authorization: str, *, admin_side: bool = False, web_page: bool = False) -> None:
        """Let an operation of administration pass, or not.

        Parameters
        ----------
        authorization : str
            The ``Authorization`` header or metadata; empty when there is none.
        admin_side : bool
            Whether the request came to the admin port.
        web_page : bool
            Whether a browser sent it for some page (``Origin`` header).

        Raises
        ------
        TokenInvalid, AccessRefused
        """
        if self._own_port and not admin_side:
            raise AccessRefused("this operation is answered on the admin port only")
        if self._file is not None:
            self._check_token(self._file, authorization)
        elif not self._open:
            raise AccessRefused(
                "this operation needs a token on a server that listens beyond its own machine; "
                "start it with GATESMITH_ADMIN_TOKEN_FILE"
            )
        elif web_page:
            raise AccessRefused("this operation is not for web pages; without a token it refuses an Origin header")

    @staticmethod
    def _check_token(file: Path, authorization: str) -> None:
        scheme, _, given = authorization[:_LONGEST].partition(" ")
        token = _token(file)
        same = hmac.compare_digest(given.strip().encode(), token.encode())
        if scheme.lower() != "bearer" or not token or not same:
            what = "has another one" if authorization else "has none"
            raise TokenInvalid(f"this operation needs the admin token and the request {what}; send it as Bearer token")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
