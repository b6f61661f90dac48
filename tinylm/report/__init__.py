"""Parquet in, self-contained HTML out. Tables are read only through `tinylm.bench.store`; no engine, no Prefect."""

from __future__ import annotations

from tinylm.report.bench_page import render_report

__all__ = ["render_report"]
