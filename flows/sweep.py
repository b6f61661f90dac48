"""The flow `sweep`: measures the newest model on this machine, anew at every run, and reports what changed."""

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from flows._pages import show_sweep
from flows._prefect import (
    EXCLUSIVE_TAG,
    as_task,
    begin_run,
    open_store,
    reports_folder,
    run_cell,
    tell_of_waiting,
)
from tinylm import stages
from tinylm.bench.config import SweepConfig
from tinylm.errors import DataError, StageError

__all__ = ["sweep"]

native_task = as_task(stages.native)
sweep_task = as_task(stages.sweep, tags=[EXCLUSIVE_TAG])
report_task = as_task(stages.report)


def _run_name() -> str:
    return f"sweep of {runtime.flow_run.parameters.get('model') or 'the newest model'}"


@flow(name="sweep", flow_run_name=_run_name)
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
    native = native_task()
    tell_of_waiting()
    measured = sweep_task(plan, chosen, native, occasion=now, run_cell=run_cell)
    report = report_task(measured)
    page = stages.publish_report(report, measured, reports_folder())
    headline = report.summary
    show_sweep(headline, page)
    if headline["regressions"]:
        raise StageError(f"slower than {headline['against']}: {'; '.join(headline['regressions'])}; see {page}")
    return str(page)
