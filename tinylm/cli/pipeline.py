"""Commands that make a model: `run`, `train`, and `up` for scheduled runs."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinylm.cli.base import ArtifactsDir, Corpus, Json, Output, Valid, check_folder, find_model, open_store
from tinylm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    check_folder("--reports", reports)
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
    from tinylm.pipeline import FITTED_FROM, base_changes, load_profile, profile_changes, train_model
    from tinylm.progress import terminal_progress

    if lora is not None and base is None:
        raise ConfigError("--lora changes a model that is there: name it with --from")
    if preset is not None and base is not None:
        raise ConfigError("--preset: the model of --from has a shape already; leave one of them out")
    check_folder("--out", out_dir)
    out = Output(json_output)
    start = None if base is None else find_model(base, artifacts)
    changes = profile_changes(corpus or (), valid or (), preset, minutes, seed, settings or ())
    if lora is not None:
        changes["train.lora_rank"] = lora
    if start is not None:
        changes |= base_changes(start, profile or FITTED_FROM, changes)
    chosen = load_profile(profile or FITTED_FROM, changes)
    refs = train_model(
        chosen,
        open_store(artifacts),
        terminal_progress(),
        lambda ref: _tell(out, ref),
        base=start,
        fit_around=changes if profile is None and preset is None and base is None else None,
        tables=tables,
    )
    _hand_over(refs, out_dir, out)


def _hand_over(refs: Mapping[str, ArtifactRef], out_dir: Path, out: Output) -> None:
    """Copy the checkpoint and the exported model out of the store, and tell what they are worth."""
    from tinylm.artifacts import MODEL_FILE

    checkpoint, model = out_dir / "checkpoint", out_dir / MODEL_FILE
    out_dir.mkdir(parents=True, exist_ok=True)
    _copy_whole(refs["train"].path, checkpoint)
    _copy_whole(refs["model"].path / MODEL_FILE, model)
    trained, exported = refs["train"].summary, refs["model"].summary
    quality, cost = trained["valid_bits_per_byte"], exported["bpb_after"] - exported["bpb_before"]
    out.line(f"model  {model}  {quality:.4f} bits per byte on the validation text, and {cost:+.4f} for its rounding")
    out.result(exported | {"training": trained, "checkpoint": str(checkpoint), "model": str(model)})


def _copy_whole(source: Path, to: Path) -> None:
    """Copy a file, or a folder's files; each appears under its name when it is whole."""
    if source.is_dir():
        to.mkdir(exist_ok=True)
        for path in sorted(source.iterdir()):
            _copy_whole(path, to / path.name)
        return
    partial = to.with_name(f".{to.name}.partial")
    shutil.copy2(source, partial)
    partial.replace(to)


def up(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the Prefect server.")] = 4200,
) -> None:
    """Bring up what deployments need: Prefect server, process pool, worker, the deployments; Ctrl-C ends all."""
    from tinylm.up import supervise

    supervise(Path.cwd(), port, os.environ, partial(print, flush=True))  # a log file too says READY when it is


def _tell(out: Output, ref: ArtifactRef) -> None:
    out.line(f"{ref.stage:<12} {'reused' if ref.reused else 'run':<6} {ref.seconds:8.1f} s  {ref.key}")


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    panel = "Pipeline"
    app.command("run", rich_help_panel=panel)(run)
    app.command("up", rich_help_panel=panel)(up)
    app.command("train", rich_help_panel=panel)(train)
