"""What the command's tests share: a small shape, and ways to run a command."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from tinylm.cli import app
from tinylm.config import ModelConfig

SHAPE = ModelConfig(vocab_size=259, context_length=64, n_layers=2, n_heads=2, n_kv_heads=2, d_model=32, d_ff=64)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="tinylm")


def answer(*arguments: object) -> dict[str, Any]:
    """Return the JSON that `--json` printed, which must be the only line of standard output."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 1
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def refused(*arguments: object) -> str:
    """Return the one line that a command with bad input says, after checking that it is one and that the code is 2."""
    result = run(*arguments)
    assert result.exit_code == 2, f"exit code {result.exit_code}: {result.output}"
    lines = [line for line in result.stderr.splitlines() if line.startswith("tinylm: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]
