"""What every adapter shares: a job as JSON on standard input, times as JSON on standard output."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Generate", "end_with_parent", "serve"]

_PR_SET_PDEATHSIG = 1  # prctl(2)

Prompts = Sequence[Sequence[int]]
Generate = Callable[[Prompts, int], int]  # continues each prompt by exactly n tokens; returns the tokens made


def serve(load: Callable[[dict[str, Any]], Generate]) -> None:
    """Load the engine, make one token, warm up, then time the workload.

    The job: model (path), threads, prompts (token ids), new_tokens, bulk (all prompts at once, else one after another),
    warmup_prompts (how many to warm up with), parent_pid (of the process that gave it).
    """
    job = json.loads(sys.stdin.read())
    begin_s = time.monotonic()
    generate = load(job)
    loaded_s = time.monotonic()
    prompts = job["prompts"]
    # Of the same lengths, and unlike the measured ones from their first token on: no engine may find those in a cache.
    others = [prompt[::-1] for prompt in prompts[: job["warmup_prompts"]]]
    generate(others[:1], 1)
    first_token_s = time.monotonic()
    end_with_parent(job["parent_pid"])  # not before: it takes milliseconds of what is measured
    batches, warm_up = ([part] if job["bulk"] else [[prompt] for prompt in part] for part in (prompts, others))
    for batch in warm_up:
        generate(batch, min(job["new_tokens"], 16))
    timed_s = time.monotonic()
    tokens = sum(generate(batch, job["new_tokens"]) for batch in batches)
    seconds = time.monotonic() - timed_s
    result = {
        "tokens": tokens,
        "seconds": seconds,
        "load_s": loaded_s - begin_s,
        "first_token_at_s": first_token_s,
        "peak_rss_bytes": _peak_rss_bytes(),
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")
    sys.stdout.flush()


def end_with_parent(parent_pid: int) -> None:
    """Have the system end this process with its parent: what a killed run leaves would spoil the figures of the next.

    Args: parent_pid: the parent's own os.getpid(), for a parent that ended before this was asked for.
    """
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _peak_rss_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":  # harness.py PARENT_PID PROGRAM ARGUMENT...: run a program that knows nothing of this
    end_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
