"""The Parquet tables of a run and their versioned schema; docs/BENCHMARKS.md says what each column means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tinylm.bench.histograms import LatencyHistogram
from tinylm.bench.schema import SCHEMA_VERSION, TABLES
from tinylm.errors import DataError

__all__ = ["Row", "Run", "read_run", "write_run"]

Row = dict[str, Any]


class Histograms(Mapping[tuple[str, str], LatencyHistogram]):
    """Histograms by (cell_id, metric), decoded on first use."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._encoded = {(str(row["cell_id"]), str(row["metric"])): str(row["hdr"]) for row in rows}
        self._decoded: dict[tuple[str, str], LatencyHistogram] = {}

    def __getitem__(self, key: tuple[str, str]) -> LatencyHistogram:
        if key not in self._decoded:
            self._decoded[key] = LatencyHistogram.decode(self._encoded[key])
        return self._decoded[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)


@dataclass(frozen=True)
class Run:
    """One finished run, read back."""

    facts: Mapping[str, Any]
    cells: list[Row]
    histograms: Histograms
    folder: Path

    @property
    def run_id(self) -> str:
        """The run's name; sorts by time."""
        return str(self.facts["run_id"])

    def requests(self, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Return the chosen columns of the requests table."""
        table = pq.read_table(self.folder / "requests.parquet")
        present = [name for name in columns if name in table.column_names]
        values: dict[str, list[Any]] = table.select(present).to_pydict()
        return values


def write_run(
    folder: Path,
    facts: Mapping[str, Any],
    cells: Sequence[Row],
    requests: Mapping[str, Mapping[str, Sequence[Any]]],
    histograms: Mapping[str, Mapping[str, LatencyHistogram]],
) -> None:
    """Write the three tables and, last, run.json.

    Args: requests, histograms: by cell_id.
    """
    run_id = str(facts["run_id"])
    _write(folder, "cells", pa.Table.from_pylist([{"run_id": run_id, **cell} for cell in cells], TABLES["cells"]))
    parts = [_request_table(run_id, cell_id, columns) for cell_id, columns in requests.items()]
    _write(folder, "requests", pa.concat_tables([TABLES["requests"].empty_table(), *parts]))
    rows = [
        {"run_id": run_id, "cell_id": cell_id, "metric": metric, **_histogram_row(histogram)}
        for cell_id, metrics in histograms.items()
        for metric, histogram in metrics.items()
    ]
    _write(folder, "histograms", pa.Table.from_pylist(rows, TABLES["histograms"]))
    temporary = folder / "run.json.tmp"
    temporary.write_text(json.dumps({**facts, "schema_version": SCHEMA_VERSION}, indent=1) + "\n")
    temporary.replace(folder / "run.json")


def _write(folder: Path, name: str, table: pa.Table) -> None:
    metadata = {"tinylm.table": name, "tinylm.schema_version": str(SCHEMA_VERSION)}
    temporary = folder / f"{name}.parquet.tmp"
    pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")
    temporary.replace(folder / f"{name}.parquet")


def _request_table(run_id: str, cell_id: str, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    count = len(columns["index"])
    named = {**columns, "run_id": [run_id] * count, "cell_id": [cell_id] * count}
    schema = TABLES["requests"]
    return pa.table({name: pa.array(named[name], schema.field(name).type) for name in schema.names}, schema=schema)


def _histogram_row(histogram: LatencyHistogram) -> Row:
    lows, counts = histogram.buckets()
    row: Row = {"count": histogram.count, "min_ns": histogram.min_ns, "max_ns": histogram.max_ns}
    row |= {"mean_ns": histogram.mean_ns, "bucket_low_ns": lows, "bucket_count": counts, "hdr": histogram.encode()}
    for name, percentile in (("p50_ns", 50.0), ("p90_ns", 90.0), ("p99_ns", 99.0), ("p999_ns", 99.9)):
        row[name] = histogram.percentile_ns(percentile)
    return row


def read_run(folder: Path) -> Run:
    """Return the run in `folder`, whatever schema version wrote it; columns of a later version read as None.

    Raises: DataError if a table is missing, damaged, or of a version newer than this program.
    """
    cells = _read(folder, "cells")
    histograms = _read(folder, "histograms", ("cell_id", "metric", "hdr"))
    try:
        facts = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no finished sweep: run.json cannot be read ({error})") from None
    if not isinstance(facts, dict):
        raise DataError(f"{folder / 'run.json'}: a {type(facts).__name__}; expected the facts of a run by name")
    return Run(facts, cells, Histograms(histograms), folder)


def _read(folder: Path, name: str, columns: Sequence[str] | None = None) -> list[Row]:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise DataError(f"{path}: not found; expected the {name} table of a finished sweep")
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
        version = int((table.schema.metadata or {}).get(b"tinylm.schema_version", b"0"))
        found = table.to_pylist(maps_as_pydicts="strict")
    except (pa.ArrowException, OSError, ValueError) as error:  # what pyarrow says of a damaged file is any of these
        raise DataError(f"{path}: damaged, or no table of ours ({error}); remove its folder") from None
    if version > SCHEMA_VERSION:
        raise DataError(f"{path}: schema version {version}; this program reads up to {SCHEMA_VERSION}: update it")
    missing = {field: None for field in columns or TABLES[name].names if field not in table.column_names}
    return [{**missing, **row} for row in found]
