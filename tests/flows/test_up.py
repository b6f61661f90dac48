"""`tinylm up` as its user sees it: one real server and worker, one run that fails, one that Ctrl-C ends."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from flows_support import another_program, server_port

from tinylm.errors import ConfigError
from tinylm.prefect_processes import api_url
from tinylm.runs import GOES_ON, api
from tinylm.up import supervise

DEPLOYMENTS = """
name: toy
deployments:
  - {name: it, entrypoint: "toy.py:toy", work_pool: {name: local}}
"""
FLOW = """
import time

from prefect import flow

from flows._prefect import begin_run
from tinylm.errors import DataError


@flow(name="toy", flow_run_name="{what}")
def toy(what: str = "rest"):
    begin_run()
    if what == "fail":
        raise DataError("no train text is left")
    time.sleep(300)
"""
UP = """
import sys
from tinylm import up
from tinylm.cli import main

up.CHECK_S = 0.5
sys.argv = ["tinylm", "up", "--port", sys.argv[1]]
main()
"""


class Up:
    """A running `tinylm up` in a folder of its own, and what it has said."""

    def __init__(self, project: Path) -> None:
        self.port, self.said = server_port(), list[str]()
        self.url = api_url(self.port)
        foreign = ("PREFECT_", "TINYLM_", "PYTHONUNBUFFERED")
        ours = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP, str(self.port)],
            cwd=project,
            env=ours | {"PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(line.rstrip() for line in self.process.stdout)

    def start_run(self, what: str) -> str:
        """Start a run of the toy flow; return its ID."""
        deployment = api(self.url, "/deployments/name/toy/it")["id"]
        return str(api(self.url, f"/deployments/{deployment}/create_flow_run", {"parameters": {"what": what}})["id"])

    def wait_for(self, words: str) -> None:
        """Wait until a line holds `words`."""
        deadline_s = time.monotonic() + 120
        while not any(words in line for line in self.said):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline_s, self.said
            time.sleep(0.1)


def wait_until_held(project: Path, run_id: str) -> None:
    """Wait until the run's own process holds its lock."""
    deadline_s = time.monotonic() + 60
    while not (project / ".prefect" / "running" / run_id).exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that `tinylm up` takes for a project."""
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENTS)
    (tmp_path / "toy.py").write_text(FLOW)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "index.html").write_text("all reports")
    return tmp_path


@pytest.fixture
def up(project: Path) -> Iterator[Up]:
    """`tinylm up` in the project, ended with the test."""
    running = Up(project)
    yield running
    running.process.kill()
    running.process.wait()


def test_runs_that_fail_are_told_and_runs_that_it_ends_are_marked(up: Up, project: Path) -> None:
    up.wait_for("READY")
    reports = f"http://127.0.0.1:{up.port + 1}"
    assert f"reports      {reports}" in up.said
    with urllib.request.urlopen(reports) as answer:
        assert answer.read() == b"all reports"
    run_id = up.start_run("rest")
    up.start_run("fail")
    up.wait_for("run fail failed: DataError: no train text is left")
    second = Up(project)
    assert second.process.wait(30) == 2
    second.reader.join()
    assert second.said == [f"tinylm: `tinylm up` already runs for this project, as process {up.process.pid}"]
    wait_until_held(project, run_id)
    for _ in range(2):  # people press it twice
        up.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert up.process.wait(60) == 130
    up.reader.join()
    stopping = up.said.index("stopping runs, worker and server")
    assert up.said[stopping + 1 :] == ["run rest was stopped with its worker; marked as Crashed", "tinylm: stopped"]
    assert sum(line.startswith("run fail") for line in up.said) == 1
    why = f"`tinylm up` was stopped; {GOES_ON}"
    with closing(sqlite3.connect(project / ".prefect" / "prefect.db")) as database:
        query = "SELECT run.name, state.name, message FROM flow_run AS run JOIN flow_run_state AS state"
        rows = database.execute(f"{query} ON run.state_id = state.id").fetchall()
    states = {name: (state, message) for name, state, message in rows}
    assert states["rest"] == ("Crashed", why)
    assert states["fail"][0] == "Failed"


def test_a_port_that_another_program_has_is_refused(project: Path) -> None:
    with (
        another_program(b"SSH-2.0-x\r\n") as port,
        pytest.raises(ConfigError, match=f"port {port} is taken by another program"),
    ):
        supervise(project, port, {}, print)
