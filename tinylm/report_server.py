"""The reports over http, on this machine alone: a browser follows no link from Prefect's page to a file.

They are at the port after the Prefect server's. So a run finds them by the server's address, whoever started it, and
its link is right again at the next `tinylm up`.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tinylm.prefect_processes import HOST

__all__ = ["address_of", "serve_reports"]

NAME = "TinyLM-reports"  # how an answer is told from another program's on the same port
OUR_NAMES = (HOST, "localhost")
LIMIT_S = 10.0


@contextmanager
def serve_reports(folder: Path, server_port: int) -> Iterator[str | None]:
    """Serve the files in `folder` for the block; yield the address, None when its port is not to be had."""
    try:
        server = _Server((HOST, server_port + 1), partial(_ReadOnly, directory=str(folder)))
    except (OSError, OverflowError):  # taken, or beyond the last
        yield None
        return
    threading.Thread(target=server.serve_forever, name="reports", daemon=True).start()
    try:
        yield _address(server_port)
    finally:
        server.shutdown()
        server.server_close()


def address_of(page: Path, api_url: str | None) -> str | None:
    """Return where a browser finds a run's `page`, None if it is not served beside the Prefect server at `api_url`."""
    server = urlsplit(api_url or "")
    if server.hostname not in OUR_NAMES or server.port is None:
        return None
    url = f"{_address(server.port)}/{quote(f'{page.parent.name}/{page.name}')}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=LIMIT_S) as answer:
            return url if answer.headers["Server"] == NAME else None
    except (OSError, HTTPException):
        return None


def _address(server_port: int) -> str:
    return f"http://{HOST}:{server_port + 1}"


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that stops in the middle of a page is no news for the terminal of `tinylm up`."""


class _ReadOnly(SimpleHTTPRequestHandler):
    timeout = LIMIT_S
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".html": "text/html; charset=utf-8",
        ".parquet": "application/vnd.apache.parquet",
    }

    def version_string(self) -> str:
        return NAME

    def send_head(self) -> Any:
        """Refuse what a symbolic link in the folder leads to, and pages elsewhere that call this machine theirs."""
        if self.headers.get("Host", "").rpartition(":")[0] in OUR_NAMES and self._is_inside():
            return super().send_head()
        return self.send_error(HTTPStatus.NOT_FOUND)

    def _is_inside(self) -> bool:
        try:
            return Path(self.translate_path(self.path)).resolve().is_relative_to(Path(self.directory).resolve())
        except (ValueError, RuntimeError):  # a NUL in the name; a symbolic link to itself
            return False

    def list_directory(self, path: Any) -> Any:
        """Refuse: `index.html` lists the reports, as soon as there is one."""
        del path
        return self.send_error(HTTPStatus.NOT_FOUND, "No report here; the first run's end makes index.html")

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing, as above."""
