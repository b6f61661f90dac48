"""`tinylm artifacts`: what the store holds, whether it is whole, and what may go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from tinylm.cli.base import ArtifactsDir, Json, Output, open_store
from tinylm.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from tinylm.artifacts import Store

__all__ = ["add_to"]

group = typer.Typer(help="The artifact store: list, show, verify, clean.", no_args_is_help=True)


def _store_with(stage: str | None, artifacts: Path) -> Store:
    """Return the store. Raises: ConfigError if it has nothing of `stage`."""
    store = open_store(artifacts)
    if stage is not None and stage not in store.stages():
        raise ConfigError(f"no stage {stage!r} in {artifacts}; found: {', '.join(store.stages()) or 'nothing'}")
    return store


def _check_there(artifacts: Path) -> None:
    """Raise ConfigError if there is no store: what was never looked at must not seem whole, or clean."""
    if not artifacts.is_dir():
        raise ConfigError(f"--artifacts: found no folder {artifacts}; check the path")


@group.command("ls")
def list_artifacts(
    stage: Annotated[str | None, typer.Argument(help="Only this stage.")] = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """List the published artifacts, oldest first."""
    out = Output(json_output)
    table = Table("artifact", "published", "size", "made in", box=None)
    rows = []
    for ref in _store_with(stage, artifacts).entries(stage):
        manifest = ref.manifest
        when = manifest.published_at[:19].replace("T", " ")
        table.add_row(str(ref), when, decimal(manifest.size_bytes), f"{manifest.wall_s:.1f} s")
        rows.append({"artifact": str(ref), "path": str(ref.path), "size_bytes": manifest.size_bytes})
    out.show(table if rows else f"nothing published in {artifacts}")
    out.result({"artifacts": rows})


@group.command("show")
def show_artifact(
    name: Annotated[str, typer.Argument(help="stage/key, a key, or the start of one.")],
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Show an artifact's manifest: settings, inputs, files, figures."""
    out = Output(json_output)
    ref = open_store(artifacts).find(name)
    out.line(f"{ref}  {ref.path}")
    out.line(ref.manifest.model_dump_json(indent=2))
    out.result({"path": str(ref.path)} | ref.manifest.model_dump(mode="json"))


@group.command("verify")
def verify_artifacts(
    stage: Annotated[str | None, typer.Argument(help="Only this stage.")] = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Read every byte and compare it with the manifests; exit code 1 when something is damaged."""
    out = Output(json_output)
    store = _store_with(stage, artifacts)
    _check_there(artifacts)
    result = store.verify(stage)
    damaged = [problem for problem in result.values() if problem]
    for name, problem in result.items():
        out.line(f"{'damaged' if problem else 'whole  '}  {name}")
    out.result({"checked": len(result), "damaged": damaged})
    if damaged:
        raise ArtifactError("; ".join(damaged))


@group.command("gc")
def collect_garbage(
    keep: Annotated[int, typer.Option(min=0, help="Newest kept per stage, with all they were made from.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Remove old artifacts and what killed processes left behind, unfinished training included."""
    out = Output(json_output)
    store = open_store(artifacts)
    _check_there(artifacts)
    removed = store.gc(keep, dry_run=dry_run)
    for path in removed:
        out.line(f"{'would remove' if dry_run else 'removed'} {path}")
    out.result({"removed": [str(path) for path in removed], "dry_run": dry_run})


def add_to(app: typer.Typer) -> None:
    """Add the command group to `app`."""
    app.add_typer(group, name="artifacts")
