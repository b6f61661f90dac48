"""Every way in and every way out: the same rows, the same answers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fake_engine import FakeEngine, FakeInfo
from pydantic import ValidationError

from tinylm.config import parse
from tinylm.errors import ConfigError, FormatError
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob
from tinylm.stories.lines import LongLine, bounded_lines, count_lines
from tinylm.stories.plan import single_format
from tinylm.stories.rows import row_seed
from tinylm.stories.sources import find_sources, identify, job_records

ROWS = [{"id": f"r{number}", "prompt": f'Story "{number}",\nnew line', "temperature": 0.5} for number in range(25)]


def as_csv(delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def as_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=7)
    return sink.getvalue()


def as_jsonl() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


FILES: dict[str, bytes] = {
    "p.jsonl": as_jsonl(),
    "p.ndjson": as_jsonl(),
    "p.jsonl.gz": gzip.compress(as_jsonl()),
    "p.jsonl.zst": zstandard.compress(as_jsonl()),
    "two-frames.jsonl.zst": zstandard.compress(as_jsonl()[:100]) + zstandard.compress(as_jsonl()[100:]),
    "p.csv": as_csv(),
    "p.tsv": as_csv("\t"),
    "p.csv.gz": gzip.compress(as_csv()),
    "p.parquet": as_parquet(),
    "p.parquet.zst": zstandard.compress(as_parquet()),
    "odd name, with [marks] ü.jsonl": as_jsonl(),
}


def answers(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    job = GenerateJob(output=str(folder / "out.parquet"), **settings)
    generate_file(job, engine=FakeEngine())
    return [dict(row) for row in pq.read_table(job.output).to_pylist()]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("wanted")
    (folder / "p.jsonl").write_bytes(as_jsonl())
    return answers(folder, prompts=(str(folder / "p.jsonl"),))


@pytest.mark.parametrize("name", FILES)
def test_every_prompts_format_gives_the_same_answers(name: str, tmp_path: Path, wanted: list[dict[str, Any]]) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    assert answers(tmp_path, prompts=(str(tmp_path / name),)) == wanted
    assert [row["id"] for row in wanted] == [row["id"] for row in ROWS]
    assert [row["seed"] for row in wanted] == [row_seed(0, number) for number in range(25)]


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.parquet"])
@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 24, 25, 30, 49])
def test_reading_can_start_at_any_row(name: str, start: int, tmp_path: Path) -> None:
    for place in range(2):
        (tmp_path / f"{place}-{name}").write_bytes(FILES[name])
    job = GenerateJob(prompts=(str(tmp_path / f"*-{name}"),), output="unused")
    sources = find_sources(job)
    inputs = [identify(source, job.max_row_bytes) for source in sources]
    whole = list(job_records(sources, inputs, job.max_row_bytes))
    assert [row for row, _ in whole] == list(range(50))
    assert list(job_records(sources, inputs, job.max_row_bytes, start)) == whole[start:]


def test_several_files_and_a_url_count_on(tmp_path: Path, wanted: list[dict[str, Any]]) -> None:
    (tmp_path / "b.csv").write_bytes(FILES["p.csv"])
    with fsspec.open("memory://prompts/a.jsonl.gz", "wb") as file:
        file.write(FILES["p.jsonl.gz"])
    rows = answers(tmp_path, prompts=("memory://prompts/*.gz", str(tmp_path / "b.csv")))
    assert rows[:25] == wanted
    assert [row["row"] for row in rows] == list(range(50))
    assert [row["prompt"] for row in rows[25:]] == [row["prompt"] for row in wanted]
    assert rows[25]["seed"] != rows[0]["seed"]


def test_mapped_columns_leave_plain_lines_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A line\n")
    (tmp_path / "b.csv").write_text("opening\nA cell\n")
    (tmp_path / "c.jsonl").write_text('{"opening": "A value"}\n{"prompt": "Not mapped"}\n')
    rows = answers(tmp_path, prompts=(str(tmp_path / "[abc].*"),), columns={"prompt": "opening"})
    assert [row["prompt"] for row in rows] == ["A line", "A cell", "A value", None]
    assert rows[3]["error"] == "no field 'opening'; found 'prompt'"


def test_standard_input(tmp_path: Path, wanted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(as_jsonl())))
    assert answers(tmp_path, prompts=("-",)) == wanted
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"One\nTwo")))
    job = GenerateJob(prompts=("-",), output=str(tmp_path / "folder"))
    assert generate_file(job, engine=FakeEngine()).rows == 2
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "_job.json",
        "_manifest.json",
        "part-00000.parquet",
    ]


def test_output_forms_hold_the_same_rows(tmp_path: Path, wanted: list[dict[str, Any]]) -> None:
    (tmp_path / "p.jsonl").write_bytes(as_jsonl())
    outputs = {}
    for name in ("shards", "s.jsonl", "s.csv", "s.txt"):
        outputs[name] = tmp_path / name
        job = GenerateJob(prompts=(str(tmp_path / "p.jsonl"),), output=str(outputs[name]), shard_rows=10)
        generate_file(job, engine=FakeEngine())
    assert pq.read_table(outputs["shards"]).to_pylist() == wanted
    assert [json.loads(line) for line in outputs["s.jsonl"].read_text().splitlines()] == wanted
    with outputs["s.csv"].open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == [row["text"] for row in wanted]
    lines = outputs["s.txt"].read_text().splitlines()
    assert lines[0] == wanted[0]["prompt"].replace("\n", "\\n") + wanted[0]["text"]
    assert len(lines) == 25
    metadata = pq.read_metadata(outputs["shards"] / "part-00000.parquet").metadata
    identity = json.loads(metadata[b"tinylm.job"])
    assert identity["model"] == "fake-model"
    assert identity["settings"]["options"]["temperature"] == 0.8


@pytest.mark.parametrize("name", ["out.PARQUET", "out.JSONL", "out.Csv", "out.TXT"])
def test_a_suffix_in_capitals_is_that_suffix(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(FILES["p.csv"])
    job = GenerateJob(prompts=(str(tmp_path / "p.csv"),), output=str(tmp_path / name))
    generate_file(job, engine=FakeEngine())
    before = (tmp_path / name).read_bytes()
    assert generate_file(job, engine=FakeEngine()).reused_rows == len(ROWS)
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("name", ["out.txt.gz", "out.JSON", "s3://a/out.parquet.zst"])
def test_a_format_that_is_not_written_is_refused(name: str) -> None:
    for folder in ("out", "out.v2", "out.gz.d", ".json"):
        assert single_format(GenerateJob(prompts=("p",), output=folder).output) is None
    with pytest.raises(ConfigError, match=r"output: found .* is not written; name a file ending in \.parquet, \.jsonl"):
        parse(GenerateJob, {"prompts": ("p",), "output": name})


def test_output_on_a_remote_file_system(tmp_path: Path, wanted: list[dict[str, Any]]) -> None:
    (tmp_path / "p.jsonl").write_bytes(as_jsonl())
    for output in ("memory://out/shards", "memory://out/all.parquet"):
        job = GenerateJob(prompts=(str(tmp_path / "p.jsonl"),), output=output, shard_rows=10)
        generate_file(job, engine=FakeEngine())
        again = FakeEngine()
        assert generate_file(job, engine=again).rows == 25
        assert again.submitted == 0
    fs = fsspec.filesystem("memory")
    assert [path.rsplit("/")[-1] for path in sorted(fs.ls("/out/shards", detail=False))] == [
        "_job.json",
        "_manifest.json",
        *[f"part-0000{number}.parquet" for number in range(3)],
    ]
    with fs.open("/out/all.parquet", "rb") as file:
        assert pq.read_table(file).to_pylist() == wanted


def test_template_and_renamed_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("uid,adjective,animal\nx,small,cat\ny,,dog\n")
    template = "Once upon a time, a {adjective} {animal}"
    rows = answers(tmp_path, prompts=(str(tmp_path / "p.csv"),), template=template, columns={"id": "uid"})
    assert [(row["id"], row["prompt"]) for row in rows] == [
        ("x", "Once upon a time, a small cat"),
        ("y", "Once upon a time, a  dog"),
    ]
    (tmp_path / "q.jsonl").write_text('{"adjective": "red", "animal": "fox"}\n{"animal": "fox"}\n{"adjective": [1]}\n')
    rows = answers(tmp_path, prompts=(str(tmp_path / "q.jsonl"),), template=template, overwrite=True)
    assert rows[0]["prompt"] == "Once upon a time, a red fox"
    assert "column 'adjective' needs text" in rows[1]["error"]


@pytest.mark.parametrize("template", ["no place", "{}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a", "a}"])
def test_template_takes_plain_column_names_only(template: str) -> None:
    with pytest.raises(ValidationError):
        GenerateJob(prompts=("p.csv",), output="out", template=template)


def test_themes_and_presets_need_no_file(tmp_path: Path) -> None:
    rows = answers(tmp_path, themes=("friendship", "the sea"), samples=2)
    assert [row["sample"] for row in rows] == [0, 1, 0, 1]
    assert "friendship" in rows[0]["prompt"]
    told = answers(tmp_path, themes=("hats",), template="About {theme}:", overwrite=True)
    assert told[0]["prompt"] == "About hats:"
    for wrong in ({"themes": (" ",)}, {"themes": ("hats",), "template": "{animal}"}):
        with pytest.raises(ValidationError, match="theme"):
            answers(tmp_path, **wrong)
    assert len(answers(tmp_path, preset="bedtime", overwrite=True)) >= 5
    with pytest.raises(ConfigError, match="known presets: adventure, animals"):
        answers(tmp_path, preset="nonsense", overwrite=True)


def test_the_model_file_says_how_a_theme_begins(tmp_path: Path) -> None:
    job = GenerateJob(output=str(tmp_path / "out.parquet"), themes=("hats", "the sea"))
    generate_file(job, engine=FakeEngine(info=FakeInfo(provenance={"theme_template": "All about {theme}."})))
    prompts = [row["prompt"] for row in pq.read_table(job.output).to_pylist()]
    assert prompts == ["All about hats.", "All about the sea."]
    with pytest.raises(FormatError, match=r"has the place \{theme\} and no other; found 'hats'"):
        generate_file(job, engine=FakeEngine(info=FakeInfo(provenance={"theme_template": "hats"})))


def test_row_options_win_over_the_jobs(tmp_path: Path) -> None:
    class Watching(FakeEngine):
        def submit(self, request: Any) -> int:
            seen.append(request)
            return super().submit(request)

    seen: list[Any] = []
    row = {"prompt": "a", "max_new_tokens": 3, "top_k": 0, "stop": ["x", "y"], "seed": 11, "samples": 2}
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + '\n{"prompt": "b", "n": 1, "max_tokens": 4, "stop": "z"}\n')
    job = GenerateJob(prompts=(str(tmp_path / "p.jsonl"),), output=str(tmp_path / "o.parquet"))
    generate_file(job, engine=Watching())
    options = [request.options for request in seen]
    assert [request.sample for request in seen] == [0, 1, 0]
    assert (options[0].max_new_tokens, options[0].top_k, options[0].stop, options[0].seed) == (3, 0, ("x", "y"), 11)
    assert (options[2].max_new_tokens, options[2].stop, options[2].seed) == (4, ("z",), row_seed(0, 1))
    assert options[0].temperature == 0.8
    assert pq.read_table(job.output)["seed"].to_pylist() == [11, 11, row_seed(0, 1)]


def test_openai_batch_is_read_back_by_the_openai_package(tmp_path: Path) -> None:
    types = pytest.importorskip("openai.types", reason="the openai package is not installed")
    body = {"model": "any", "prompt": "Once", "max_tokens": 5, "n": 2, "temperature": 0.3, "stream": False}
    line = {"custom_id": "first", "method": "POST", "url": "/v1/completions", "body": body}
    bad = {"custom_id": "second", "method": "POST", "url": "/v1/completions", "body": {**body, "best_of": 4}}
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(bad) + "\n")
    output = tmp_path / "o.jsonl"
    job = GenerateJob(prompts=(str(tmp_path / "p.jsonl"),), output=str(output), answer_form="openai")
    assert generate_file(job, engine=FakeEngine()).exit_code == 2
    good, failed = (json.loads(text) for text in output.read_text().splitlines())
    assert good.keys() == failed.keys() == {"id", "custom_id", "response", "error"}
    completion = types.Completion.model_validate(good["response"]["body"], strict=True)
    assert (good["custom_id"], good["error"], good["response"]["status_code"]) == ("first", None, 200)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert (failed["custom_id"], failed["response"]) == ("second", None)
    assert "best_of" in failed["error"]["message"]


def test_bounded_lines_equal_a_plain_split() -> None:
    rng = random.Random(3)
    for _ in range(200):
        body = b"".join(rng.choice([b"a", b"bc", b"\n", b"\r\n", b"d" * 90]) for _ in range(rng.randrange(60)))
        plain = body.split(b"\n")[: None if body and not body.endswith(b"\n") else -1]
        limit, skip = rng.choice([5, 50, 10_000]), rng.randrange(5)
        lines = list(bounded_lines(_Dribble(body, rng.randrange(1, 40)), limit, skip))
        assert len(lines) == len(plain[skip:])
        for line, whole in zip(lines, plain[skip:], strict=True):
            assert line == whole if len(whole) <= limit else line == LongLine(len(whole), whole[:256])
        assert count_lines(io.BytesIO(body)) == len(plain)


class _Dribble(io.BytesIO):
    """Gives a few bytes at a time."""

    def __init__(self, body: bytes, step: int) -> None:
        super().__init__(body)
        self._step = step

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._step if size is None or size < 0 else min(size, self._step))


def test_row_seed_never_changes() -> None:
    assert [row_seed(0, 0), row_seed(0, 1), row_seed(1, 0)] == [
        8147104208329303767,
        3980143261097177850,
        6915206964022700985,
    ]
    assert len({row_seed(job, row) for job in range(100) for row in range(100)}) == 10_000
