"""Ctrl-C and its relatives: the command stops within five seconds, keeps whole shards, and goes on when run again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill_job import ROOT, digests

COMMAND = [sys.executable, "-c", "from tinylm.cli import main; main()", "generate"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_command_goes_on(number: signal.Signals, code: int, story_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "Once upon a time, {row}"}}\n' for row in range(1500)) + "{\n")
    settings = ["--model", story_model, "--prompts", prompts, "--max-new-tokens", "40", "--ignore-eos"]
    output = tmp_path / "job" / "stories"
    command = [str(part) for part in [*COMMAND, *settings, "--out", output]]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while child.poll() is None and not list(output.glob("part-*")):
        time.sleep(0.02)
    child.send_signal(number)
    asked_s = time.monotonic()
    _, said = child.communicate(timeout=60)
    assert time.monotonic() - asked_s < 5
    assert child.returncode == code, said
    assert "goes on where it was" in said
    assert not [path for path in output.iterdir() if ".tmp-" in path.name]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "prompts.jsonl line 1501: not JSON" in again.stderr
    calm = [str(part) for part in [*COMMAND, *settings, "--out", tmp_path / "calm" / "stories"]]
    assert subprocess.run(calm, cwd=ROOT, capture_output=True, check=False).returncode == 2
    assert digests(tmp_path / "calm") == digests(tmp_path / "job")
