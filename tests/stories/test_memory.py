"""Memory does not grow with the number of rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kill_job import ROOT

CHILD = """
import resource, sys
sys.path[:0] = [{root!r}, {here!r}]
from fake_engine import FakeEngine, FakeInfo
from tinylm.stories import GenerateJob, generate_file
job = GenerateJob(prompts=(sys.argv[1],), output=sys.argv[2], shard_rows=500)
generate_file(job, engine=FakeEngine(info=FakeInfo(2, 64)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kilobytes(folder: Path, rows: int) -> int:
    prompts = folder / f"{rows}.txt"
    prompts.write_text("".join(f"Story {row} began {'long ago ' * 10}\n" for row in range(rows)))
    code = CHILD.format(root=str(ROOT), here=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(prompts), str(folder / str(rows))]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_ten_times_the_rows_in_the_same_memory(tmp_path: Path) -> None:
    few, many = peak_kilobytes(tmp_path, 4_000), peak_kilobytes(tmp_path, 40_000)
    assert many < few + 10_000, (few, many)
