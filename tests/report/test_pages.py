"""The pages: right numbers, nothing from outside, no markup from stories, and no complaint from a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tinylm.bench import compare
from tinylm.bench.compare import compare_runs
from tinylm.bench.limits import measure_limits
from tinylm.bench.store import Row, Run, read_run, write_run
from tinylm.errors import DataError
from tinylm.report import (
    Story,
    comparison_figures,
    render_index,
    render_peers,
    render_report,
    render_stories,
    render_training,
)
from tinylm.report.bench_page import baseline_of
from tinylm.report.view import RunView

EVIL = '</script><img src=x onerror="document.title=1"><b>&amp; "quoted"'
SCHEMA1 = Path(__file__).parent / "data" / "schema1"


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two published runs, the second 60 % slower, beside a training page and a stories page."""
    root = tmp_path_factory.mktemp("reports")
    _publish(root / "a", root, "20260101T000000Z-a", 1.0)
    _publish(root / "b", root, "20260102T000000Z-b", 0.4)
    train = root / "train"
    train.mkdir()
    rows = [{"step": s, "loss_nats": 8 / s, "lr_scale": 1 - s / 40, "tokens_per_s": 9e3 + s} for s in range(1, 31)]
    rows += [{"step": s, "valid_nats_per_token": 8.5 / s, "valid_bits_per_byte": 3 / s} for s in (10, 20, 30)]
    lines = [json.dumps(row) for row in sorted(rows, key=lambda row: row["step"])]
    (train / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 31, "loss', encoding="utf-8")
    sample = {"step": 10, "prompt": "Once", "text": f"Once upon {EVIL}"}
    (train / "samples.jsonl").write_text(json.dumps(sample) + "\n", encoding="utf-8")
    render_training(train, train / "training.html")
    render_stories([Story(EVIL, EVIL)], train / "stories.html", human=[Story("A", EVIL)], model=EVIL, settings=EVIL)
    render_index(root)
    return root


def _publish(folder: Path, root: Path, run_id: str, speed: float, **options: object) -> None:
    """Copy the stored run under another name, as if three rounds on an idle machine, and render its report.

    Args: speed: factor on its throughput.
    """
    shutil.copytree(SCHEMA1, folder)
    _add_third_round(folder)
    facts = json.loads((folder / "run.json").read_text()) | {"run_id": run_id, "question": f"How fast? {EVIL}"}
    facts["settings"]["options"] |= options
    facts["models"][0]["validation_bytes"] = 200_000
    (folder / "run.json").write_text(json.dumps(facts))
    table = pq.read_table(folder / "cells.parquet")
    table = _with(table, "tokens_per_s", pc.multiply(table["tokens_per_s"], pa.scalar(speed)))
    table = _with(table, "bits_per_byte", pa.array([0.0919] * len(table)))
    idle = pa.array([[]] * len(table), table.schema.field("flags").type)
    pq.write_table(_with(table, "flags", idle), folder / "cells.parquet")
    render_report(folder, folder / "report.html", [path.parent for path in root.glob("*/run.json")])


def _add_third_round(folder: Path) -> None:
    """Repeat a run's second and last round in each of its tables."""
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        third = table.filter(pc.ends_with(table["cell_id"], pattern="measure1"))
        third = _with(third, "cell_id", pc.replace_substring(third["cell_id"], "measure1", "measure2"))
        if "repeat" in table.column_names:
            third = _with(third, "repeat", pa.array([2] * len(third)))
        pq.write_table(pa.concat_tables([table, third]), path)


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


PAGES = ("a/report.html", "b/report.html", "index.html", "train/training.html", "train/stories.html")


class Tags(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("page", PAGES)
def test_page_is_self_contained_and_small(reports: Path, page: str) -> None:
    text = (reports / page).read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    for tag, attributes in Tags(text).found:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("#", "data:,")) or "://" not in value, (tag, name, value)
        assert tag not in {"img", "iframe", "object", "embed"}, tag
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize("page", PAGES)
def test_text_cannot_become_markup(reports: Path, page: str) -> None:
    text = (reports / page).read_text(encoding="utf-8")
    assert EVIL not in text
    assert "<img" not in text
    if page != "index.html":
        assert "&lt;/script&gt;&lt;img src=x" in text


def test_report_counts_and_numbers_match_the_tables(reports: Path) -> None:
    text = (reports / "a/report.html").read_text(encoding="utf-8")
    wide = re.findall(r'<div class="wide">(.*?)</div><div class="narrow">', text, re.DOTALL)
    figures = dict(zip(re.findall(r'<figure id="([^"]+)"', text), wide, strict=True))
    cells = [cell for cell in read_run(reports / "a").cells if cell["role"] == "measure"]
    # Scaling: a mark per repeat and one per point.
    assert figures["scaling"].count("data-tip=") == len(cells) + len({cell["point_id"] for cell in cells})
    assert {"histogram-e2e-closed-1", "histogram-e2e-closed-4", "percentiles-closed-4", "memory", "step"} <= set(
        figures
    )
    assert figures["histogram-e2e-closed-1"].count("<svg") == 2  # one panel per replica count
    shares = re.findall(r": ([\d.]+)\u00a0% of requests", figures["histogram-e2e-closed-1"])
    assert sum(map(float, shares)) == pytest.approx(200, abs=4)  # two panels of 100 %
    best = max(cells, key=lambda cell: cell["tokens_per_s"])
    assert f"one repeat: {best['tokens_per_s']:,.0f} tokens/s" in text
    assert all(attributes.get("aria-label") for tag, attributes in Tags(text).found if attributes.get("role") == "img")


def test_key_figures_say_what_they_measure(reports: Path, tmp_path: Path) -> None:
    forced = (reports / "b/report.html").read_text(encoding="utf-8")
    assert "<dt>16 tokens, end to end</dt>" in forced
    assert '<dd>0.092</dd><dd class="remark">bits per byte on at most 200\u00a0kB of held-out text' in forced
    _publish(tmp_path / "c", tmp_path, "20260103T000000Z-c", 1.0, ignore_eos=False)
    assert "<dt>A story of at most 16 tokens</dt>" in (tmp_path / "c/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_boxes_that_scroll_can_be_reached_by_keyboard_and_have_a_name(reports: Path, page: str) -> None:
    tags = Tags((reports / page).read_text(encoding="utf-8")).found
    boxes = [attributes for _, attributes in tags if (attributes.get("class") or "").startswith("scroll")]
    assert len(boxes) == sum(tag == "table" and attributes.get("class") != "changes" for tag, attributes in tags)
    for box in boxes:
        assert (box.get("tabindex"), box.get("role")) == ("0", "region")
        assert box.get("aria-label")


def test_data_of_the_trends_has_units(reports: Path) -> None:
    index = (reports / "index.html").read_text(encoding="utf-8")
    assert index.count('<tr><th scope="col">run_id</th><th scope="col">tokens_per_s</th></tr>') == 1
    assert index.count('<tr><th scope="col">run_id</th><th scope="col">latency_ms</th></tr>') == 1
    newest = read_run(reports / "b")
    median_ms = RunView(newest).best.percentile("e2e", 50) / 1e6
    assert f"<tr><td>{newest.run_id}</td><td>{median_ms:.6g}</td></tr>" in index
    assert "\u00a0ns" not in index


def test_slower_run_is_called_slower_and_an_unchanged_one_is_not(reports: Path) -> None:
    a, b = read_run(reports / "a"), read_run(reports / "b")
    slower = compare_runs(a, b)
    assert slower.verdict == "slower"
    assert [change.metric for change in slower.regressions] == ["tokens_per_s"]
    assert slower.regressions[0].ratio == pytest.approx(0.4)
    assert compare_runs(b, a).verdict == "faster"
    assert compare_runs(a, a).verdict == "no change shown"
    text = (reports / "b/report.html").read_text(encoding="utf-8")
    assert "Slower than the run before" in text
    assert 'class="slower">slower' in text
    index = (reports / "index.html").read_text(encoding="utf-8")
    assert index.index("slower") < index.index("first run")


def test_a_busy_machine_or_too_few_rounds_are_no_verdict(reports: Path) -> None:
    a, b = read_run(reports / "a"), read_run(reports / "b")
    busy = compare_runs(_busy(a, share=0.6), b)
    assert (busy.verdict, busy.reason, busy.regressions) == ("not judged", "the machine was busy", [])
    assert compare_runs(a, _busy(b, share=0.6)).verdict == "not judged"
    assert compare_runs(a, _busy(b, share=0.4)).verdict == "slower"
    few = compare_runs(a, replace(b, cells=[cell for cell in b.cells if cell["repeat"] < 2]))
    assert (few.verdict, few.reason) == ("not judged", "2 of the 3 rounds that a verdict needs")


def test_a_busy_night_is_no_baseline_where_there_is_another(reports: Path) -> None:
    a, b = read_run(reports / "a"), read_run(reports / "b")
    busy, short = _busy(a, share=0.6), replace(a, cells=[cell for cell in a.cells if cell["repeat"] < 2])
    assert baseline_of(b, [a, busy, short]) is a
    assert baseline_of(b, [short, busy]) is busy


def _busy(run: Run, share: float) -> Run:
    """Return `run` as if other work had disturbed a share of its cells."""
    count = round(share * len(run.cells))
    spoiled = [cell | {"flags": ["busy-machine"]} for cell in run.cells[:count]]
    return replace(run, cells=[*spoiled, *run.cells[count:]])


def test_only_runs_of_equal_work_are_compared(reports: Path) -> None:
    a, b = read_run(reports / "a"), read_run(reports / "b")
    new_weights = replace(b, facts={**b.facts, "models": [model | {"digest": "other"} for model in b.facts["models"]]})
    assert baseline_of(new_weights, [a]) is a
    quantised = replace(b, facts={**b.facts, "models": [model | {"precision": "int4"} for model in b.facts["models"]]})
    assert baseline_of(quantised, [a]) is None
    longer = {"options": b.facts["settings"]["options"] | {"max_new_tokens": 9}}
    other_work = replace(b, facts={**b.facts, "settings": b.facts["settings"] | longer})
    assert baseline_of(other_work, [a]) is None
    with pytest.raises(DataError, match="different work: their options differ"):
        compare_runs(a, other_work)


def test_a_percentile_that_one_round_alone_knows_is_not_judged(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def value(run: Run, cell: Row, metric: str) -> float | None:
        known = metric != "e2e:99" or cell["repeat"] == 0
        return (2.0 if run.run_id.endswith("b") else 1.0) if known else None

    monkeypatch.setattr(compare, "_value", value)
    comparison = compare_runs(read_run(reports / "a"), read_run(reports / "b"))
    changes = {c.metric: c for c in comparison.changes}
    assert changes["e2e:99"].word == "not judged"
    assert changes["e2e:50"].word == "slower"
    drawn = comparison_figures.changes(comparison)
    cells = {row[0]: row[1:5] for row in drawn.cells}
    assert cells["e2e:99"] == ["2", "", "", "not judged"]
    assert "" not in cells["e2e:50"]
    assert "nan" not in drawn.wide


def test_four_claims_at_once_need_a_wider_interval() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 0.05, (3, 6)), rng.normal(0, 0.05, (3, 6))
    one, four = compare.bootstrap_ratio(a, b), compare.bootstrap_ratio(a, b, claims=4)
    assert four[0] == one[0]
    assert four[1] < one[1] < one[0] < one[2] < four[2]


def test_a_page_needs_its_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cells\.parquet: not found"):
        render_report(tmp_path, tmp_path / "report.html")
    with pytest.raises(DataError, match=r"metrics\.jsonl is missing or empty"):
        render_training(tmp_path, tmp_path / "training.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("page", PAGES)
def test_browser_opens_the_page_without_complaint(reports: Path, page: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,900"]
    begin_s = time.monotonic()
    opened = subprocess.run(
        [*command, "--dump-dom", (reports / page).as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert time.monotonic() - begin_s < 60
    complaints = [line for line in opened.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    source = (reports / page).read_text(encoding="utf-8")
    assert opened.stdout.count('class="mark') == source.count('class="mark')
    assert "<title>" in opened.stdout
    assert "<title>1" not in opened.stdout


def test_other_engines_have_a_page_of_their_own(tmp_path: Path) -> None:
    rows: list[Row] = []
    for engine, speed in (("tinylm", 300.0), ("llama.cpp", 100.0), ("tinylm-int4", 400.0), ("llama.cpp-q4_0", 200.0)):
        for repeat in range(2):
            rates = {"tokens_per_s": speed * (1 + repeat / 100), "limit_tokens_per_s": 404.0}
            rows.append(_peer_row(engine, repeat) | rates)
    rows.append(_peer_row("openvino", 0) | {"status": "failed", "error": "not installed"})
    facts = {"run_id": "20260101T000000Z-peers", "created_at": "2026-01-01T00:00:00+00:00", "question": "How fast?"}
    facts |= {"settings": {"rounds": 2}, "models": [{"name": "m", "precision": "int8"}], "version": "0"}
    facts |= {"machine": {"cpu": "chip", "usable_cores": 2}}
    facts |= {"limits": measure_limits(lambda *_: 1e12, lambda *_: 1e11).model_dump(mode="json")}
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run", facts, rows, {}, {})
    render_peers(tmp_path / "run", tmp_path / "run" / "peers.html")
    text = (tmp_path / "run" / "peers.html").read_text(encoding="utf-8")
    assert "3.00× (" in text
    assert "2.00× (" in text  # four bits against four bits
    assert "not installed" in text
    assert "75\u00a0% of the limit" in text
    assert "read 8 MB each" in text
    index = render_index(tmp_path).read_text(encoding="utf-8")
    assert "run/peers.html" in index
    assert "No benchmark has been published" in index


def _peer_row(engine: str, repeat: int) -> Row:
    fields = {"cell_id": f"{engine}-{repeat}", "setup_id": engine, "point_id": "m-W1-1", "role": "measure"}
    fields |= {"repeat": repeat, "position": repeat, "status": "ok", "flags": [], "backend": engine, "model": "m"}
    return fields | {"duration_s": 1.0, "start_s": 1.0, "peak_rss_bytes": 1, "load": "W1-1", "load_kind": "peer"}
