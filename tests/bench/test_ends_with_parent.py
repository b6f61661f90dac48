"""What measures, and what makes models for it, ends with the process that started it, however that ends."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from tinylm.bench import bulk, worker
from tinylm.bench.peers import family
from tinylm.bench.peers import run as peers


def orphan_of(code: str, child: str) -> psutil.Process:
    """Return the process with `child` in its command line, started by Python `code`, which was killed right then."""
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(peers.__file__).parents[3]) as parent:
        for _ in range(3000):
            for process in psutil.Process(parent.pid).children():
                with contextlib.suppress(psutil.Error):
                    if child in " ".join(process.cmdline()):
                        time.sleep(0.05)  # until it has its standard input
                        parent.kill()
                        return process
            time.sleep(0.01)
        parent.kill()
    raise AssertionError(f"{child} did not start")


ADAPTER = """
import sys, time
sys.path.insert(0, {adapters!r})
from harness import serve
serve(lambda job: lambda prompts, new_tokens: time.sleep(0.2) or 1)
"""
CONVERTER = "#!/bin/sh\nexec sleep 60\n"
STARTS = {
    "adapter": """
import json, os, subprocess, sys
job = {{"prompts": [[1]] * 300, "new_tokens": 1, "warmup_prompts": 1, "bulk": False, "parent_pid": os.getpid()}}
subprocess.run([sys.executable, {folder!r} + "/adapter"], input=json.dumps(job).encode())
""",
    "converter": """
from pathlib import Path
from tinylm.bench.peers.engines import Engine, convert
folder = Path({folder!r})
convert(Engine("fake", "Fake", "run_fake.py", "fake-int8", ("converter",)), folder, folder)
""",
    "tinylm.bench.worker": """
from tinylm.bench import SweepConfig
from tinylm.bench.plan import plan_cells
from tinylm.bench.sweep import run_worker
from tinylm.bench.worker import CellJob
settings = SweepConfig(backend="null", warmup_s=0, min_duration_s=60, max_duration_s=60)
run_worker(CellJob(cell=plan_cells(settings, ["none"])[0], sweep=settings))
""",
}


@pytest.mark.parametrize("child", STARTS)
def test_what_a_killed_process_started_ends(child: str, tmp_path: Path) -> None:
    """At any moment: what a killed run left would be measured with the next one's first cells."""
    adapters = str(Path(peers.__file__).parent / "adapters")
    (tmp_path / "adapter").write_text(ADAPTER.format(adapters=adapters))
    (tmp_path / "converter").write_text(CONVERTER)
    (tmp_path / "converter").chmod(0o755)
    orphan_of(STARTS[child].format(folder=str(tmp_path)), child).wait(timeout=10)


FAMILY = """#!/bin/sh
sleep 300 & echo $! >> pids
(setsid sleep 300 & echo $! >> pids)
trap '' TERM INT HUP
sh -c 'sleep 300 & echo $! >> pids; echo $$ >> pids; touch ready; wait' &
{ending}
"""


@pytest.fixture
def start_family(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return what writes a converter with children, one of them in a session of its own, and grandchildren."""

    def write(ending: str) -> None:
        (tmp_path / "converter").write_text(FAMILY.format(ending=ending))
        (tmp_path / "converter").chmod(0o755)

    yield write
    for pid in (tmp_path / "pids").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in 10 s")


def is_gone(folder: Path) -> bool:
    pids = (folder / "pids").read_text().split()
    assert len(pids) == 4
    return not any(psutil.pid_exists(int(pid)) for pid in pids)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_converter_started_ends_with_a_killed_run(
    how: signal.Signals, start_family: Callable[[str], None], tmp_path: Path
) -> None:
    start_family("wait")
    code = STARTS["converter"].format(folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as parent:
        wait_until((tmp_path / "ready").exists)
        parent.send_signal(how)
    wait_until(lambda: is_gone(tmp_path))


@pytest.mark.parametrize("ending", ["exit 3", "kill -9 $$"])
def test_what_a_converter_started_ends_with_it(
    ending: str, start_family: Callable[[str], None], tmp_path: Path
) -> None:
    start_family(f"while ! test -e ready; do sleep 0.01; done; {ending}")
    done = family.run_family([str(tmp_path / "converter")], tmp_path, 60)
    assert done.returncode == {"exit 3": 3, "kill -9 $$": 128 + 9}[ending]
    assert is_gone(tmp_path)


def test_what_a_slow_converter_started_ends_with_its_time(start_family: Callable[[str], None], tmp_path: Path) -> None:
    start_family("wait")
    with pytest.raises(subprocess.TimeoutExpired):
        family.run_family([str(tmp_path / "converter")], tmp_path, 2)
    assert is_gone(tmp_path)


@pytest.mark.parametrize("module", [bulk, worker])
def test_what_measures_ends_with_what_started_it(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parents: list[int] = []
    monkeypatch.setattr(module, "end_with_parent", parents.append)
    monkeypatch.setattr("sys.argv", ["", "4711"])
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    with pytest.raises(ValidationError):
        module.main()
    assert parents == [4711]
