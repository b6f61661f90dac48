"""Prefect's child processes end with the process that started them, however that one ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PARENT = """
import os, sys, time
from pathlib import Path
from tinylm.prefect_processes import PrefectProcesses, api_url, free_port, prefect_environment

root, how = Path(sys.argv[1]), sys.argv[2]
processes = PrefectProcesses(root, prefect_environment(root, os.environ) | {"PREFECT_API_URL": api_url(free_port())})
getattr(processes, how)("server", "server", "start", "--port", str(free_port()))
print(processes.children["server"].pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["start", "load"])
def test_no_child_outlives_a_killed_parent(how: str, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), how], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        child.wait(timeout=30)
