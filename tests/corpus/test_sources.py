"""Sources: every kind of file, clear refusals, the hub without a network, the fingerprint of contents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tinylm.config import parse
from tinylm.corpus import CorpusConfig, NetworkError, corpus_fingerprint
from tinylm.corpus.sources import PINNED, read_documents
from tinylm.errors import ConfigError, DataError

TEXTS = ["The dog ran, and ran.", 'A cat sat.\nIt was "red".', "Zoë has a kite."]


def files(*paths: Path | str, **settings: object) -> CorpusConfig:
    return CorpusConfig(source="files", files=tuple(map(str, paths)), **settings)  # type: ignore[arg-type]


def read(*paths: Path | str, **settings: object) -> list[str | None]:
    return list(read_documents(files(*paths, **settings)))


def write_all_kinds(folder: Path, column: str) -> list[Path]:
    pq.write_table(pa.table({"id": [1, 2, 3], column: TEXTS}), folder / "c.parquet")
    rows = [json.dumps({column: text}, ensure_ascii=False) for text in TEXTS]
    (folder / "b.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "d.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    cells = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    (folder / "a.csv").write_text(f"id,{column}\n" + "".join(f"1,{cell}\n" for cell in cells), encoding="utf-8")
    return [folder / name for name in ("a.csv", "b.jsonl", "c.parquet", "d.jsonl.gz")]


def test_every_kind_of_table_gives_the_same_texts(tmp_path: Path) -> None:
    paths = write_all_kinds(tmp_path, "story")
    for path in paths:
        assert read(path, text_column="story") == TEXTS, path
    (tmp_path / "notes.md").write_text("not a text source")
    assert read(tmp_path, text_column="story") == TEXTS * 4  # a folder: its files in order of name
    assert read(f"{tmp_path}/*.csv", text_column="story") == TEXTS
    assert read(tmp_path, text_column="story", max_documents=2) == TEXTS[:2]


@pytest.mark.parametrize(
    ("content", "separator", "expected"),
    [
        ("one\ntwo\n\n  \nthree\n", "", ["one\ntwo", "three\n"]),
        ("one\n\ntwo<|endoftext|>\nthree\n<|endoftext|>\n", "", ["one\n\ntwo", "\nthree\n"]),
        ("one\n\ntwo\n---\nthree\n", "\n---\n", ["one\n\ntwo", "three\n"]),
        ("one\ntwo\nthree\n", "\n", ["one", "two", "three"]),
        ("one\r\n\r\ntwo\r\n", "", ["one", "two\n"]),
    ],
)
def test_text_files_are_cut_at_separators(tmp_path: Path, content: str, separator: str, expected: list[str]) -> None:
    path = tmp_path / "stories.txt"
    path.write_bytes(content.encode())
    assert read(path, separator=separator) == expected


def test_long_text_files_are_cut_right_at_block_borders(tmp_path: Path) -> None:
    documents = [f"Line one of {index}.\nLine two of {index}." for index in range(20_000)]
    path = tmp_path / "stories.txt"
    path.write_text("\n\n".join(documents))
    assert read(path) == documents


def test_missing_and_odd_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        read(tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no text; expected files ending in \.txt"):
        read(tmp_path / "empty")
    (tmp_path / "story.doc").write_text("x")
    with pytest.raises(DataError, match=r"story\.doc: unknown kind"):
        read(tmp_path / "story.doc")
    (tmp_path / "latin.txt").write_bytes("Zoë".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path / "latin.txt")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"bad\.parquet: cannot be read as parquet"):
        read(tmp_path / "bad.parquet")


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n{"text": oops}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl: cannot be read as json; line 2 is not JSON"):
        read(path)
    path.write_text('{"body": "x", "title": "y"}\n')
    with pytest.raises(DataError, match="no column 'text'; found body, title; rename one to 'text', or"):
        read(path)
    path.write_text('{"text": 5}\n')
    with pytest.raises(DataError, match="column 'text' holds int; expected text"):
        read(path)
    path.write_text('{"text": "a"}\n{"text": null}\n')
    assert read(path) == ["a", None]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one path"):
        parse(CorpusConfig, {"source": "files"})
    with pytest.raises(ConfigError, match="only used with source"):
        parse(CorpusConfig, {"files": ["a.txt"]})
    with pytest.raises(ConfigError, match="min_words must not exceed"):
        parse(CorpusConfig, {"min_words": 9, "max_words": 8})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Stand in for the hub: records the calls and has no network."""
    import datasets

    calls: list[dict[str, object]] = []

    def load(name: str, **settings: object) -> None:
        calls.append({"name": name, **settings})
        raise ConnectionError("Couldn't reach 'x' on the Hub\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_hub_without_network_says_what_to_do(hub: list[dict[str, object]]) -> None:
    with pytest.raises(NetworkError, match=r"cannot be reached .*source = 'files'.*source = 'builtin'") as caught:
        list(read_documents(CorpusConfig(source="hub", streaming=True)))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DataError)
    name = "roneneldan/TinyStories"
    assert hub == [{"name": name, "split": "train", "revision": PINNED[name], "streaming": True}]


def test_fingerprint_follows_contents_not_times(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = corpus_fingerprint(files(path))
    path.touch()
    assert corpus_fingerprint(files(tmp_path)) == before
    path.write_text("two")
    assert corpus_fingerprint(files(path)) != before
    assert corpus_fingerprint(files(path)) != corpus_fingerprint(files(path, valid_files=(str(path),)))
