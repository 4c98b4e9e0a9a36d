"""The page and its files over HTTP, on this machine alone, for genomes too large for one file.

The server listens on the loopback address. It answers only who knows its token, in the first part of the path or in the header
`X-Annotator-Token`, and only requests addressed to this very host and port, so that no other web page can reach it through a name
that it makes point here. It hands out the files of the page and nothing else; ranges are answered, for igv.js asks for them.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from annotator.errors import UsageError

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
TOKEN_HEADER: Final = "X-Annotator-Token"
PAGE: Final = "browse.html"
_PIECE_BYTES: Final = 1 << 18
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Served:
    """What a server hands out.

    Attributes:
        page: Text of the page.
        files: Files by the name under `data/`.
        token: Secret of this server.
    """

    page: str
    files: Mapping[str, Path]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class PageServer(ThreadingHTTPServer):
    """A server of one page; `serve_forever` answers until `shutdown`."""

    daemon_threads = True
    allow_reuse_address = False  # a port in use is an error, not a guess

    def __init__(self, served: Served, port: int = 0) -> None:
        """Listen.

        Args:
            served: What it hands out.
            port: Port; 0 for a free one.

        Raises:
            UsageError: The port is in use, or may not be taken.
        """
        self.served = served
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"{getattr(error, 'strerror', None) or error}; choose another, or 0 for any", "port", port) from None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Address of the page, with the token."""
        return f"http://{HOST}:{self.port}/{self.served.token}/{PAGE}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that went away is no error of ours."""
        logger.debug("a request ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "annotator"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:  # noqa: N802
        """Hand out the page or a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:  # noqa: N802
        """Say what GET would."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are logged for those who ask, without the token."""
        logger.debug("%s", (format % args).replace(self.server.served.token, "TOKEN"))

    def _answer(self, *, with_body: bool) -> None:
        served = self.server.served
        here = {f"{HOST}:{self.server.port}", f"localhost:{self.server.port}"}
        if self.headers.get("Host", "") not in here:
            self._refuse(403)
            return
        first, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
        given = self.headers.get(TOKEN_HEADER)
        if given is None:
            given, name = first, unquote(rest)
        else:
            name = unquote(f"{first}/{rest}" if rest else first).removeprefix(f"{served.token}/")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), served.token.encode()):
            self._refuse(403)
        elif name in ("", PAGE):
            body = served.page.encode()
            self._begin(200, "text/html; charset=utf-8", len(body))
            if with_body:
                self.wfile.write(body)
        elif name.startswith("data/") and (path := served.files.get(name.removeprefix("data/"))):
            self._send(path, with_body=with_body)
        else:
            self._refuse(404)

    def _send(self, path: Path, *, with_body: bool) -> None:
        try:
            file = path.open("rb")
        except OSError:
            self._refuse(404)
            return
        with file:
            size = file.seek(0, 2)
            asked = _RANGE.fullmatch(self.headers.get("Range", ""))
            span = _span(asked, size) if asked else None
            if asked and span is None:
                self._refuse(416, {"Content-Range": f"bytes */{size}"})
                return
            start, end = span or (0, size)
            headers = {"Accept-Ranges": "bytes"} | ({"Content-Range": f"bytes {start}-{end - 1}/{size}"} if span else {})
            self._begin(206 if span else 200, "application/octet-stream", end - start, headers)
            file.seek(start)
            while with_body and start < end and (piece := file.read(min(_PIECE_BYTES, end - start))):
                self.wfile.write(piece)
                start += len(piece)

    def _begin(self, status: int, kind: str, size: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind, "Content-Length": str(size), "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
        }  # fmt: skip
        for name, value in (fixed | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self._begin(status, "text/plain", 0, headers)


def _span(asked: re.Match[str], size: int) -> tuple[int, int] | None:
    """Start and end (half-open) of a range; None where nothing of the file lies in it."""
    first, last = asked.groups()
    if not first and not last:
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    return (start, end) if start < end else None
