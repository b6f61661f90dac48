"""Figures checked by hand, and the page that shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_engine import FakeEngine

from tinylm.errors import DataError
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob
from tinylm.stories.page import job_quality, write_stories_page
from tinylm.stories.quality import TrainingText, measure_quality


def test_figures_by_hand() -> None:
    quality = measure_quality(["The cat sat. The cat sat. It ran!", "the dog ran and", 'He said "go."'])
    assert quality.words_per_story == pytest.approx(15 / 3)
    assert quality.distinct_1 == pytest.approx(10 / 15)  # the cat sat it ran dog and he said go
    assert quality.distinct_2 == pytest.approx(10 / 12)  # "the cat" and "cat sat" stand there twice
    assert quality.ended_share == pytest.approx(2 / 3)
    assert quality.repeated_sentence_rate == pytest.approx(1 / 4)
    assert quality.same_story_share == 0
    assert quality.copied_share is None
    assert measure_quality(["a b.", "a b."]).same_story_share == 0.5
    assert measure_quality([]).stories == 0


def test_copied_runs_of_thirteen_words() -> None:
    words = [f"w{number}" for number in range(40)]
    training = TrainingText([" ".join(words[:20]), " ".join(words[20:])])
    assert training.copied(" ".join(words[:13])) == (1, 1)
    assert training.copied(" ".join(words[2:16]).upper()) == (2, 2)
    assert training.copied(" ".join(words[14:27])) == (0, 1), "no run goes over the end of a story"
    assert training.copied(" ".join(words[1:13])) == (0, 0)
    assert training.copied(" ".join([*words[:13], "new"])) == (1, 2)
    assert training.copied(" ".join(reversed(words[:13]))) == (0, 1)
    quality = measure_quality([" ".join(words[:13]), " ".join(words[14:27])], training)
    assert (quality.copied_share, quality.most_copied_story) == (0.5, 1.0)
    assert TrainingText([]).copied(" ".join(words)) == (0, 28)


def test_real_text_is_copied_from_itself_alone(shared_data: Path) -> None:
    train = pq.read_table(shared_data / "tinystories" / "train.parquet")["text"].to_pylist()[:300]
    valid = pq.read_table(shared_data / "tinystories" / "valid.parquet")["text"].to_pylist()[:100]
    training = TrainingText(train)
    assert measure_quality(train[:50], training).copied_share == 1.0
    assert (measure_quality(valid, training).copied_share or 0.0) < 0.02
    assert (measure_quality(valid).ended_share or 0.0) > 0.95


def test_page_is_escaped_and_needs_no_network(tmp_path: Path) -> None:
    attack = "</script><img src=x onerror=alert(1)> & {{ 7 * 7 }}"
    (tmp_path / "p.txt").write_text(f"{attack}\nPlain\n\n")
    job = GenerateJob(prompts=(str(tmp_path / "p.txt"),), output=str(tmp_path / "out"))
    generate_file(job, engine=FakeEngine())
    quality = write_stories_page(tmp_path / "out", tmp_path / "page" / "stories.html", human=[f"Human {attack}"])
    html = (tmp_path / "page" / "stories.html").read_text()
    assert quality == job_quality(tmp_path / "out")
    assert quality.stories == 2
    assert "<img" not in html
    assert html.count("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt; &amp; {{ 7 * 7 }}") == 2
    assert not re.search(r"<[^>]*(src|href)\s*=|https?://|@import|url\(", html)
    assert "row 2" in html
    assert "empty line" in html


def test_page_of_no_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shard"):
        write_stories_page(tmp_path, tmp_path / "stories.html")
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read"):
        write_stories_page(tmp_path / "x.parquet", tmp_path / "stories.html")
