"""Memory does not grow with the number of rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kill_job import ROOT

CHILD = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
from fake_engine import FakeEngine, FakeInfo
from tinylm.bench.activity import peak_rss_bytes
from tinylm import GenerateJob, generate_file
job = GenerateJob(prompts=(sys.argv[1],), output=sys.argv[2], shard_rows=500)
generate_file(job, engine=FakeEngine(info=FakeInfo(2, 64)))
print(peak_rss_bytes() // 1000)
"""


def peak_kilobytes(folder: Path, rows: int, samples: int) -> int:
    prompts = folder / f"{rows}.jsonl"
    row = '{{"prompt": "Story {} began {}", "samples": {}}}\n'
    prompts.write_text("".join(row.format(number, "long ago " * 10, samples) for number in range(rows)))
    code = CHILD.format(root=str(ROOT), here=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(prompts), str(folder / str(rows))]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# The smaller job is already long enough to have filled every queue and buffer: up to 4,000 rows
# of output memory still rises to its level, from there on it must stay.
@pytest.mark.parametrize(("rows", "samples", "times"), [(5_000, 1, 8), (3_000, 10, 4)])
def test_more_rows_in_the_same_memory(rows: int, samples: int, times: int, tmp_path: Path) -> None:
    few, many = peak_kilobytes(tmp_path, rows, samples), peak_kilobytes(tmp_path, times * rows, samples)
    assert many < few + 5_000, (few, many)
