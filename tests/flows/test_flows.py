"""The flow `pipeline` on a toy profile, under one Prefect server: reuse, descendants, log lines, dead runs."""

from __future__ import annotations

import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.states import AwaitingRetry, Completed, Crashed, Failed, Running
from prefect.testing.utilities import prefect_test_harness

from flows import _pages
from flows.__main__ import close_books
from flows._prefect import EXCLUSIVE_TAG, tell_of_waiting
from flows.pipeline import pipeline, train_task
from flows.sweep import sweep
from flows.tune import tune
from tinylm import runs
from tinylm.artifacts import Store
from tinylm.errors import ConfigError, DataError
from tinylm.pipeline import RunResult, load_profile, run_pipeline
from tinylm.progress import NullProgress
from tinylm.report_server import serve_reports
from tinylm.runs import GOES_ON, api, hold_run, mark_dead_runs
from tinylm.stories.job import JobSummary
from tinylm.up import FORMER_AUTOMATION, prepare_server

ROOT = Path(__file__).resolve().parents[2]
TOY = str(Path(__file__).with_name("toy.toml"))
HEADLINE = {"verdict": "not judged", "reason": "the machine was busy", "against": "before", "regressions": []} | {
    "best_tokens_per_s": 1234.4,
    "best": "2 replicas",
    "cells": 9,
    "failed": 0,
    "void": 0,
    "run_id": "now",
}
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
    text = ""
    while "; report " not in text and time.monotonic() < deadline_s:  # lines are sent in batches, from a thread
        time.sleep(0.5)
        with get_client(sync_client=True) as client:
            logs = client.read_logs(wanted, limit=200)
            assert client.read_flow_run(run_id).name == TOY
        text = "\n".join(line.message for line in logs if line.name.startswith("tinylm"))
    assert "stories done" in text
    assert re.search(r"bits per byte: torch f32 \d+\.\d+, .*; report .*/report\.html", text)


def test_a_run_says_that_it_waits_for_the_machine(server: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tinylm")
    limit = f"/concurrency_limits/tag/{EXCLUSIVE_TAG}"
    with temporary_settings({PREFECT_API_URL: None}):
        tell_of_waiting()
    try:
        tell_of_waiting()
        for most in (1, 0):
            api(server, "/concurrency_limits/", {"tag": EXCLUSIVE_TAG, "concurrency_limit": most})
            assert "waits for the machine" not in caplog.text
            tell_of_waiting()
    finally:
        api(server, limit, method="DELETE")
    assert "waits for the machine" in caplog.text


@pytest.mark.usefixtures("server")
def test_a_sweep_without_a_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLM_ARTIFACTS", str(tmp_path))
    state = sweep(return_state=True)
    assert "run a pipeline deployment first" in str(state.message)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).name == "sweep of the newest model"


def test_a_page_shows_words_and_no_empty_rows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    tables: dict[str, list[dict[str, str]]] = {}
    monkeypatch.setattr(_pages, "create_table_artifact", lambda rows, key: tables.update({key: rows}))
    monkeypatch.setattr(_pages, "create_markdown_artifact", lambda *_, **__: None)
    caplog.set_level(logging.INFO, "tinylm")
    _pages.show_job(JobSummary(rows=1200, answers=1200, output="out", model_digest="d", shards=1, seconds_s=0.679134))
    _pages.show_sweep(HEADLINE, tmp_path / "report.html")
    job = {row["what"]: row["value"] for row in tables["job"]}
    assert (job["rows"], job["bad rows"], job["time"]) == ("1,200", "none", "0.7 s")
    assert "first bad row" not in job
    assert tables["sweep"][0] == {"what": "verdict", "value": "not judged: the machine was busy"}
    assert "1200 rows, 1200 answers, bad rows: none; output out" in caplog.text
    assert "not judged: the machine was busy; best 1,234 tokens/s with 2 replicas" in caplog.text


def test_a_run_links_its_report_only_where_a_browser_can_follow(first: RunResult, server: str, folders: Path) -> None:
    @flow
    def shown() -> str:
        _pages.show_sweep(HEADLINE, first.report)
        wanted = {"artifacts": {"key": {"any_": ["report"]}}, "sort": "CREATED_DESC", "limit": 1}
        return str(api(server, "/artifacts/filter", wanted)[0]["data"])

    assert shown() == f"A file to open in a browser: `{first.report}`"
    with serve_reports(folders / "reports", int(urlsplit(server).port or 0)) as address:
        link = re.fullmatch(r"\[(.*)\]\((http.*)\)", shown())
        assert link is not None
        assert link.groups() == (str(first.report), f"{address}/{first.report.parent.name}/report.html")
        with urllib.request.urlopen(link[2]) as answer:
            assert answer.read() == first.report.read_bytes()


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
    assert mark_dead_runs(server, tmp_path, no_worker=False) == ["dead"]
    assert [state_of(run.id) for run in (dead, alive, unseen)] == ["Crashed", "Running", "Running"]
    assert mark_dead_runs(server, tmp_path, no_worker=True) == ["unseen"]
    assert state_of(alive.id) == "Running"
    os.close(held)


@pytest.fixture
def taken_slot(server: str) -> Iterator[Callable[[], int]]:
    """The exclusive slot, counted as taken by a server that is no more; gives the count."""
    api(server, "/concurrency_limits/", {"tag": EXCLUSIVE_TAG, "concurrency_limit": 1})
    api(server, "/v2/concurrency_limits/increment", {"names": [f"tag:{EXCLUSIVE_TAG}"], "slots": 1})
    yield lambda: int(api(server, f"/v2/concurrency_limits/tag:{EXCLUSIVE_TAG}")["active_slots"])
    api(server, f"/concurrency_limits/tag/{EXCLUSIVE_TAG}", method="DELETE")


def test_what_a_killed_server_left_is_put_in_order(server: str, tmp_path: Path, taken_slot: Callable[[], int]) -> None:
    trigger = {"type": "event", "posture": "Reactive", "expect": ["never"], "threshold": 1, "within": 0}
    for name in (FORMER_AUTOMATION, f"{FORMER_AUTOMATION}!"):
        api(server, "/automations/", {"name": name, "trigger": trigger, "actions": [{"type": "do-nothing"}]})
    left = running_flow("left")
    said = list[str]()
    prepare_server(server, tmp_path, said.append)
    assert "run left was left open by a killed process; marked as Crashed" in said
    assert state_of(left.id) == "Crashed"
    assert [found["name"] for found in api(server, "/automations/filter", {})] == [f"{FORMER_AUTOMATION}!"]
    assert taken_slot() == 0


def test_a_run_of_its_own_frees_a_slot_that_none_alive_can_hold(
    server: str, tmp_path: Path, taken_slot: Callable[[], int]
) -> None:
    other = hold_run(tmp_path, "a run on a server of its own")
    close_books(server, tmp_path)
    assert taken_slot() == 1
    os.close(other)
    close_books(server, tmp_path / "never made")
    assert taken_slot() == 0


def test_only_ended_runs_lose_their_lock_files(server: str, tmp_path: Path) -> None:
    ended, waiting = running_flow("ended"), running_flow("waiting")
    for run in (ended, waiting):
        os.close(hold_run(tmp_path, str(run.id)))
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(ended.id, Completed(), force=True)
        client.set_flow_run_state(waiting.id, AwaitingRetry(), force=True)
    mark_dead_runs(server, tmp_path, no_worker=False)
    assert [path.name for path in tmp_path.iterdir()] == [str(waiting.id)]


def test_no_task_of_a_crashed_run_stays_running(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = running_flow("killed")
    with get_client(sync_client=True) as client:
        work = client.create_task_run(train_task, run.id, dynamic_key="0", state=Running())
        bar = ArtifactCreate(type="progress", data=37.0, description="train", task_run_id=work.id)
        made = client.create_artifact(bar)
        client.set_flow_run_state(run.id, Crashed(), force=True)  # as the worker does
        mark_dead_runs(server, tmp_path, no_worker=False)
        assert client.read_task_run(work.id).state_name == "Running"  # its last words may be on their way
        monkeypatch.setattr(runs, "SETTLED", -runs.SETTLED)
        mark_dead_runs(server, tmp_path, no_worker=False)
        assert client.read_task_run(work.id).state_name == "Crashed"
    shown = api(server, f"/artifacts/{made.id}")
    assert (shown["description"], shown["data"]) == ("train: stopped", 37.0)


def test_failed_runs_are_told_with_their_reason(server: str) -> None:
    before = datetime.now(UTC)
    run = running_flow("hasty")
    failure = Failed(message="Flow run encountered an exception: DataError: no train text is left")
    killed = running_flow("killed")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, failure, force=True)
        client.set_flow_run_state(killed.id, Crashed(message="its process is gone"), force=True)
    assert list(runs.failed_runs(server, before).items()) == [
        (str(run.id), "run hasty failed: DataError: no train text is left"),
        (str(killed.id), f"run killed crashed: its process is gone; {GOES_ON}"),
    ]
    assert runs.failed_runs(server, datetime.now(UTC)) == {}


def test_prefect_yaml_names_flows_and_parameters_that_exist() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    names = set()
    for deployment in deployments:
        path, _, name = deployment["entrypoint"].partition(":")
        module = __import__(path.removesuffix(".py").replace("/", "."), fromlist=[name])
        named = getattr(module, name)
        names.add(f"{named.name}/{deployment['name']}")
        assert set(deployment.get("parameters", {})) <= set(named.parameters.properties)
        if "profile" in deployment.get("parameters", {}) and deployment["name"] != "my-text":
            load_profile(deployment["parameters"]["profile"])
    pipelines = {"pipeline/quickstart", "pipeline/tinystories", "pipeline/my-text", "pipeline/tune"}
    assert names == pipelines | {"sweep/nightly", "stories/bulk"}


def test_text_of_ones_own_must_be_named() -> None:
    with pytest.raises(ConfigError) as told:
        load_profile("my-text")
    wanted = "files: expected at least one path; found none; give --corpus (in a flow: corpus)"
    assert str(told.value) == f"profile my-text: corpus: {wanted}"


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
