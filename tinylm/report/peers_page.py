"""The page that sets TinyLM beside other engines: rates, ratios with intervals, and who could not run."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinylm.bench.compare import bootstrap_ratio
from tinylm.bench.limits import MachineLimits
from tinylm.bench.store import Row, Run, read_run
from tinylm.report.figure import Figure, figure
from tinylm.report.page import write_page
from tinylm.report.svg import Axis, Plot
from tinylm.report.words import count_text

__all__ = ["render_peers"]

_OWN = "tinylm"
_INT4_PAIR = ("llama.cpp-q4_0", "tinylm-int4")  # a peer of four bits, and our engine at four bits


@dataclass(frozen=True)
class _Line:
    engine: str
    tokens_per_s: float
    seconds: float
    start_s: float
    peak_rss_bytes: float
    ratio: str
    rounds: int
    limit_tokens_per_s: float | None = None

    @property
    def limit_share(self) -> float | None:
        """Tokens per second over what the machine's limits allow at the engine's precision."""
        return self.tokens_per_s / self.limit_tokens_per_s if self.limit_tokens_per_s else None


def render_peers(run_dir: Path, out_html: Path) -> None:
    """Write the page of a run of `tinylm.bench.peers`.

    Raises: DataError if the folder holds no finished run.
    """
    run = read_run(run_dir)
    points = list(dict.fromkeys(str(cell["point_id"]) for cell in run.cells))
    tables = [(point, _lines(run, point)) for point in sorted(points)]
    failures = {(c["backend"], c["model"], c["error"]) for c in run.cells if c["status"] == "failed"}
    write_page(
        out_html,
        "peers.html.j2",
        title="Other engines",
        facts=run.facts,
        rounds=len({cell["repeat"] for cell in run.cells}),
        tables=tables,
        figures=[_bars(point, lines) for point, lines in tables if lines],
        failures=sorted(failures),
        verdicts=[(point, _verdict(lines), _own_share(lines)) for point, lines in tables if lines],
        limits=MachineLimits.model_validate(run.facts["limits"]) if "limits" in run.facts else None,
    )


def _lines(run: Run, point: str) -> list[_Line]:
    groups: dict[str, list[Row]] = {}
    for cell in run.cells:
        if cell["point_id"] == point and cell["status"] == "ok":
            groups.setdefault(str(cell["backend"]), []).append(cell)
    lines = [_line(engine, cells, groups.get(_rival(engine), [])) for engine, cells in groups.items()]
    return sorted(lines, key=lambda line: -line.tokens_per_s)


def _rival(engine: str) -> str:
    return _INT4_PAIR[1] if engine == _INT4_PAIR[0] else _OWN


def _is_own(engine: str) -> bool:
    return engine.startswith(_OWN)


def _line(engine: str, cells: list[Row], own: list[Row]) -> _Line:
    def median(name: str) -> float:
        return statistics.median(float(cell[name]) for cell in cells)

    known = all(cell.get("limit_tokens_per_s") for cell in cells)  # reports of older runs have none
    return _Line(
        engine,
        median("tokens_per_s"),
        median("duration_s"),
        median("start_s"),
        median("peak_rss_bytes"),
        "" if _is_own(engine) else _ratio(cells, own),
        len(cells),
        median("limit_tokens_per_s") if known else None,
    )


def _ratio(peer: list[Row], own: list[Row]) -> str:
    """Return TinyLM's rate over the peer's, with its 95 % interval over rounds."""
    if len(peer) < 2 or len(own) < 2:
        return "too few rounds"
    logs = [np.log([[float(cell["tokens_per_s"])] for cell in cells]) for cells in (peer, own)]
    ratio, low, high = bootstrap_ratio(logs[0], logs[1])
    return f"{ratio:.2f}× ({low:.2f} to {high:.2f})"


def _verdict(lines: list[_Line]) -> str:
    peers = [line for line in lines if not _is_own(line.engine)]
    if not peers or len(peers) == len(lines):
        return "no peer to compare with"
    four_bits = [line for line in peers if line.engine == _INT4_PAIR[0]]
    best = [line for line in peers if line not in four_bits][:1]
    return "; ".join(f"{line.ratio} {line.engine}" for line in best + four_bits)


def _own_share(lines: list[_Line]) -> float | None:
    """Return TinyLM's share of the machine's int8 limit."""
    return next((line.limit_share for line in lines if line.engine == _OWN), None)


def _bars(point: str, lines: list[_Line]) -> Figure:
    top = max(line.tokens_per_s for line in lines) * 1.12

    def draw(width: int) -> Plot:
        ticks = tuple((i + 0.5, line.engine) for i, line in enumerate(lines))
        y = Axis("tokens per second", 0, top, format=count_text)
        plot = Plot(Axis("", 0, len(lines), ticks=ticks), y, width)
        for i, line in enumerate(lines):
            tip = f"{line.engine}: {count_text(line.tokens_per_s)} tokens/s"
            plot.bar(i + 0.2, i + 0.8, 0, line.tokens_per_s, 0 if _is_own(line.engine) else 5, tip)
            plot.text(i + 0.5, line.tokens_per_s, count_text(line.tokens_per_s), dy=-5)
        return plot

    return figure(
        f"peers-{point}",
        point,
        draw,
        alt=f"{point}: " + ", ".join(f"{line.engine} {count_text(line.tokens_per_s)} tokens/s" for line in lines),
        columns=(
            "engine",
            "tokens_per_s",
            "seconds",
            "first_token_from_start_s",
            "peak_rss_bytes",
            "limit_tokens_per_s",
            "rounds",
        ),
        rows=[
            (x.engine, x.tokens_per_s, x.seconds, x.start_s, x.peak_rss_bytes, x.limit_tokens_per_s, x.rounds)
            for x in lines
        ],
    )
