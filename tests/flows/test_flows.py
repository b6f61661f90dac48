"""The flow `pipeline` on a toy profile, under one Prefect server: reuse, descendants, log lines, dead runs."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness

from flows.pipeline import pipeline
from flows.tune import tune
from tinylm.artifacts import Store
from tinylm.errors import ConfigError, DataError
from tinylm.pipeline import RunResult, load_profile, run_pipeline
from tinylm.progress import NullProgress
from tinylm.runs import hold_run, mark_dead_runs

ROOT = Path(__file__).resolve().parents[2]
TOY = str(Path(__file__).with_name("toy.toml"))
ALL = {"corpus", "tokenizer", "tokens", "train", "native", "model", "evaluation", "stories", "sweep", "report"}


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A Prefect server for all flow tests; yields its URL."""
    changed = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_EXTRA_LOGGERS: "tinylm"}
    with prefect_test_harness(server_startup_timeout=90), temporary_settings(changed):
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The artifacts and reports of all flow tests, in a folder of their own."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYLM_ARTIFACTS", str(folder / "artifacts"))
        patch.setenv("TINYLM_REPORTS", str(folder / "reports"))
        yield folder


@pytest.fixture(scope="session")
def first(server: str, folders: Path) -> RunResult:
    """The toy pipeline's first run."""
    del server, folders
    return pipeline(profile=TOY)


def reused(result: RunResult) -> set[str]:
    return {name for name, ref in result.artifacts.items() if ref.reused}


def test_first_run_makes_every_stage(first: RunResult, folders: Path) -> None:
    assert set(first.artifacts) == ALL
    assert reused(first) == set()
    assert len(first.stories()) == 5
    assert set(first.bits_per_byte) == {"torch f32", "native f32", "native int8"}
    assert first.bits_per_byte["native f32"] == pytest.approx(first.bits_per_byte["torch f32"], abs=1e-3)
    assert first.report.is_file()
    pages = {path.name for path in first.report.parent.iterdir()}
    assert {"report.html", "training.html", "stories.html", "cells.parquet", "run.json"} <= pages
    assert (folders / "reports" / "index.html").is_file()
    assert "story 5" in first.text()


def test_second_run_reuses_every_stage(first: RunResult) -> None:
    second = pipeline(profile=TOY)
    assert reused(second) == ALL
    assert {name: ref.key for name, ref in second.artifacts.items()} == {
        name: ref.key for name, ref in first.artifacts.items()
    }


def test_a_changed_setting_reruns_exactly_its_descendants(first: RunResult) -> None:
    del first
    changed = pipeline(profile=TOY, seed=7)
    assert reused(changed) == {"corpus", "tokenizer", "tokens", "native"}


def test_the_command_and_the_flow_share_the_store(first: RunResult, folders: Path) -> None:
    told = []
    store = Store(folders / "artifacts")
    result = run_pipeline(load_profile(TOY), store, folders / "reports", NullProgress(), told.append)
    assert {ref.stage for ref in told} == ALL
    order = [ref.stage for ref in told]
    assert order.index("native") < order.index("train")  # training uses the extension
    assert all(ref.reused for ref in told)
    assert result.report == first.report


def test_an_error_of_ours_is_logged_without_traceback(server: str, folders: Path, tmp_path: Path) -> None:
    del server, folders
    records: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("prefect.flow_runs")
    logger.addHandler(listener)
    try:
        (tmp_path / "empty.txt").touch()
        with pytest.raises(DataError, match="no train text is left"):
            pipeline(profile=TOY, corpus=(str(tmp_path / "empty.txt"),))
    finally:
        logger.removeHandler(listener)
    failures = [record for record in records if "encountered exception" in record.getMessage().lower()]
    assert failures
    assert all(record.exc_info is None for record in failures)


def test_library_log_lines_arrive_in_prefect(first: RunResult) -> None:
    del first
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):
        state = pipeline(profile=TOY, settings=("samples.options.seed=3",), return_state=True)
    run_id = state.state_details.flow_run_id
    wanted, deadline_s = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])), time.monotonic() + 20
    told = False
    while not told and time.monotonic() < deadline_s:  # lines are sent in batches, from a thread of their own
        time.sleep(0.5)
        with get_client(sync_client=True) as client:
            logs = client.read_logs(wanted, limit=200)
        told = any(line.name.startswith("tinylm") and "stories done" in line.message for line in logs)
    assert told


def running_flow(name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.create_flow_run(pipeline, name=name, state=Running())


def state_of(run_id: UUID) -> str:
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run_id).state_name)


def test_runs_of_dead_processes_are_marked_as_crashed(server: str, tmp_path: Path) -> None:
    dead, alive, unseen = (running_flow(name) for name in ("dead", "alive", "unseen"))
    os.close(hold_run(tmp_path, str(dead.id)))
    held = hold_run(tmp_path, str(alive.id))
    assert mark_dead_runs(server, tmp_path, at_start=False) == ["dead"]
    assert [state_of(run.id) for run in (dead, alive, unseen)] == ["Crashed", "Running", "Running"]
    assert mark_dead_runs(server, tmp_path, at_start=True) == ["unseen"]
    assert state_of(alive.id) == "Running"
    os.close(held)


def test_prefect_yaml_names_flows_and_parameters_that_exist() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    names = set()
    for deployment in deployments:
        path, _, name = deployment["entrypoint"].partition(":")
        module = __import__(path.removesuffix(".py").replace("/", "."), fromlist=[name])
        flow = getattr(module, name)
        names.add(f"{flow.name}/{deployment['name']}")
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)
        if "profile" in deployment.get("parameters", {}) and deployment["name"] != "my-text":
            load_profile(deployment["parameters"]["profile"])
    pipelines = {"pipeline/quickstart", "pipeline/tinystories", "pipeline/my-text", "pipeline/tune"}
    assert names == pipelines | {"sweep/nightly", "stories/bulk"}


@pytest.mark.usefixtures("server")
def test_a_search_trains_side_by_side_and_its_winner_is_reused(folders: Path) -> None:
    vary = ("train.matrix_lr=[0.02, 10.0, 0.01]",)
    rows = tune(vary=vary, rounds=2, at_once=2, profile=TOY, settings=("train.steps=20", "train.embedding_std=0.5"))
    assert len(rows) == 5
    assert sorted(row["settings"] for row in rows if row["minutes"] == "2")[0] == "train.matrix_lr=0.01"
    assert {row["steps"] for row in rows if row["minutes"] == "2"} == {"20"}
    trained = list((folders / "artifacts" / "train").glob("[0-9a-f]*"))
    tune(vary=vary, rounds=2, at_once=2, profile=TOY, settings=("train.steps=20", "train.embedding_std=0.5"))
    assert list((folders / "artifacts" / "train").glob("[0-9a-f]*")) == trained


@pytest.mark.usefixtures("server", "folders")
def test_a_search_refuses_wrong_settings_before_it_trains() -> None:
    with pytest.raises(ConfigError, match="matrix_lr"):
        tune(vary=("train.matrix_lr=[-1]",), profile=TOY)


def test_parameters_are_typed_for_forms() -> None:
    properties = pipeline.parameters.properties
    assert properties["corpus"]["type"] == "array"
    assert json.dumps(properties["minutes"]).count("number") == 1
