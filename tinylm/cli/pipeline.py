"""Commands that make a model: `run`, `train`, and `up` for scheduled runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.base import ArtifactsDir, Corpus, Json, Output, Valid, find_model, open_store

if TYPE_CHECKING:
    from tinylm.artifacts import ArtifactRef

__all__ = ["add_to"]

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
    profile: Annotated[
        str | None, typer.Option(help="Profile of all settings.", show_default="fitted to text, minutes and machine")
    ] = None,
    corpus: Corpus = None,
    valid: Valid = None,
    preset: Annotated[str | None, typer.Option(help="Shape, by name.", show_default="fitted too")] = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="Fit a shape with lookup tables: learns more, opens in no other tool.")
    ] = False,
    minutes: Minutes = None,
    seed: Seed = None,
    base: Annotated[str | None, typer.Option("--from", help="Model to start from.", show_default="none")] = None,
    lora: Annotated[int | None, typer.Option(min=1, help="Rank of a low-rank change.", show_default="whole")] = None,
    settings: Settings = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Train a model on your text and export it: out/model.safetensors and out/checkpoint/."""
    from tinylm.errors import ConfigError
    from tinylm.pipeline import FITTED_FROM, load_profile, profile_changes, train_model
    from tinylm.progress import terminal_progress

    if lora is not None and base is None:
        raise ConfigError("--lora changes a model that is there: name it with --from")
    out = Output(json_output)
    changes = profile_changes(corpus or (), valid or (), preset, minutes, seed, settings or ())
    if lora is not None:
        changes["train.lora_rank"] = lora
    chosen = load_profile(profile or FITTED_FROM, changes)
    refs = train_model(
        chosen,
        open_store(artifacts),
        terminal_progress(),
        lambda ref: _tell(out, ref),
        base=None if base is None else find_model(base, artifacts),
        fit=profile is None and preset is None and base is None,
        tables=tables,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(refs["train"].path, out_dir / "checkpoint", dirs_exist_ok=True)
    model = Path(shutil.copy2(refs["model"].path / "model.safetensors", out_dir))
    summary: dict[str, Any] = refs["model"].summary
    quality, cost = refs["train"].summary["valid_bits_per_byte"], summary["bpb_after"] - summary["bpb_before"]
    out.line(f"model  {model}  {quality:.4f} bits per byte on the validation text, and {cost:+.4f} for its rounding")
    trained = {"training": refs["train"].summary, "checkpoint": str(out_dir / "checkpoint")}
    out.result(summary | trained | {"model": str(model)})


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
