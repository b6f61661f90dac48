"""Kill a bulk job with SIGKILL at random moments, finish it, and compare its files with an undisturbed run's.

    python tests/stories/kill_job.py --rows 5000 --kills 100 [--model FILE] [--output stories.jsonl]

Without a model an engine of plain words answers, so that the kills meet reading, writing and renaming more
often than arithmetic.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARD_ROWS = 100


def main() -> None:
    """Run the script, or one job of it as its own child."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--model", default="")
    parser.add_argument("--output", default="stories", help="a folder's name, or a file's with its suffix")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, metavar=("PROMPTS", "OUTPUT"))
    asked = parser.parse_args()
    if asked.child:
        run_job(asked.child[0], asked.child[1], asked.model)
        return
    with tempfile.TemporaryDirectory(prefix="tinylm-kill-") as folder:
        done = kill_and_compare(Path(folder), asked.rows, asked.kills, asked.model, asked.output, asked.seed)
    print(f"{done} kills over {asked.rows} rows: final files identical, each row exactly once")  # noqa: T201


def run_job(prompts: str, output: str, model: str) -> None:
    """Run one job in this process."""
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    from fake_engine import FakeEngine

    from tinylm.config import GenerateOptions
    from tinylm.stories.generate import generate_file
    from tinylm.stories.job import GenerateJob

    options = GenerateOptions(max_new_tokens=24)
    job = GenerateJob(prompts=(prompts,), output=output, model=model, shard_rows=SHARD_ROWS, options=options)
    generate_file(job, engine=None if model else FakeEngine(delay_s=0.0005))


def kill_and_compare(folder: Path, rows: int, kills: int, model: str, output: str, seed: int) -> int:
    """Return the number of kills that hit a running job.

    Raises: AssertionError when a file differs, is half written, or a kill left the job unable to go on.
    """
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"Once upon a time, number {row} set out.\n" for row in range(rows)))
    started_s = time.monotonic()
    assert _child(prompts, folder / "reference" / output, model).wait() == 0
    whole_s = time.monotonic() - started_s
    expected, rng, hits, attempt = digests(folder / "reference"), random.Random(seed), 0, 0
    while hits < kills:
        attempt += 1
        home = folder / f"killed-{attempt}"
        hits += _kill_until_done(prompts, home / output, model, kills - hits, whole_s, rng)
        assert digests(home) == expected, f"the files differ after {hits} kills"
    return hits


def _kill_until_done(prompts: Path, output: Path, model: str, kills: int, whole_s: float, rng: random.Random) -> int:
    """Kill and restart one job until it ends; each kill comes anywhere from its start to a third of its length."""
    hits = 0
    while True:
        child = _child(prompts, output, model)
        try:
            code = child.wait(timeout=rng.uniform(0, whole_s / 3) if hits < kills else None)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            hits += 1
            continue
        assert code == 0, f"the job ended with {code} after {hits} kills"
        return hits


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder`, hidden ones too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _child(prompts: Path, output: Path, model: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--child", str(prompts), str(output), "--model", model]
    return subprocess.Popen(command, cwd=ROOT)


if __name__ == "__main__":
    main()
