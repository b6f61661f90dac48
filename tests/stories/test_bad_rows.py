"""A bad row becomes a row that says why; it costs no other row, wherever it stands."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_engine import FakeEngine

from tinylm.errors import DataError
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob, JobSummary

GOOD = b'{"prompt": "A good row"}'
DEEP = b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

# name: (one line of a .jsonl file, what the reason holds; None: the row is good)
JSON_KINDS: dict[str, tuple[bytes, str | None]] = {
    "empty line": (b"", "empty line"),
    "blank line": (b"  \t ", "empty line"),
    "not JSON": (b"Once upon a time", "not JSON"),
    "cut JSON": (b'{"prompt": "Once', "not JSON"),
    "two values": (b'{"prompt": "a"} {"prompt": "b"}', "not JSON"),
    "number": (b"42", "found a number"),
    "text": (b'"Once upon a time"', "found a string"),
    "null": (b"null", "found null"),
    "array": (b'["Once"]', "found an array"),
    "no prompt": (b'{"text": "Once"}', "unknown field 'text'"),
    "empty object": (b"{}", "no field 'prompt'"),
    "null prompt": (b'{"prompt": null}', "prompt must be text; found null"),
    "number prompt": (b'{"prompt": 7}', "prompt must be text"),
    "list prompt": (b'{"prompt": ["a", "b"]}', "prompt must be text"),
    "object prompt": (b'{"prompt": {"a": 1}}', "prompt must be text; found an object"),
    "deep JSON": (DEEP, "nested too deeply"),
    "lone surrogate": (b'{"prompt": "a\\ud800b"}', "lone surrogate"),
    "surrogate id": (b'{"prompt": "a", "id": "\\udc00"}', "lone surrogate"),
    "NUL escape": (b'{"prompt": "a\\u0000b"}', "NUL"),
    "raw NUL": (b'{"prompt": "a\x00b"}', "not JSON"),
    "invalid UTF-8": (b'{"prompt": "a\xff\xfeb"}', "not UTF-8 at byte 14"),
    "overlong UTF-8": (b'{"prompt": "\xc0\xaf"}', "not UTF-8"),
    "UTF-8 surrogate": (b'{"prompt": "\xed\xa0\x80"}', "not UTF-8"),
    "unknown option": (b'{"prompt": "a", "temprature": 0.5}', "unknown field 'temprature'"),
    "option too big": (b'{"prompt": "a", "top_p": 1.5}', "top_p"),
    "negative option": (b'{"prompt": "a", "max_new_tokens": -1}', "max_new_tokens"),
    "text option": (b'{"prompt": "a", "temperature": "hot"}', "temperature"),
    "number as text": (b'{"prompt": "a", "temperature": "0.5"}', "temperature"),
    "truth option": (b'{"prompt": "a", "top_k": true}', "top_k"),
    "NaN": (b'{"prompt": "a", "temperature": NaN}', "NaN is no JSON number"),
    "infinite": (b'{"prompt": "a", "temperature": 1e999}', "temperature"),
    "huge whole number": (b'{"prompt": "a", "seed": ' + b"9" * 400 + b"}", "seed"),
    "huger whole number": (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", "not usable JSON"),
    "seed over 63 bits": (b'{"prompt": "a", "seed": 9223372036854775808}', "seed"),
    "samples zero": (b'{"prompt": "a", "samples": 0}', "samples"),
    "samples million": (b'{"prompt": "a", "samples": 1000000}', "samples"),
    "stop number": (b'{"prompt": "a", "stop": [1]}', "stop"),
    "truth id": (b'{"prompt": "a", "id": true}', "id must be"),
    "long id": (b'{"prompt": "a", "id": "' + b"i" * 2000 + b'"}', "id of 2,000"),
    "field twice": (b'{"prompt": "a", "prompt": "b"}', "occurs twice"),
    "1 MB prompt": (b'{"prompt": "' + b"a" * 1_000_000 + b'"}', "1,000,000 bytes cannot fit the context of 64"),
    "1 MB beyond the limit": (b'{"prompt": "' + b"a" * 5_000_000 + b'"}', "line of 5,000,014 bytes"),
    "batch url": (b'{"custom_id": "a", "url": "/v1/chat/completions", "body": {"prompt": "a"}}', "url must be"),
    "batch body": (b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": 3}', "body must be"),
    "batch option": (b'{"custom_id": "a", "body": {"prompt": "a", "logprobs": 3}}', "logprobs"),
    "byte order mark": (b'\xef\xbb\xbf{"prompt": "a"}', None),
    "CRLF": (b'{"prompt": "a"}\r', None),
    "duplicate id": (b'{"prompt": "a", "id": "same"}', None),
    "empty prompt": (b'{"prompt": ""}', None),
    "one-prompt list": (b'{"prompt": ["a"]}', None),
}


def run(folder: Path, name: str, body: bytes, **settings: Any) -> tuple[JobSummary, list[dict[str, Any]]]:
    prompts, output = folder / name, folder / "out.parquet"
    prompts.write_bytes(body)
    job = GenerateJob(prompts=(str(prompts),), output=str(output), **settings)
    return generate_file(job, engine=FakeEngine()), pq.read_table(output).to_pylist()


@pytest.mark.parametrize("kind", JSON_KINDS)
def test_bad_json_row_at_any_place_costs_only_itself(kind: str, tmp_path: Path) -> None:
    line, reason = JSON_KINDS[kind]
    summary, rows = run(tmp_path, "prompts.jsonl", b"\n".join([line, GOOD, GOOD, line, GOOD, line + b"\n"]))
    assert [row["row"] for row in rows] == list(range(6))
    good = [row for row in rows if row["prompt"] == "A good row"]
    assert len(good) == 3
    assert all(row["finish_reason"] == "stop" and row["text"] and row["error"] is None for row in good)
    for row in (rows[0], rows[3], rows[5]):
        if reason is None:
            assert row["finish_reason"] != "invalid_input"
        else:
            assert (row["finish_reason"], row["text"], row["output_tokens"]) == ("invalid_input", "", 0)
            assert reason in row["error"]
            assert len(row["error"]) < 1000
    assert summary.bad_rows == (0 if reason is None else 3)
    assert summary.exit_code == (0 if reason is None else 2)
    assert reason is None or f"prompts.jsonl line 1: {rows[0]['error']} (3 bad rows in all)" in str(summary.complaint)


def test_last_line_without_newline_is_a_row(tmp_path: Path) -> None:
    _, rows = run(tmp_path, "prompts.jsonl", GOOD + b"\n" + GOOD)
    assert len(rows) == 2
    _, rows = run(tmp_path / "..", "cut.jsonl", GOOD + b"\n{", overwrite=True)
    assert [row["finish_reason"] for row in rows] == ["stop", "invalid_input"]


def test_bad_rows_have_as_many_answers_as_samples(tmp_path: Path) -> None:
    summary, rows = run(tmp_path, "prompts.jsonl", b"{\n" + GOOD, samples=3)
    assert [(row["row"], row["sample"]) for row in rows] == [(r, s) for r in (0, 1) for s in range(3)]
    assert (summary.rows, summary.answers, summary.bad_rows) == (2, 6, 1)


def test_hundred_megabyte_line_stays_out_of_memory(tmp_path: Path) -> None:
    huge = b'{"prompt": "' + b"a" * 100_000_000 + b'"}'
    for name, body in {"p.jsonl": huge, "p.txt": b"a" * 100_000_000, "p.csv": b'"' + b"a" * 100_000_000}.items():
        prompts = tmp_path / name
        good = GOOD if name == "p.jsonl" else b"A good row"
        head = b"prompt\n" if name == "p.csv" else b""
        prompts.write_bytes(head + b"\n".join([body, good, body] if name == "p.jsonl" else [good, body]))
        job = GenerateJob(prompts=(str(prompts),), output=str(tmp_path / f"{name}.parquet"))
        tracemalloc.start()
        generate_file(job, engine=FakeEngine())
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        reasons = pq.read_table(job.output)["finish_reason"].to_pylist()
        assert reasons == ["invalid_input", "stop", "invalid_input"][0 if name == "p.jsonl" else 1 :]
        assert peak_bytes < 20e6
        prompts.unlink()


def test_text_lines(tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbfone",
        b"",
        b"two\\nlines \\\\n",
        b"cr\r",
        b"\xff",
        b"nul\x00",
        b"  kept  ",
        "Zoë 🐢".encode(),
    ]
    _, rows = run(tmp_path, "prompts.txt", b"\n".join(lines))
    assert [row["prompt"] for row in rows] == ["one", None, "two\nlines \\n", "cr", None, None, "  kept  ", "Zoë 🐢"]
    bad = [row["row"] for row in rows if row["finish_reason"] == "invalid_input"]
    assert bad == [1, 4, 5]


def test_csv_rows(tmp_path: Path) -> None:
    body = (
        b"\xef\xbb\xbfid,prompt,temperature\r\n"
        b'a,"two\nlines, ""quoted""",0.5\r\n'
        b"b,too,many,cells\n"
        b'c,"stray quote,1\n'
        b"d,plain,\n"
        b"e,\xff,1\n"
        b"\n"
        b"f,hot,very\n"
        b'g,5" pipe,0\n'
        b'h,"closed"oddly,0\n'
        b"i,,0\n"
        b"j,last,0"
    )
    _, rows = run(tmp_path, "prompts.csv", body)
    assert [row["id"] for row in rows] == ["a", "1", "2", "d", "4", "5", "f", "g", "8", "i", "j"]
    good = {row["id"]: row["prompt"] for row in rows if row["finish_reason"] != "invalid_input"}
    assert good == {"a": 'two\nlines, "quoted"', "d": "plain", "g": '5" pipe', "j": "last"}
    assert "never closes" in rows[2]["error"]
    assert "4 cells; the header has 3" in rows[1]["error"]


def test_parquet_rows(tmp_path: Path) -> None:
    prompts = pa.array([b"good", b"\xff", None, b"nul\0", b"last"], pa.binary()).view(pa.string())
    table = pa.table({"prompt": prompts, "temperature": [0.5, 1.0, 1.0, 1.0, float("nan")], "other": [1, 2, 3, 4, 5]})
    pq.write_table(table, tmp_path / "p.parquet")
    _, rows = run(tmp_path, "q.parquet", (tmp_path / "p.parquet").read_bytes())
    assert [row["finish_reason"] for row in rows] == ["stop", *["invalid_input"] * 3, "stop"]


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("missing.txt", None, "found no file"),
        ("x" * 300 + ".txt", None, "found no file"),
        ("nul\0.txt", None, "found no file"),
        ("empty.txt", b"", "found no row"),
        ("cut.txt.gz", gzip.compress(b"one\ntwo\n" * 1000)[:-20], "cannot be read as txt.gz"),
        ("no.parquet", b"PAR1 not at all", "cannot be read as parquet"),
        ("wide.txt", "one\n".encode("utf-16"), "UTF-16"),
        ("columns.csv", b"text,other\na,b\n", "no column 'prompt'"),
        ("header.csv", b"\xff,prompt\na,b\n", "header: not UTF-8"),
        ("odd.docx", b"one", "has no suffix"),
    ],
)
def test_unusable_file_is_refused_before_any_work(name: str, body: bytes | None, reason: str, tmp_path: Path) -> None:
    if body is not None:
        (tmp_path / name).write_bytes(body)
    job = GenerateJob(prompts=(str(tmp_path / name),), output=str(tmp_path / "out"))
    engine = FakeEngine()
    with pytest.raises((DataError, Exception), match=reason) as caught:
        generate_file(job, engine=engine)
    assert getattr(caught.value, "exit_code", None) == 2
    assert engine.submitted == 0


@pytest.mark.parametrize("output", ["new/deep/stories", "new/stories.jsonl", "stories.csv", "mine"])
@pytest.mark.parametrize("prompts", ["absent.txt", "-", "bad.jsonl"])
def test_a_refused_job_leaves_nothing(
    output: str, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "bad.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    before = sorted(tmp_path.rglob("*"))
    job = GenerateJob(prompts=(prompts,), output=output, strict=True)
    with pytest.raises(DataError):
        generate_file(job, engine=FakeEngine())
    assert sorted(tmp_path.rglob("*")) == before


def test_strict_refuses_before_any_work(tmp_path: Path) -> None:
    engine = FakeEngine()
    lines = [{"prompt": "a", "id": "x"}, {"prompt": "b", "id": "x"}, {"prompt": 3}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = GenerateJob(prompts=(str(tmp_path / "p.jsonl"),), output=str(tmp_path / "out"), strict=True)
    with pytest.raises(DataError, match=r"p.jsonl line 2: id 'x' was used before \(2 of 3 rows are bad\)"):
        generate_file(job, engine=engine)
    assert engine.submitted == 0
