"""Commands that make a model: `run`, `train`, and `up` for scheduled runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.base import ArtifactsDir, Json, Output, open_store

if TYPE_CHECKING:
    from tinylm.artifacts import ArtifactRef

__all__ = ["add_to"]

Corpus = Annotated[
    list[str] | None,
    typer.Option(help="Text to train on: file, glob or folder; may be given several times.", show_default="profile's"),
]
Valid = Annotated[
    list[str] | None, typer.Option(help="Validation text of its own, never trained on.", show_default="held out")
]
Preset = Annotated[str | None, typer.Option(help="Shape of the model, by name.", show_default="profile's")]
Minutes = Annotated[float | None, typer.Option(help="Minutes of training.", show_default="profile's")]
Seed = Annotated[int | None, typer.Option(help="Seed of the training.", show_default="profile's")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting of the profile: table.key=value.", show_default=False),
]


def run(
    profile: Annotated[str, typer.Option(help="Named profile, or a .toml file.")] = "quickstart",
    corpus: Corpus = None,
    valid: Valid = None,
    preset: Preset = None,
    minutes: Minutes = None,
    seed: Seed = None,
    settings: Settings = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    reports: Annotated[Path, typer.Option(help="Folder that reports are published in.")] = Path("reports"),
    json_output: Json = False,
) -> None:
    """Run the whole chain, text to stories and report, in this process; what is current is reused."""
    from tinylm.pipeline import load_profile, profile_changes, run_pipeline
    from tinylm.progress import terminal_progress

    out = Output(json_output)
    changes = profile_changes(corpus or (), valid or (), preset, minutes, seed, settings or ())
    chosen = load_profile(profile, changes)
    result = run_pipeline(chosen, open_store(artifacts), reports, terminal_progress(), lambda ref: _tell(out, ref))
    out.line()
    out.line(result.text())
    out.result(result.as_dict())


def train(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the model, its checkpoint and metrics.")],
    profile: Annotated[str, typer.Option(help="Profile that the other settings come from.")] = "story",
    corpus: Corpus = None,
    valid: Valid = None,
    preset: Preset = None,
    minutes: Minutes = None,
    seed: Seed = None,
    settings: Settings = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Train a model on your text and export it: out/model.safetensors and out/checkpoint/."""
    from tinylm.pipeline import load_profile, profile_changes, train_model
    from tinylm.progress import terminal_progress

    out = Output(json_output)
    changes = profile_changes(corpus or (), valid or (), preset, minutes, seed, settings or ())
    chosen = load_profile(profile, changes)
    refs = train_model(chosen, open_store(artifacts), terminal_progress(), lambda ref: _tell(out, ref))
    out_dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(refs["train"].path, out_dir / "checkpoint", dirs_exist_ok=True)
    model = Path(shutil.copy2(refs["model"].path / "model.safetensors", out_dir))
    summary: dict[str, Any] = refs["model"].summary
    out.line(f"model  {model}  {summary['bpb_after']:.4f} bits per byte on validation text")
    out.result(
        {"model": str(model), "checkpoint": str(out_dir / "checkpoint"), "training": refs["train"].summary} | summary
    )


def up(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the Prefect server.")] = 4200,
) -> None:
    """Bring up what deployments need: Prefect server, process pool, worker, the deployments; Ctrl-C ends all."""
    from tinylm.up import supervise

    supervise(Path.cwd(), port, os.environ, print)


def _tell(out: Output, ref: ArtifactRef) -> None:
    out.line(f"{ref.stage:<12} {'reused' if ref.reused else 'run':<6} {ref.seconds:8.1f} s  {ref.key}")


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    panel = "Pipeline"
    app.command("run", rich_help_panel=panel)(run)
    app.command("up", rich_help_panel=panel)(up)
    app.command("train", rich_help_panel=panel)(train)
