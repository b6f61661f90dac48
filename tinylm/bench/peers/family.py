"""A program of others and all that it starts: nothing of it outlives its work, nor whoever wanted it done.

What is left of a converter would be measured with the next cells. A keeper stands between caller and program: the
system tells it of the caller's end, however that came, and hands it those of the family whose own parent ended, also
those that left the session or the process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psutil

__all__ = ["run_family"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_REAP_S = 0.1  # chosen: an orphan becomes a child of the keeper a moment after its parent's end
_HARNESS = Path(__file__).parent / "adapters" / "harness.py"


def run_family(command: Sequence[str], folder: Path, limit_s: float) -> subprocess.CompletedProcess[str]:
    """Run `command` in `folder` and return what it said; then, or when this process ends, its whole family ends.

    Raises: OSError if it cannot be started; subprocess.TimeoutExpired.
    """
    keeper = [sys.executable, __file__, str(os.getpid()), *command]
    with subprocess.Popen(keeper, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said, complained = process.communicate(timeout=limit_s)
        except BaseException:
            process.terminate()  # not killed: the keeper has a family to end
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    for each in _STOPS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def _end_family() -> None:
    while family := psutil.Process().children(recursive=True):
        for process in family:
            with contextlib.suppress(psutil.Error):  # it ended by itself
                process.kill()
        psutil.wait_procs(family, _REAP_S)


def _keep(parent_pid: int, command: Sequence[str]) -> int:
    """Run `command` and return its exit code; whatever ends this, also a signal, ends the family first."""
    for number in _STOPS:
        signal.signal(number, _stop)
    system = ctypes.CDLL(None)
    system.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    system.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it ended before this was asked for
        return 128 + signal.SIGTERM
    try:
        # Through the harness, for a keeper that is killed itself: then at least the program ends with it.
        code = subprocess.Popen([sys.executable, str(_HARNESS), str(os.getpid()), *command]).wait()
        return code if code >= 0 else 128 - code
    finally:
        _end_family()


if __name__ == "__main__":  # family.py PARENT_PID PROGRAM ARGUMENT...
    sys.exit(_keep(int(sys.argv[1]), sys.argv[2:]))
