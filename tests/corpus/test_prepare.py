"""The corpus stage: cleaning, copies, the held-out split, determinism."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tinylm.corpus import CorpusConfig, prepare_corpus, read_texts
from tinylm.corpus.clean import clean_text, is_cut
from tinylm.corpus.grammar import write_story
from tinylm.errors import DataError
from tinylm.progress import NullProgress

STORIES = [write_story(9, index).text for index in range(400)]


def prepare(folder: Path, texts: list[str], **settings: object) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return summary, training texts and validation texts of a corpus of `texts`."""
    folder.mkdir(exist_ok=True)
    source = folder / "source.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    settings = {"near_duplicate": 0.8, "max_overlap": 1.0, **settings}
    cfg = CorpusConfig(source="files", files=(str(source),), **settings)  # type: ignore[arg-type]
    summary = prepare_corpus(cfg, folder, NullProgress())
    return summary, *(
        [text for batch in read_texts(folder / f"{name}.parquet") for text in batch] for name in ("train", "valid")
    )


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("“Hi,” said Tim’s mom…", '"Hi," said Tim\'s mom…'),
        ("â€œHi,â€\x9d said Timâ€™s mom.", '"Hi," said Tim\'s mom.'),
        ("one\r\ntwo\rthree\n\n\n four  \t five \n", "one\ntwo\nthree\nfour five"),
        ("a\x00b\x1b\ufeffc\u200bd", "abcd"),
        ("Zoë ate &amp; slept.", "Zoë ate &amp; slept."),
    ],
)
def test_cleaning(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean
    assert clean_text(clean) == clean


def test_cut_stories_are_told_from_whole_ones() -> None:
    assert not any(map(is_cut, ["The end.", 'He said, "Go!"', "Why? (Nobody knew.)", "The end...", "So they left…"]))
    assert all(map(is_cut, ["And then the", 'He said, "I', "a dog,", "Once:"]))


def test_reasons_are_counted(tmp_path: Path) -> None:
    copy = STORIES[0].upper().replace(".", " . ")
    near = STORIES[1].replace("little", "small").rsplit(".", 2)[0] + "."
    odd = ["", "  \n", "Too short.", " ".join(["word"] * 600) + ".", "This story stops in the middle of the"]
    summary, train, valid = prepare(
        tmp_path, [*STORIES[:50], copy, near, *odd], drop_cut=True, min_words=5, max_words=500
    )
    expected = {"empty": 2, "too_short": 1, "too_long": 1, "cut": 1, "copy": 1, "near_copy": 1}
    assert {reason: summary["dropped"][reason] for reason in expected} == expected
    assert summary["documents_read"] == 57
    assert len(train) + len(valid) == 50
    assert summary["train"]["documents"] == len(train)
    assert summary["train"]["bytes"] == sum(len(text.encode()) for text in train)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert not (tmp_path / "staging.parquet").exists()


def test_different_stories_are_no_copies(tmp_path: Path) -> None:
    summary, _, _ = prepare(tmp_path, STORIES)
    assert summary["dropped"].get("near_copy", 0) == 0


def test_split_does_not_depend_on_order_or_growth(tmp_path: Path) -> None:
    _, train, valid = prepare(tmp_path / "a", STORIES[:300], valid_share=0.1)
    shuffled = random.Random(1).sample(STORIES, len(STORIES))
    _, _, more_valid = prepare(tmp_path / "b", shuffled, valid_share=0.1)
    assert 10 < len(valid) < 60
    assert set(valid) <= set(more_valid)
    assert not set(train) & set(more_valid)


def test_same_input_gives_same_files(tmp_path: Path) -> None:
    prepare(tmp_path / "a", STORIES)
    prepare(tmp_path / "b", STORIES)
    for name in ("train.parquet", "valid.parquet", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_given_validation_text_stays_as_it_is_and_leaves_training(tmp_path: Path) -> None:
    curly = "“So,” said Tim.  He ran home to his big dog."
    valid_file = tmp_path / "valid.txt"
    valid_file.write_text("\n\n".join([curly, STORIES[3].replace("\n", " "), STORIES[4].replace("\n", " ")]))
    leak = "Before all this. " + STORIES[4][: len(STORIES[4]) // 2] + " And that was all, my dear children."
    summary, train, valid = prepare(tmp_path, [*STORIES[:60], leak], valid_files=(str(valid_file),), max_overlap=0.5)
    assert valid[0] == curly
    assert STORIES[3] not in train
    assert leak not in train
    assert STORIES[5] in train
    assert summary["dropped"]["in_validation"] == 2
    assert summary["dropped"]["overlaps_validation"] >= 1
    assert 0 <= summary["valid_ngrams_in_train"] < 0.6


def test_small_corpora_still_get_a_validation_story(tmp_path: Path) -> None:
    _, train, valid = prepare(tmp_path, STORIES[:3], valid_share=0.001)
    assert (len(train), len(valid)) == (2, 1)


def test_corpora_without_text_are_refused(tmp_path: Path) -> None:
    for name, texts in (("one", STORIES[:1]), ("none", []), ("short", ["a b", "c d"])):
        with pytest.raises(DataError, match=r"source\.jsonl: no (train|valid) text is left of \d documents"):
            prepare(tmp_path / name, texts)


def test_builtin_corpus(tmp_path: Path) -> None:
    summary = prepare_corpus(CorpusConfig(stories=500), tmp_path, NullProgress())
    assert summary["train"]["documents"] + summary["valid"]["documents"] == 500
    assert summary["dropped"] == {"copy": 0}
    first = next(read_texts(tmp_path / "train.parquet"))[0]
    assert first in {write_story(0, index).text for index in range(5)}


def test_real_stories_are_all_kept(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "tinystories"
    cfg = CorpusConfig(
        source="files",
        files=(str(folder / "train.parquet"),),
        valid_files=(str(folder / "valid.parquet"),),
        max_documents=4000,
    )
    summary = prepare_corpus(cfg, tmp_path, NullProgress())
    assert (summary["train"]["documents"], summary["valid"]["documents"]) == (4000, 1250)
    assert sum(summary["dropped"].values()) == 0, "the shared text is already cleaned and free of copies"
    assert summary["valid_ngrams_in_train"] < 0.02
