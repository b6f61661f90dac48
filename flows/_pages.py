"""What a run leaves on its page in the UI, and the one line in its log that says how it ended."""

import logging
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.settings import PREFECT_API_URL

from tinylm.pipeline import RunResult
from tinylm.report_server import address_of
from tinylm.stories.job import JobSummary

__all__ = ["show_job", "show_run", "show_sweep", "show_trials"]

_log = logging.getLogger("tinylm.flows")


def show_run(result: RunResult) -> None:
    """Tell of a pipeline's run: stages, loss, sample stories and report."""
    rows = [
        {
            "stage": name,
            "result": "reused" if ref.reused else "made",
            "seconds": f"{ref.seconds:.1f}",
            "path": str(ref.path),
        }
        for name, ref in result.artifacts.items()
    ]
    create_table_artifact(rows, key="stages", description="what this run made and what it found current")
    figures = "\n".join(f"- {name}: {value:.4f} bits per byte" for name, value in result.bits_per_byte.items())
    told = "\n\n".join(f"> {escape(story['prompt'] + story['text'])}" for story in result.stories())
    create_markdown_artifact(f"## Quality\n\n{figures}\n\n## Sample stories\n\n{told}\n", key="stories")
    _link(result.report)
    line = ", ".join(f"{name} {value:.4f}" for name, value in result.bits_per_byte.items())
    _log.info("bits per byte: %s; report %s", line, result.report)


def show_sweep(headline: Mapping[str, Any], page: Path) -> None:
    """Tell of a sweep: verdict, best figure and report."""
    verdict = ": ".join(filter(None, (headline["verdict"], headline["reason"])))
    speed = headline["best_tokens_per_s"]
    best = f"{speed:,.0f} tokens/s with {headline['best']}" if speed else "no cell could be used"
    figures = {
        "verdict": verdict,
        "compared with": headline["against"],
        "slower": "; ".join(headline["regressions"]),
        "best": best,
        "cells": f"{headline['cells']} measured, {headline['failed']} failed, {headline['void']} void",
        "run": headline["run_id"],
    }
    _table("sweep", figures)
    _link(page)
    _log.info("%s; best %s; report %s", verdict, best, page)


def show_job(summary: JobSummary) -> None:
    """Tell of a bulk job: rows, answers, what was bad, where the output is."""
    bad = f"{summary.bad_rows:,}" if summary.bad_rows else "none"
    figures = {
        "rows": f"{summary.rows:,}",
        "answers": f"{summary.answers:,}",
        "bad rows": bad,
        "first bad row": f"{summary.first_bad_place}: {summary.first_bad}" if summary.bad_rows else "",
        "output": summary.output,
        "rows found from before": f"{summary.reused_rows:,}" if summary.reused_rows else "",
        "time": f"{summary.seconds_s:,.1f} s",
        "speed": f"{summary.tokens_per_s:,.0f} tokens/s" if summary.tokens_per_s else "",
        "slots full": f"{summary.occupancy:.0%}" if summary.occupancy else "",
        "tokens": f"{summary.prompt_tokens:,} read, {summary.output_tokens:,} written",
        "answers ended by": ", ".join(f"{reason} {count:,}" for reason, count in summary.finish_reasons.items()),
    }
    _table("job", figures)
    _log.info("%d rows, %d answers, bad rows: %s; output %s", summary.rows, summary.answers, bad, summary.output)


def show_trials(rows: list[dict[str, str]]) -> None:
    """Tell of a search: the best trial, and all of them."""
    best = f"{rows[0]['settings']}: {rows[0]['bits per byte']} bits per byte"
    create_markdown_artifact(f"## Best\n\n{best}\n", key="best")
    create_table_artifact(rows, key="trials", description="all trials, longest budget first, best first")
    _log.info("best of %d trials: %s", len(rows), best)


def _table(key: str, figures: Mapping[str, str | None]) -> None:
    """Make a table of what is known."""
    create_table_artifact([{"what": name, "value": value} for name, value in figures.items() if value], key=key)


def _link(page: Path) -> None:
    """Link a report where it is served; its file is named too, for the day when it is not."""
    path, address = str(page.absolute()), address_of(page, PREFECT_API_URL.value())
    if address:
        create_link_artifact(address, link_text=path, key="report", description="HTML report")
    else:
        create_markdown_artifact(f"A file to open in a browser: `{path}`", key="report", description="HTML report")
