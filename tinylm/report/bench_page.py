"""The benchmark report: a pure function of a run's tables and of earlier runs'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.bench.audit import audit_run
from tinylm.bench.compare import Comparison, comparable, compare_runs, is_steady
from tinylm.bench.histograms import samples_needed
from tinylm.bench.measure import LATE_SHARE
from tinylm.bench.schema import TABLES
from tinylm.bench.store import Run, read_run
from tinylm.errors import DataError
from tinylm.report import comparison_figures, latency_figures, resource_figures, throughput_figures
from tinylm.report.chart_parts import load_name, replicas_text, speed
from tinylm.report.fact_rows import machine_rows, setting_rows
from tinylm.report.figure import Figure
from tinylm.report.page import write_page
from tinylm.report.view import Family, PointView, RunView
from tinylm.report.words import bytes_text, count_text, duration, percent

__all__ = ["baseline_of", "render_report"]


@dataclass(frozen=True)
class Section:
    """A heading with figures under it."""

    name: str
    title: str
    text: str
    figures: list[Figure]


def render_report(run_dir: Path, out_html: Path, history: Sequence[Path] = ()) -> dict[str, Any]:
    """Write the report of the run in `run_dir` and return its headline: verdict, regressions, best throughput.

    Args: history: folders of other runs, any order; the newest comparable one before this run is its baseline.
    """
    run = read_run(run_dir)
    earlier = _earlier(run, history)
    baseline = baseline_of(run, earlier)
    threshold = float(run.facts.get("settings", {}).get("regression_threshold", 0.05))
    comparison = compare_runs(baseline, run, threshold) if baseline else None
    view = RunView(run)
    headline = _headline(view, comparison)
    write_page(
        out_html,
        "report.html.j2",
        title=f"Benchmark {run.run_id}",
        facts=run.facts,
        view=view,
        headline=headline,
        comparison=comparison,
        numbers=_numbers(view),
        machine=_machine_lines(run),
        sections=_sections(view, comparison, [*(other for other in earlier if comparable(other, run)), run]),
        percentile_rows=_percentile_rows(view),
        flags=_flag_counts(view),
        audits=audit_run(run),
        settings=setting_rows(run.facts.get("settings", {})),
        machine_facts=machine_rows(run.facts["machine"]),
        columns=[(f.name, f.metadata[b"meaning"].decode()) for f in TABLES["cells"]],
        late_share=LATE_SHARE,
        needed=[(p, samples_needed(p)) for p in (50.0, 90.0, 99.0, 99.9)],
        load_name=load_name,
    )
    return headline


def baseline_of(run: Run, earlier: Sequence[Run]) -> Run | None:
    """Return the newest earlier run that `run` can be compared with; None without one.

    One that cannot be judged, as after a busy night, is passed over where there is another.
    """
    candidates = [candidate for candidate in reversed(earlier) if comparable(candidate, run)]
    return next(filter(is_steady, candidates), next(iter(candidates), None))


def _earlier(run: Run, history: Sequence[Path]) -> list[Run]:
    runs = {}
    for folder in history:
        try:
            other = read_run(folder)
        except DataError:
            continue
        if other.run_id < run.run_id:
            runs[other.run_id] = other
    return [runs[name] for name in sorted(runs)]


def _headline(view: RunView, comparison: Comparison | None) -> dict[str, Any]:
    best = view.best
    word = comparison.verdict if comparison else "first run"
    return {
        "run_id": view.run.run_id,
        "verdict": word,
        "reason": comparison.reason if comparison else "",
        "against": comparison.run_a if comparison else None,
        "regressions": [f"{change.label} {change.text}" for change in comparison.regressions] if comparison else [],
        "best_tokens_per_s": speed(best) if best else None,
        "best": f"{replicas_text(best.replicas)}, {load_name(best.load)}" if best else None,
        "failed": sum(cell["status"] == "failed" for cell in view.measured),
        "void": sum(cell["status"] == "void" for cell in view.measured),
        "cells": len(view.measured),
    }


def _numbers(view: RunView) -> list[tuple[str, str, str]]:
    """Return the first screen's figures: (label, value, remark)."""
    best = view.best
    if best is None:
        return []
    lightest = min(view.families[0].points, key=lambda p: p.median("requests_per_s") or 0.0)
    busiest = best.percentile("e2e", 99) or best.percentile("e2e", 90)
    name = "p99" if best.percentile("e2e", 99) else "p90"
    numbers = [
        (
            "Best throughput",
            f"{count_text(speed(best))}",
            f"tokens/s · {replicas_text(best.replicas)}, {load_name(best.load)}",
        ),
        ("First token", duration(lightest.percentile("ttft", 50)), f"median · {load_name(lightest.load)}"),
        (
            _request_name(view.run),
            duration(best.percentile("e2e", 50)),
            f"median at best throughput; {name} {duration(busiest)}",
        ),
    ]
    if share := best.median("limit_share"):
        numbers.append(("Share of the limit", percent(share), "of what this machine could do"))
    if quality := best.median("bits_per_byte"):
        numbers.append(
            ("Quality", f"{quality:.3f}", f"bits per byte on {_judged_text(best, view.run)}; lower is better")
        )
    numbers.append(("Peak memory", bytes_text(best.median("peak_rss_bytes")), "of the whole process"))
    return numbers


def _request_name(run: Run) -> str:
    """Return what a request brings: so many tokens, or a story that may end before."""
    options = run.facts["settings"]["options"]
    tokens = f"{options['max_new_tokens']} tokens"
    return f"{tokens}, end to end" if options["ignore_eos"] else f"A story of at most {tokens}"


def _judged_text(point: PointView, run: Run) -> str:
    """Return the text that the point's model was judged on; its training may have been judged on more."""
    digest = point.cells[0]["model_digest"]
    size = next((m.get("validation_bytes") for m in run.facts["models"] if m.get("digest") == digest), None)
    return f"at most {bytes_text(size)} of held-out text" if size else "held-out text"


def _machine_lines(run: Run) -> list[str]:
    machine = run.facts["machine"]
    cores = f"{machine['usable_cores']} cores"
    virtual = ", virtual machine" if machine.get("virtual") else ""
    isa = sorted({str(cell["isa"]) for cell in run.cells if cell["isa"]} - {"none"})
    lines = [str(machine["cpu"]), f"{cores}{virtual}, {bytes_text(machine['memory_bytes'])} memory"]
    lines += [f"kernels: {', '.join(isa)}"] if isa else []
    for model in run.facts.get("models", ()):
        digest = f" · {model['digest'][:12]}" if model.get("digest") else ""
        lines.append(f"model: {model['name']} {model['precision'] if model['precision'] != 'none' else ''}{digest}")
    if commit := run.facts.get("git_commit"):
        lines.append(f"commit {commit[:12]}{' with local changes' if run.facts.get('git_dirty') else ''}")
    return lines


def _sections(view: RunView, comparison: Comparison | None, runs: Sequence[Run]) -> list[Section]:
    sections = []
    if comparison or len(runs) > 1:
        sections.append(_comparison_section(comparison, runs))
    many = len(view.families) > 1
    for number, family in enumerate(view.families):
        suffix = f" · {family.label}" if many else ""
        sections += _family_sections(family, f"-{number}" if many else "", suffix)
    return [section for section in sections if section.figures]


def _family_sections(family: Family, key: str, suffix: str) -> list[Section]:
    loads = [load for load in family.loads() if any(p.histograms["e2e"].count for p in family.of_load(load))]
    curves = [load for load in loads if any(p.percentile("e2e", 50) for p in family.of_load(load))]
    throughput = [throughput_figures.scaling(family)]
    if len(family.replicas) > 1:
        throughput.append(throughput_figures.efficiency(family))
    resources = [
        throughput_figures.limits(family),
        resource_figures.step_parts(family),
        resource_figures.memory(family),
    ]
    return [
        Section(f"throughput{key}", f"Throughput{suffix}", "", throughput),
        Section(
            f"latency{key}",
            f"Latency{suffix}",
            "End to end, from the moment a request was due to its last token. One panel per replica count; panels of "
            "one load share their axes.",
            [latency_figures.histograms(family, load) for load in loads],
        ),
        Section(
            f"tail{key}",
            f"The tail{suffix}",
            "Lines end where fewer than ten requests lie beyond: further out is chance.",
            [*([latency_figures.latency_against_load(family)] if curves else [])]
            + [latency_figures.percentile_curves(family, load) for load in curves],
        ),
        Section(f"resources{key}", f"Resources{suffix}", "", [figure for figure in resources if figure]),
    ]


def _comparison_section(comparison: Comparison | None, runs: Sequence[Run]) -> Section:
    figures = [comparison_figures.changes(comparison)] if comparison else []
    if len(runs) > 1:
        figures.append(comparison_figures.trend(runs[-20:]))
    return Section("comparison", "Compared with earlier runs", "", figures)


def _percentile_rows(view: RunView) -> list[dict[str, Any]]:
    return [_percentile_row(family, point) for family in view.families for point in family.points]


def _percentile_row(family: Family, point: PointView) -> dict[str, Any]:
    cpu = [c["cpu_s"] / c["duration_s"] for c in point.cells if c["cpu_s"] is not None]
    return {
        "family": family.label,
        "replicas": point.replicas,
        "load": load_name(point.load),
        "requests": sum(int(cell["requests"]) for cell in point.cells),
        "tokens_per_s": speed(point),
        "occupancy": point.median("occupancy"),
        "cpu": sum(cpu) / len(cpu) if cpu else None,
        "latencies": [
            (metric, [(p, point.percentile(metric, p)) for p in (50.0, 90.0, 99.0, 99.9)])
            for metric in ("queue", "ttft", "itl", "e2e")
        ],
    }


def _flag_counts(view: RunView) -> list[tuple[str, int, int]]:
    cells = view.measured
    names = sorted({flag for cell in cells for flag in cell["flags"] or ()})
    return [(name, sum(name in (cell["flags"] or ()) for cell in cells), len(cells)) for name in names]
