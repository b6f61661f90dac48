"""`tinylm bench` and `tinylm report`: measure a model on this machine, compare runs, show them."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.base import ArtifactsDir, Corpus, Json, ModelPath, Output, Valid, check_folder, find_model, open_store

__all__ = ["add_to"]

group = typer.Typer(help="Measure speed: a sweep over replicas and load, its report, two runs compared.")

ReportsDir = Annotated[Path, typer.Option("--reports", help="Folder that reports are published in.")]


class Plan(StrEnum):
    """How much a sweep measures."""

    quick = "quick"
    full = "full"


@group.command("run")
def run_bench(
    model: ModelPath = None,
    plan: Annotated[Plan, typer.Option(help="quick: half a minute; full: some ten minutes.")] = Plan.full,
    replicas: Annotated[
        list[int] | None, typer.Option(help="Replica counts; repeatable.", show_default="1 2 4")
    ] = None,
    load: Annotated[
        list[str] | None, typer.Option(help="closed:N, open:RATE/s or :SHARE%, fixed: alike, offline:N; repeatable.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Times each cell is run.", show_default="plan's")] = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    reports: ReportsDir = Path("reports"),
    json_output: Json = False,
) -> None:
    """Run a sweep and publish its report."""
    from tinylm import stages
    from tinylm.bench.config import SweepConfig
    from tinylm.config import parse
    from tinylm.progress import terminal_progress

    out = Output(json_output)
    check_folder("--reports", reports)
    base = SweepConfig.quick() if plan is Plan.quick else SweepConfig()
    given = {"replicas": replicas, "loads": load, "repeats": repeats}
    changes = {name: value for name, value in given.items() if value}
    config = parse(SweepConfig, base.model_dump() | changes, "bench run")
    store, progress = open_store(artifacts), terminal_progress()
    native = stages.native(store, progress)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    sweep = stages.sweep(store, config, find_model(model, artifacts), native, progress, occasion=now)
    report = stages.report(store, sweep, progress)
    page = stages.publish_report(report, sweep, reports)
    for name, value in report.summary.items():
        out.line(f"{name:<18} {value}")
    out.line(f"report  {page}")
    out.result(report.summary | {"report": str(page), "run_dir": str(page.parent)})


@group.command("find-rate")
def find_highest_rate(
    slo: Annotated[str, typer.Option(help="Bound to keep, such as p99_e2e=500ms.")] = "p99_e2e=500ms",
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables of all probes.")] = Path("rates"),
    model: ModelPath = None,
    replicas: Annotated[
        list[int] | None, typer.Option(help="Replica counts; repeatable.", show_default="1 2 4")
    ] = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Find the highest rate of Poisson arrivals that keeps a latency bound, for each replica count."""
    from tinylm.bench import SweepConfig, find_rate
    from tinylm.config import parse
    from tinylm.progress import terminal_progress

    out = Output(json_output)
    check_folder("--out", out_dir)
    config = parse(SweepConfig, {"replicas": replicas} if replicas else {}, "bench find-rate")
    found = find_rate(config, find_model(model, artifacts), out_dir, terminal_progress(), slo=slo)
    for setup, rate in found["rates_rps"].items():
        out.line(f"{setup:<32} {rate:.2f} requests/s within {slo}")
    out.result(found)


@group.command("limits")
def bench_limits(artifacts: ArtifactsDir = Path("artifacts"), json_output: Json = False) -> None:
    """Measure what this machine can do at most; later sweeps show their speed as a share of it."""
    from tinylm.bench.limits import measure_limits, store_limits
    from tinylm.machine import measure_macs, measure_read

    out = Output(json_output)
    check_folder("--artifacts", artifacts)
    limits = measure_limits(measure_macs, measure_read)
    store_limits(artifacts, limits)
    for threads, peaks in limits.macs_per_s.items():
        for kind, rate in peaks.items():
            out.line(f"{threads} threads  {kind:<6} {rate / 1e9:8.1f} GMAC/s")
        for size, rate in limits.read_bytes_per_s[threads].items():
            out.line(f"{threads} threads  read {size >> 20:>4} MB per thread {rate / 1e9:8.1f} GB/s")
    out.result(limits.model_dump(mode="json"))


@group.command("bulk")
def bench_bulk(
    rows: Annotated[
        list[int] | None, typer.Option(min=1, help="Rows of a job; repeatable.", show_default="10000 100000")
    ] = None,
    model: ModelPath = None,
    openings: Annotated[
        Path | None, typer.Option(help="Text file, one opening a line.", show_default="the presets'")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each story.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Times each job is run.")] = 1,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Run bulk jobs and, in turns with each, the engine alone: how much of its speed a job reaches, in what memory."""
    from tinylm.bench.bulk import BulkCell, run_bulk
    from tinylm.progress import terminal_progress

    out, path = Output(json_output), find_model(model, artifacts)
    sizes = [count for _ in range(rounds) for count in rows or (10_000, 100_000)]
    cells = [BulkCell(model=path, openings=openings, rows=count, new_tokens=tokens) for count in sizes]
    told = []
    for found in run_bulk(cells, terminal_progress()):
        out.line(
            f"{found.rows:>9,} rows: job {found.job_tokens_per_s:,.0f} tokens/s, engine alone "
            f"{found.engine_tokens_per_s:,.0f}, share {found.share:.1%} (turns {min(found.turn_shares):.1%} to "
            f"{max(found.turn_shares):.1%}, by CPU time {found.cpu_share:.1%}), slots {found.occupancy:.1%} full, peak "
            f"memory {found.peak_rss_bytes / 1e6:.1f} MB, other processes {found.others_share:.1%} of the machine"
        )
        told.append(found.model_dump(mode="json"))
    out.result({"jobs": told})


@group.command("peers")
def bench_peers(
    environment: Annotated[Path, typer.Option("--env", help="The peers' virtual environment.")] = Path(".venv-peers"),
    work_dir: Annotated[Path, typer.Option("--work", help="Folder of the converted models.")] = Path("build/peers"),
    preset: Annotated[list[str] | None, typer.Option(help="Shapes; repeatable.", show_default="three")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 5,
    anew: Annotated[bool, typer.Option("--anew", help="Begin anew, though a stopped comparison could go on.")] = False,
    reports: ReportsDir = Path("reports"),
    json_output: Json = False,
) -> None:
    """Run the same models and workloads in this engine and in others, in interleaved rounds. A stopped one goes on."""
    from tinylm.bench.limits import measure_limits
    from tinylm.bench.peers.resume import identity, stopped_run
    from tinylm.bench.peers.run import PEER_PRESETS, run_peers
    from tinylm.errors import StageError
    from tinylm.machine import measure_macs, measure_read
    from tinylm.progress import terminal_progress

    out, presets = Output(json_output), preset or PEER_PRESETS
    for option, folder in (("--work", work_dir), ("--reports", reports)):
        check_folder(option, folder)
    stopped = None if anew else stopped_run(reports, identity(environment, presets, rounds, seed=0))
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = stopped.folder if stopped else reports / f"{now}-peers"
    page = folder / "peers.html"
    if stopped:
        out.line(f"goes on with round {stopped.facts['rounds_done'] + 1} of {rounds} of {folder}")
    try:
        told = run_peers(
            work_dir,
            environment,
            folder,
            terminal_progress(),
            presets=presets,
            rounds=rounds,
            measure_limits=lambda: measure_limits(measure_macs, measure_read),
        )
    except (KeyboardInterrupt, StageError) as stop:
        some = _render_peers(folder, reports)
        if isinstance(stop, KeyboardInterrupt):
            command = "without --anew, the same command" if anew else "the same command"
            left = f"{page} has its whole rounds; {command} goes on" if some else "no round was whole"
            stop.args = (f"stopped; {left}",)
        raise
    _render_peers(folder, reports)
    for what, reason in told["missing"].items():
        out.line(f"not measured: {what}: {reason}")
    out.line(f"report  {page}")
    out.result(told | {"report": str(page)})


def _render_peers(folder: Path, reports: Path) -> bool:
    """Write the page of a comparison's whole rounds; return whether there are any."""
    from tinylm.report import render_index, render_peers

    if not (folder / "run.json").exists():
        return False
    render_peers(folder, folder / "peers.html")
    render_index(reports)
    return True


@group.command("training")
def bench_training(
    corpus: Corpus = None,
    valid: Valid = None,
    minutes: Annotated[float, typer.Option(min=0.01, max=100_000, help="Budget of the plain recipe.")] = 2.0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each recipe.")] = 3,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the runs.")] = Path("build/training"),
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Compare the recipe with a plain GPT-2, tuned: takes some fourteen times the minutes. A stopped one goes on."""
    from dataclasses import asdict

    from tinylm import stages
    from tinylm.pipeline import FITTED_FROM, load_profile, profile_changes
    from tinylm.progress import terminal_progress
    from tinylm.train.compare import compare_recipes

    out = Output(json_output)
    check_folder("--out", out_dir)
    profile = load_profile(FITTED_FROM, profile_changes(corpus or (), valid or ()))
    store, progress = open_store(artifacts), terminal_progress()
    text = stages.corpus(store, profile.corpus, progress)
    tokenizer = stages.tokenizer(store, profile.tokenizer, text, progress)
    tokens = stages.tokens(store, text, tokenizer, progress)
    stages.native(store, progress)
    runs, lines = compare_recipes(
        tokens.path, tokenizer.path / "tokenizer.model", out_dir / tokens.key, minutes, range(seeds), progress
    )
    for line in lines:
        out.line(line)
    out.result({"summary": lines, "runs": [asdict(each) for each in runs]})


@group.command("compare")
def compare_bench(
    before: Annotated[Path, typer.Argument(help="Folder of the earlier run.")],
    after: Annotated[Path, typer.Argument(help="Folder of the later run.")],
    threshold: Annotated[float, typer.Option(min=0.001, max=0.9, help="Change that counts, as a share.")] = 0.05,
    json_output: Json = False,
) -> None:
    """Say whether the later run is faster or slower, with confidence intervals; exit code 1 on a regression."""
    from tinylm.bench.compare import compare_runs
    from tinylm.bench.store import read_run
    from tinylm.errors import StageError

    out = Output(json_output)
    comparison = compare_runs(read_run(before), read_run(after), threshold)
    for change in comparison.changes:
        out.line(f"{change.label}: {change.text}, {change.word}")
    out.line(f"verdict: {comparison.verdict}")
    regressions = [f"{change.label} {change.text}" for change in comparison.regressions]
    out.result({"verdict": comparison.verdict, "regressions": regressions})
    if regressions:
        raise StageError(f"slower than {before}: {'; '.join(regressions)}")


def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run: its Parquet tables and run.json.")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    history: Annotated[list[Path] | None, typer.Option(help="Folders of earlier runs; repeatable.")] = None,
    json_output: Json = False,
) -> None:
    """Write the HTML report of a run from its tables."""
    from tinylm.report import render_report

    out = Output(json_output)
    headline = render_report(run_dir, out_file, history or [])
    out.line(f"{out_file}  {headline['verdict']}")
    out.result(headline | {"report": str(out_file)})


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    panel = "Measuring"
    app.add_typer(group, name="bench", rich_help_panel=panel, no_args_is_help=True)
    app.command("report", rich_help_panel=panel)(report)
