"""Prefect's server, worker and deployer as child processes. This module imports no Prefect."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from tinylm.errors import StageError
from tinylm.runs import is_serving

__all__ = ["HOST", "PrefectProcesses", "api_url", "free_port", "prefect_environment", "running_folder"]

HOST = "127.0.0.1"
SERVER_LIMIT_S = 120.0  # a new database took 8 s on a quiet machine, the server's start on it 8 s
STOP_LIMIT_S = 8.0

# Standard input is a pipe that only the parent writes to: its end tells that the parent is gone, however it ended.
_PRELUDE = """
import os, runpy, signal, sys, threading

def end_with_parent():
    while os.read(0, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
"""
# What each command is going to import, it imports while another part, on another core, is still starting.
_IMPORTS = {
    "server": "prefect.cli.server, prefect.cli._server_utils, prefect.server.api.server",
    "worker": "prefect.cli.worker, prefect.workers.process, prefect.deployments.runner",
    "deployments": "prefect.cli.deploy, prefect.runner, flows.pipeline, flows.stories, flows.sweep, flows.tune",
}
_WAIT = """
import {modules}
if not os.read(0, len(b"go")):
    sys.exit("what this waited for did not start")
"""
_RUN = """
threading.Thread(target=end_with_parent, daemon=True).start()
runpy.run_module("prefect", run_name="__main__", alter_sys=True)
"""


def api_url(port: int) -> str:
    """Return the URL under which a server on `port` is spoken to."""
    return f"http://{HOST}:{port}/api"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def prefect_environment(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` with what keeps Prefect local to the project at `root`; what the user has set stays."""
    defaults = {
        "PREFECT_HOME": str(root / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # The library's loggers also speak outside of flow runs, where Prefect would warn at every line.
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    return defaults | dict(environment)


def running_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder in which living runs hold their locks."""
    return Path(environment["PREFECT_HOME"]) / "running"


class PrefectProcesses:
    """Prefect's own commands as child processes of the project at `root`, each with a log file under logs/."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root, self.environment = root, environment
        self.url = environment["PREFECT_API_URL"]
        self.running = running_folder(environment)
        self.logs = root / "logs"
        self.logs.mkdir(exist_ok=True)
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start_server(self, port: int) -> None:
        """Start the server, beside the making of its database if that is new; `wait_for_server` does the rest."""
        command = ("server", "start", "--host", HOST, "--port", str(port))
        if self._has_database():
            self.start("server", *command)
            return
        self.start("database", "server", "database", "upgrade", "--yes")
        _keep_to_one_core(self.children["database"].pid)
        self.load("server", *command)

    def wait_for_server(self) -> None:
        """Wait until the server answers. Raises: StageError naming the log file if it does not start."""
        if "database" in self.children:
            self.finish("database", SERVER_LIMIT_S)
            self.go("server")
        self.wait("server", lambda: is_serving(self.url), SERVER_LIMIT_S)

    def _has_database(self) -> bool:
        """Tell whether the server finds a database to bring up to date, ours or one that the user chose."""
        chosen = "PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"
        ours = Path(self.environment["PREFECT_HOME"]) / "prefect.db"
        return ours.is_file() or any(name in self.environment for name in chosen)

    def start(self, name: str, *command: str) -> None:
        """Start `prefect COMMAND`."""
        self._spawn(name, _PRELUDE + _RUN, *command)

    def load(self, name: str, *command: str) -> None:
        """Start `prefect COMMAND` as far as its imports; `go` lets it run."""
        self._spawn(name, _PRELUDE + _WAIT.format(modules=_IMPORTS[name]) + _RUN, *command)

    def go(self, name: str) -> None:
        """Let a loaded command run."""
        child = self.children[name]
        if child.stdin is None:
            raise StageError(f"Prefect {name} was not loaded")
        with contextlib.suppress(BrokenPipeError):  # it ended already, as `wait` is about to find
            child.stdin.write(b"go")
            child.stdin.flush()

    def _spawn(self, name: str, code: str, *command: str) -> None:
        """Start Python in a session of its own, so that Ctrl-C reaches it through `stop` alone."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-c", code, "--no-prompt", *command],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, name: str, is_ready: Callable[[], bool], limit_s: float) -> None:
        """Wait until `is_ready`. Raises: StageError if the child `name` ends first or the time is up."""
        deadline_s = time.monotonic() + limit_s
        while not is_ready():
            ended = self.children[name].poll() is not None
            if ended or time.monotonic() > deadline_s:
                how = "ended" if ended else f"was not ready in {limit_s:.0f} s"
                raise StageError(f"Prefect {name} {how}; see {self.logs / name}.log")
            time.sleep(0.1)

    def finish(self, name: str, limit_s: float) -> None:
        """Wait until the child `name` has done its work. Raises: StageError if it failed or the time is up."""
        try:
            failed = self.children[name].wait(limit_s) != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed:
            raise StageError(f"Prefect {name} failed or was not done in {limit_s:.0f} s; see {self.logs / name}.log")

    def stop(self, *names: str) -> None:
        """End worker, running flows and server, in that order, or `names`; each gets a moment to end by itself."""
        for name in names or ("deployments", "worker", "server", "database"):
            child = self.children.pop(name, None)
            if child is not None:
                _end_tree(child)


def _keep_to_one_core(pid: int) -> None:
    """Keep a new process on one core, where the system can.

    Prefect makes a new database by 34,000 calls that each go to a thread and back. Between two cores of a virtual
    machine such a wake-up is dear: 17.5 s instead of 8.3 s on one (2026-11).
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})


def _end_tree(child: subprocess.Popen[bytes]) -> None:
    """End a child and all that it started: ask with SIGINT, then SIGTERM, then kill."""
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    child.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(STOP_LIMIT_S)
    left = [process for process in [*family, *_as_processes(child)] if process.is_running()]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, STOP_LIMIT_S)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()


def _as_processes(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [psutil.Process(child.pid)]
    return []
