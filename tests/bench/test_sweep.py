"""The sweep: its tables, its order, what a kill leaves, what a failure looks like."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from bench_support import null_config

from tinylm.bench import Sweep, read_run, run_sweep
from tinylm.bench.config import CellSpec, Load, SweepConfig
from tinylm.bench.plan import plan_cells
from tinylm.bench.schema import SCHEMA_VERSION, TABLES
from tinylm.bench.sweep import run_worker
from tinylm.bench.worker import CellJob
from tinylm.config import parse
from tinylm.errors import ConfigError, DataError, StageError
from tinylm.progress import NullProgress

DOCS = Path(__file__).parents[2] / "docs" / "BENCHMARKS.md"


def test_tables_hold_every_cell_request_and_histogram(finished_run: Path) -> None:
    cells = pd.read_parquet(finished_run / "cells.parquet")
    requests = pd.read_parquet(finished_run / "requests.parquet")
    histograms = pd.read_parquet(finished_run / "histograms.parquet")
    assert len(cells) == 2 + 2 * 2 * 2
    assert set(cells["status"]) == {"ok"}
    assert requests.groupby("cell_id").size().to_dict() == cells.set_index("cell_id")["requests"].to_dict()
    assert len(histograms) == 7 * len(cells)
    e2e = requests["finished_ns"] - requests["scheduled_ns"]
    assert (e2e > 0).all()
    summed = histograms[histograms["metric"] == "e2e"].set_index("cell_id")["count"]
    assert summed.to_dict() == cells.set_index("cell_id")["requests"].to_dict()
    for name, schema in TABLES.items():
        table = pq.read_table(finished_run / f"{name}.parquet")
        assert table.schema.names == schema.names
        assert table.schema.metadata[b"tinylm.schema_version"] == str(SCHEMA_VERSION).encode()
    assert not (finished_run / "partial").exists()


def test_open_load_runs_at_its_share_of_measured_capacity(finished_run: Path) -> None:
    cells = pd.read_parquet(finished_run / "cells.parquet").set_index("cell_id")
    for _, cell in cells[cells["load_kind"] == "poisson"].iterrows():
        capacity = cells[(cells["role"] == "calibrate") & (cells["setup_id"] == cell["setup_id"])].iloc[0]
        assert capacity["requests_per_s"] == pytest.approx(2 * cell["replicas"] / 0.010, rel=0.08)
        assert cell["rate_rps"] == pytest.approx(0.5 * capacity["requests_per_s"])
        assert cell["arrived_per_s"] == pytest.approx(cell["rate_rps"], rel=0.15)


def test_every_round_holds_each_point_once_in_an_order_of_its_own() -> None:
    cfg = null_config(repeats=3, replicas=(1, 2, 4))
    measured = [cell for cell in plan_cells(cfg, ["none"]) if cell.role == "measure"]
    rounds = [[cell.model_copy(update={"repeat": 0}) for cell in measured if cell.repeat == r] for r in range(3)]
    assert all(set(found) == set(rounds[0]) and len(found) == 6 for found in rounds)
    assert rounds[0] != rounds[1]
    assert plan_cells(cfg, ["none"]) == plan_cells(cfg, ["none"])


def test_a_killed_sweep_keeps_its_finished_cells(tmp_path: Path) -> None:
    cfg = null_config(min_duration_s=2.0, loads=("closed:1",))
    ran: list[str] = []

    def die_after_two(sweep: Sweep, cell: CellSpec) -> dict[str, Any]:
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(cell.cell_id)
        return sweep.run(cell)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(cfg, None, tmp_path, NullProgress(), run_cell=die_after_two)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "partial").glob("null*.json")}
    assert len(kept) == 2
    again: list[str] = []

    def note(sweep: Sweep, cell: CellSpec) -> dict[str, Any]:
        again.append(cell.cell_id)
        return sweep.run(cell)

    summary = run_sweep(cfg, None, tmp_path, NullProgress(), run_cell=note)
    assert not set(ran) & set(again)
    assert summary["cells"] == 4
    assert {cell["cell_id"] for cell in read_run(tmp_path).cells} == {*ran, *again}


def test_a_failed_cell_is_a_row_and_is_tried_again(tmp_path: Path) -> None:
    cfg = null_config(loads=("closed:1",), repeats=1, min_duration_s=1.0)

    def fail_on_two(sweep: Sweep, cell: CellSpec) -> dict[str, Any]:
        result = sweep.run(cell)
        if cell.replicas == 2:
            result = {"error": "it broke", "position": 1, "started_at": "now"}
            sweep._path(cell).write_text(json.dumps(result))
        return result

    run_sweep(cfg, None, tmp_path / "a", NullProgress(), run_cell=fail_on_two)
    rows = {cell["replicas"]: cell for cell in read_run(tmp_path / "a").cells}
    assert (rows[2]["status"], rows[2]["error"], rows[2]["tokens_per_s"]) == ("failed", "it broke", None)

    def fail(sweep: Sweep, cell: CellSpec) -> dict[str, Any]:
        sweep._path(cell).write_text(json.dumps({"error": "no engine", "position": 0, "started_at": "now"}))
        return {}

    with pytest.raises(StageError, match="no engine"):
        run_sweep(cfg, None, tmp_path / "b", NullProgress(), run_cell=fail)
    assert not (tmp_path / "b" / "run.json").exists()
    assert run_sweep(cfg, None, tmp_path / "b", NullProgress())["failed"] == 0


def test_a_worker_that_dies_is_a_result(tmp_path: Path) -> None:
    cell = CellSpec(backend="native", precision="int8", replicas=1, threads=1, batch=1, load="closed:1")
    missing = tmp_path / "missing.safetensors"
    result = run_worker(CellJob(cell=cell, sweep=null_config(), model=missing))
    assert "worker ended with code 1" in result["error"]
    assert "missing.safetensors" in result["error"]


def test_tables_of_an_older_schema_are_read(finished_run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(finished_run, old)
    table = pq.read_table(old / "cells.parquet").drop_columns(["yardstick", "prefix_sharing", "prompts"])
    pq.write_table(table.replace_schema_metadata({"tinylm.schema_version": "0"}), old / "cells.parquet")
    cells = read_run(old).cells
    assert cells[0]["yardstick"] is None
    assert cells[0]["tokens_per_s"] > 0


def test_tables_of_a_newer_schema_are_refused(finished_run: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(finished_run, new)
    table = pq.read_table(new / "cells.parquet")
    version = str(SCHEMA_VERSION + 1)
    pq.write_table(table.replace_schema_metadata({"tinylm.schema_version": version}), new / "cells.parquet")
    with pytest.raises(DataError, match=rf"schema version {version}"):
        read_run(new)


def test_every_column_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, schema in TABLES.items():
        for field in schema:
            line = f"| `{field.name}` |"
            assert line in text, f"docs/BENCHMARKS.md lacks {name}.{field.name}"
            assert field.metadata[b"meaning"].decode() in text


@pytest.mark.parametrize("text", ["closed:4", "open:20/s", "open:80%", "fixed:2.5/s", "fixed:50%", "offline:64"])
def test_load_names_round_trip(text: str) -> None:
    assert Load.parse(text).text == text


@pytest.mark.parametrize("load", ["closed:0", "closed:", "open:20", "burst:3", "open:0%", ""])
def test_bad_loads_are_named(load: str) -> None:
    with pytest.raises(ConfigError, match="loads"):
        parse(SweepConfig, {"loads": [load]})
