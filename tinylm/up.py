"""`tinylm up`: one process that keeps a Prefect server, a worker and the project's deployments running.

They are child processes with logs of their own; this module imports no Prefect.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tinylm.errors import ConfigError, StageError, TinyLMError
from tinylm.prefect_processes import HOST, PrefectProcesses, api_url, prefect_environment
from tinylm.report_server import serve_reports
from tinylm.runs import GOES_ON, api, failed_runs, free_slots, is_serving, mark_dead_runs

__all__ = ["EXCLUSIVE_TAG", "FORMER_AUTOMATION", "prepare_server", "supervise"]

POOL = "local"
PROJECT_PORT = 4200  # where prefect.toml looks
WORKER = ("worker", "start", "--pool", POOL, "--name", "tinylm")
EXCLUSIVE_TAG = "cpu-exclusive"  # of tasks that want the machine to themselves: training and measuring
DEPLOY_LIMIT_S = 120.0
WORKER_LIMIT_S = 60.0
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CHECK_S = 10.0
WORKER_RESTARTS = 3
FORMER_AUTOMATION = "crash runs whose heartbeat stopped"  # earlier versions made it

Say = Callable[[str], None]


def supervise(root: Path, port: int, environment: Mapping[str, str], say: Say) -> None:
    """Start everything, print READY, and keep it up until a signal ends this process.

    Raises: ConfigError when `root` is no project folder, is served already, or the port is taken;
            StageError when a part does not start or keeps dying.
    """
    _check_folder(root)
    # A script's `&` starts us with SIGINT ignored; the children would inherit that and not stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    local = prefect_environment(root, environment) | {"PREFECT_API_URL": api_url(port)}
    with _only_one(Path(local["PREFECT_HOME"])):
        _check_port(port)
        parts = PrefectProcesses(root, local)
        with serve_reports(root / local.get("TINYLM_REPORTS", "reports"), port) as reports:
            try:
                _start(parts, port, reports, say)
                _keep_up(parts, say)
            except KeyboardInterrupt as stop:
                say("stopping runs, worker and server")
                stop.args = ("stopped",)
                raise
            finally:
                _stop(parts, say)


def _stop(parts: PrefectProcesses, say: Say) -> None:
    """End all parts; runs that this ends are told to the server while it is still there."""
    for number in STOPS:  # one more Ctrl-C would leave them untold; each part gets seconds, not more
        signal.signal(number, signal.SIG_IGN)
    parts.stop("deployments", "worker")
    with contextlib.suppress(TinyLMError):  # a server that never started has no runs
        why = f"`tinylm up` was stopped; {GOES_ON}"
        for name in mark_dead_runs(parts.url, parts.running, no_worker=True, message=why):
            say(f"run {name} was stopped with its worker; marked as Crashed")
    parts.stop()


def _start(parts: PrefectProcesses, port: int, reports: str | None, say: Say) -> None:
    started_s = time.monotonic()
    parts.start_server(port)
    parts.load("deployments", "deploy", "--all")
    parts.load("worker", *WORKER)
    parts.wait_for_server()
    _make_pool(parts.url)
    parts.go("deployments")
    prepare_server(parts.url, parts.running, say)
    parts.finish("deployments", DEPLOY_LIMIT_S)
    # Not before: the polls of a worker write, SQLite then turns a deployment's request away, and Prefect tries it
    # again after 2 s or more (2026-11: six deployments took 3 to 5 s without the worker, 4 to 12 s beside it).
    parts.go("worker")
    parts.wait("worker", lambda: _worker_is_online(parts.url), WORKER_LIMIT_S)
    names = sorted(deployment["name"] for deployment in api(parts.url, "/deployments/filter", {}))
    say(f"server       http://{HOST}:{port}   (logs in {parts.logs})")
    say(f"reports      {reports or f'not served, port {port + 1} is taken: open their files'}")
    say(f"deployments  {', '.join(names)}")
    address = "" if port == PROJECT_PORT else f"PREFECT_API_URL={parts.url} "
    say(f"next         {address}prefect deployment run 'pipeline/quickstart' --watch   (from this folder)")
    say(f"READY in {time.monotonic() - started_s:.1f} s; Ctrl-C ends everything")


def _make_pool(url: str) -> None:
    """Make the process pool if it is new; deployments are refused without it."""
    if not api(url, "/work_pools/filter", {"work_pools": {"name": {"any_": [POOL]}}}):
        api(url, "/work_pools/", {"name": POOL, "type": "process"})


def prepare_server(url: str, running: Path, say: Say) -> None:
    """Close the books on what a former server left: runs that were killed, their slot, and a former automation."""
    for name in mark_dead_runs(url, running, no_worker=True):
        say(f"run {name} was left open by a killed process; marked as Crashed")
    api(url, "/concurrency_limits/", {"tag": EXCLUSIVE_TAG, "concurrency_limit": 1})
    free_slots(url, EXCLUSIVE_TAG)
    # It would crash the runs of a machine that slept; the locks tell dead runs better.
    for found in api(url, "/automations/filter", {"automations": {"name": {"any_": [FORMER_AUTOMATION]}}}):
        api(url, f"/automations/{found['id']}", method="DELETE")


def _worker_is_online(url: str) -> bool:
    workers = api(url, f"/work_pools/{POOL}/workers/filter", {})
    return any(worker["status"] == "ONLINE" for worker in workers)


def _keep_up(parts: PrefectProcesses, say: Say) -> None:
    """Watch until a signal comes: restart a dead worker, tell of runs that failed or died, end with the server."""
    restarts, since, told = 0, datetime.datetime.now(datetime.UTC), set[str]()
    while True:
        time.sleep(CHECK_S)
        if parts.children["server"].poll() is not None:
            raise StageError(f"the Prefect server ended by itself; see {parts.logs / 'server.log'}")
        if parts.children["worker"].poll() is not None:
            restarts += 1
            if restarts > WORKER_RESTARTS:
                raise StageError(f"the worker ended {restarts} times; see {parts.logs / 'worker.log'}")
            say("the worker ended by itself; starting it again")
            parts.start("worker", *WORKER)
        with contextlib.suppress(TinyLMError):  # a busy server answers the next time
            mark_dead_runs(parts.url, parts.running, no_worker=False)
            for run_id, line in failed_runs(parts.url, since).items():
                if run_id not in told:
                    say(line)
                told.add(run_id)


def _check_folder(root: Path) -> None:
    if (root / "prefect.yaml").is_file():
        return
    project = Path(__file__).resolve().parent.parent
    hint = f"cd {project}" if (project / "prefect.yaml").is_file() else "cd to your checkout of TinyLM"
    raise ConfigError(
        f"{root} holds no prefect.yaml: deployments are started, and run, from the project folder ({hint}); "
        "elsewhere the `prefect` command would start a hidden server of its own"
    )


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            who = "a Prefect server" if is_serving(api_url(port)) else "another program"
            raise ConfigError(f"port {port} is taken by {who}; end it, or choose another with --port") from None


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the project's lock; the kernel frees it if this process is killed."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode() or "unknown"
        os.close(descriptor)
        raise ConfigError(f"`tinylm up` already runs for this project, as process {holder}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    try:
        yield
    finally:
        os.close(descriptor)
