"""The flow `sweep`: measures the newest model on this machine, anew at every run, and reports what changed."""

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows._prefect import EXCLUSIVE_TAG, as_task, begin_run, open_store, reports_folder, run_cell, show_sweep
from tinylm import stages
from tinylm.bench.config import SweepConfig
from tinylm.errors import DataError, StageError

__all__ = ["sweep"]

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
    show_sweep(report.summary, page)
    if report.summary["regressions"]:
        raise StageError(
            f"slower than {report.summary['against']}: {'; '.join(report.summary['regressions'])}; see {page}"
        )
    return str(page)
