"""The reports over http: what is in the folder is there, read-only, and nothing else is."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows_support import another_program, server_port

from tinylm.prefect_processes import HOST, api_url
from tinylm.report_server import address_of, serve_reports


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Reports of one run, links that lead out of them, and a file beside them."""
    run = tmp_path / "reports" / "a run"
    run.mkdir(parents=True)
    (tmp_path / "secret.html").write_text("secret")
    (tmp_path / "reports-of-others").mkdir()
    (tmp_path / "reports-of-others" / "page.html").write_text("secret")
    (run / "report.html").write_text("<p>größer</p>", encoding="utf-8")
    (run / "cells.parquet").write_bytes(b"PAR1")
    (run / "out.html").symlink_to(tmp_path / "secret.html")
    (run / "round.html").symlink_to("round.html")
    (run / "others").symlink_to(tmp_path / "reports-of-others")
    return tmp_path / "reports"


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    """The port on which the folder is served."""
    before = server_port()
    with serve_reports(folder, before) as address:
        assert address == f"http://{HOST}:{before + 1}"
        yield before + 1


def ask(port: int, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str | None, bytes]:
    """Return status, type and content of an answer; the path is sent as it stands."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Type"), content


def test_pages_and_tables_come_with_their_types(port: int) -> None:
    page = "<p>größer</p>".encode()
    assert ask(port, "/a%20run/report.html") == (200, "text/html; charset=utf-8", page)
    assert ask(port, "/a%20run/report.html?x=1#top", "HEAD") == (200, "text/html; charset=utf-8", b"")
    assert ask(port, "/a%20run/cells.parquet") == (200, "application/vnd.apache.parquet", b"PAR1")
    assert ask(port, "/a%20run/report.html", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/a%20run/..%2f..%2fsecret.html",
        "//secret.html",
        "/../reports-of-others/page.html",
        "/a%20run/out.html",
        "/a%20run/round.html",
        "/a%20run/others/page.html",
        "/a%20run/report.html%00",
        "/a%20run/",
        "/",
    ],
)
def test_nothing_outside_and_no_listing_is_served(port: int, path: str) -> None:
    status, _, content = ask(port, path)
    assert status == 404
    assert b"secret" not in content


def test_only_this_machine_reads_and_nobody_writes(port: int, folder: Path) -> None:
    for host in ("evil.example", f"evil.example:{port}", ""):  # a name that its owner lets lead to this machine
        assert ask(port, "/a%20run/report.html", host=host)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(port, "/a%20run/report.html", method)[0] == 501
    assert (folder / "a run" / "report.html").is_file()


def test_a_page_has_an_address_as_long_as_it_is_served(folder: Path) -> None:
    port = server_port()
    page, url = folder / "a run" / "report.html", api_url(port)
    with serve_reports(folder, port) as address:
        assert address_of(page, url) == f"{address}/a%20run/report.html"
        assert address_of(page, url.replace(HOST, "localhost")) == f"{address}/a%20run/report.html"
        assert address_of(page.with_name("of-another-folder.html"), url) is None
        assert address_of(page, f"https://prefect.example:{port}/api") is None
        with serve_reports(folder, port) as second:
            assert second is None
    assert address_of(page, url) is None
    assert address_of(page, None) is None
    with serve_reports(folder, 65_535) as beyond:
        assert beyond is None


@pytest.mark.parametrize("words", [b"SSH-2.0-x\r\n", b"HTTP/1.0 200 OK\r\nServer: other\r\n\r\n"])
def test_another_program_on_the_port_is_not_taken_for_the_reports(words: bytes, folder: Path) -> None:
    with another_program(words) as port:
        assert address_of(folder / "a run" / "report.html", api_url(port - 1)) is None
