"""Parquet in, self-contained HTML out. Tables are read only through `tinylm.bench.store`; no engine, no Prefect."""

from __future__ import annotations

from tinylm.report.bench_page import render_report
from tinylm.report.index_page import render_index
from tinylm.report.peers_page import render_peers
from tinylm.report.stories_page import Story, render_stories
from tinylm.report.training_page import render_training

__all__ = ["Story", "render_index", "render_peers", "render_report", "render_stories", "render_training"]
