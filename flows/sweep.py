"""The flow `sweep`: measures the newest model on this machine, anew at every run, and reports what changed."""

import logging
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows._prefect import EXCLUSIVE_TAG, as_task, begin_run, open_store, reports_folder, run_cell, show_sweep
from tinylm import stages
from tinylm.bench.config import SweepConfig
from tinylm.errors import DataError, StageError

__all__ = ["sweep"]

_log = logging.getLogger("tinylm.flows")

native_task = as_task(stages.native)
sweep_task = as_task(stages.sweep, tags=[EXCLUSIVE_TAG])
report_task = as_task(stages.report)


@flow(name="sweep")
def sweep(
    model: Annotated[str | None, Field(description="key of a published model; none: the newest")] = None,
    plan: Annotated[SweepConfig, Field(description="what is measured, and how long")] = SweepConfig(),
) -> str:
    """Latency and throughput over replicas and load, on a machine that does nothing else meanwhile."""
    begin_run()
    store = open_store()
    chosen = store.find(model) if model else store.newest("model")
    if chosen is None:
        raise DataError(f"no model published in {store.root}; run a pipeline deployment first")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    measured = sweep_task(plan, chosen, native_task(), occasion=now, run_cell=run_cell)
    report = report_task(measured)
    page = stages.publish_report(report, measured, reports_folder())
    headline = report.summary
    show_sweep(headline, page)
    if headline["regressions"]:
        raise StageError(f"slower than {headline['against']}: {'; '.join(headline['regressions'])}; see {page}")
    _log.info("%s; report %s", sweep_text(headline), page)
    return str(page)


def sweep_text(headline: dict[str, Any]) -> str:
    """Return a sweep's best figure and its verdict as one line."""
    best = headline["best_tokens_per_s"]
    verdict = ": ".join(filter(None, (headline["verdict"], headline["reason"])))
    return (f"best {best:,.0f} tokens/s with {headline['best']}; " if best else "") + verdict
