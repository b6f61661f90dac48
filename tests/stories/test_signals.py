"""Ctrl-C and its relatives: the command stops within five seconds, keeps whole shards, and goes on when run again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kill_job import ROOT, digests

ROWS = 1500
BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
# One slot of one replica writes 20 of 1,500 rows before the signal; the text is that of the whole engine.
SLOWLY = ["--replicas", 1, "--max-batch", 1]
LATE = "import atexit, os; atexit.register(os.kill, os.getpid(), {number}); "


def command(model: Path, prompts: Path, output: Path, *more: Any, before: str = "") -> list[str]:
    settings = ["--model", model, "--prompts", prompts, "--out", output, "--max-new-tokens", 40, "--ignore-eos"]
    code = f"{before}from tinylm.cli import main; main()"
    return [sys.executable, "-c", code, "generate", *(str(part) for part in [*settings, "--shard-rows", 20, *more])]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_stopped_command_goes_on(number: signal.Signals, code: int, story_model: Path, tmp_path: Path) -> None:
    prompts, output, calm = tmp_path / "prompts.jsonl", tmp_path / "job" / "stories", tmp_path / "calm" / "stories"
    prompts.write_text("".join(f'{{"prompt": "Once upon a time, {row}"}}\n' for row in range(ROWS)) + "{\n")
    started_s = time.monotonic()
    child = subprocess.Popen(
        command(story_model, prompts, output, *SLOWLY), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while child.poll() is None and not list(output.glob("part-*")):
        time.sleep(0.01)
    child.send_signal(number)
    asked_s = time.monotonic()
    _, said = child.communicate(timeout=60)
    # A machine that is busy with other work is slow to start the command, and slow to end it.
    assert time.monotonic() - asked_s < max(5, 3 * (asked_s - started_s))
    assert child.returncode == code, said
    assert "goes on where it was" in said
    assert 0 < len(list(output.glob("part-*"))) < ROWS / 20
    assert not [path for path in output.iterdir() if ".tmp-" in path.name]
    again = run(command(story_model, prompts, output))
    assert again.returncode == 2
    assert f"prompts.jsonl line {ROWS + 1}: not JSON" in again.stderr
    assert run(command(story_model, prompts, calm)).returncode == 2
    assert digests(tmp_path / "calm") == digests(tmp_path / "job")


@pytest.mark.parametrize("number", [number for number, _ in BOTH])
def test_signal_after_the_last_row_changes_nothing(number: signal.Signals, story_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Once upon a time\n")
    late = run(command(story_model, prompts, tmp_path / "stories", before=LATE.format(number=int(number))))
    assert late.returncode == 0, late.stderr
    assert "Traceback" not in late.stderr
    assert "KeyboardInterrupt" not in late.stderr
    assert (tmp_path / "stories" / "_manifest.json").is_file()
