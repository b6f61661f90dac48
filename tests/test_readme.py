"""The README promises commands, targets, deployments and files: they exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from tinylm.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def of(program: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in SHELL if line.startswith(f"{program} ")]


@pytest.mark.parametrize("words", of("tinylm"), ids=" ".join)
def test_tinylm_commands_exist_with_their_options(words: list[str]) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert words[0] in commands
    known = {flag for parameter in commands[words[0]].params for flag in parameter.opts}
    assert {word for word in words[1:] if word.startswith("--")} <= known


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_make_targets_and_variables_exist(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE)
    for word in words[1:]:
        assert f"$({word.split('=')[0]}" in makefile


def test_deployments_exist() -> None:
    known = {d["name"] for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    named = {words[2].split("/")[1] for words in of("prefect")}
    assert named
    assert named <= known
    assert {name.split("/")[1] for name in re.findall(r"^\| `(\w+/[\w-]+)` \|", README, re.MULTILINE)} == known


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
