"""Random and mutated prompts files: a row for every line, never an exception, always writable."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from tinylm.stories.job import GenerateJob
from tinylm.stories.readers import count_records, read_records
from tinylm.stories.rows import RowParser

SEEDS: dict[str, list[bytes]] = {
    "jsonl": [
        b'{"prompt": "Once", "id": "a", "temperature": 0.5, "stop": ["x"], "samples": 2}',
        b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a", "n": 1}}',
    ],
    "txt": [b"Once upon a time\\n there", "Zoë 🐢".encode()],
    "csv": [b'id,"prompt"', b'1,"two\nlines ""quoted"""', b"2,plain", b'3,"stray'],
}
SPLICES = [
    b'"',
    b"\\",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"{",
    b"[" * 3000,
    b"\r",
    b"\n",
    b"1e999",
    b"NaN",
    b"\\ud800",
    b",",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e300,
    float("inf"),
    float("nan"),
    "",
    "a",
    [],
    ["a"],
    [1],
    {},
    {"a": 1},
]


def mutated(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(body) + 1)
        body = body[:place] + rng.choice([*SPLICES, rng.randbytes(3)]) + body[place + rng.randrange(3) :]
    return body


@pytest.mark.parametrize("kind", SEEDS)
def test_mutated_files(kind: str) -> None:
    rng = random.Random(17)
    for round_ in range(300):
        body = b"\n".join(mutated(rng, rng.choice(SEEDS[kind])) for _ in range(rng.randrange(1, 12)))
        if kind == "csv":
            body = b"id,prompt\n" + body
        records = list(read_records(io.BytesIO(body), kind, 5000))
        assert len(records) == count_records(io.BytesIO(body), kind, 5000), round_
        if kind != "csv":
            assert len(records) == len(body.split(b"\n")) - (body.endswith(b"\n") or not body)
        check(kind, records)


def test_every_option_with_every_value() -> None:
    names = ["prompt", "id", "custom_id", "samples", "n", "stop", "seed", "top_k", "top_p", "min_p", "temperature"]
    names += ["max_new_tokens", "max_tokens", "repetition_penalty", "ignore_eos", "body", "url", "method"]
    lines = [json.dumps({"prompt": "a", name: value}) for name in names for value in VALUES]
    lines += [
        json.dumps({"custom_id": "a", "body": {"prompt": "a", name: value}}) for name in names for value in VALUES
    ]
    check("jsonl", list(read_records(io.BytesIO("\n".join(lines).encode()), "jsonl", 5000)))


def check(kind: str, records: list[Any]) -> None:
    parser = RowParser(GenerateJob(prompts=(f"p.{kind}",), output="o"), max_prompt_bytes=1000, context_length=10)
    for index, record in enumerate(records):
        row = parser.parse(index, record)
        assert row.index == index
        assert row.id.encode()
        assert (row.error is None) <= (row.prompt is not None)
        assert len((row.error or "").encode()) < 4000
        assert 1 <= row.samples <= 1000
        assert 0 <= row.options.seed < 1 << 63
        assert row.options.temperature == row.options.temperature, "NaN"
        (row.prompt or "").encode()
