"""The stories page: how the stories were written, and which of them have no end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

from tinylm.config import GenerateOptions
from tinylm.report.stories_page import options_text
from tinylm.stages import output


def test_page_tells_the_options_in_words_and_which_stories_were_cut_off(tmp_path: Path) -> None:
    rows = [{"prompt": "One", "text": " day.", "finish_reason": r} for r in ("stop", "length", "context_full")]
    (tmp_path / output.STORIES_FILE).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = GenerateOptions(max_new_tokens=1000, temperature=0.5, min_p=0.2, seed=1).model_dump(mode="json")
    ref = SimpleNamespace(path=tmp_path, manifest=SimpleNamespace(config={"options": options}))
    output._render_stories(ref, tmp_path / "stories.html")  # type: ignore[arg-type]
    page = (tmp_path / "stories.html").read_text(encoding="utf-8")
    assert "Written with temperature 0.5, top-k 40, top-p 0.95, min-p 0.2, seed 1, at most 1,000 tokens." in page
    notes = [re.findall(r'class="quiet">(.*?)</p>', story) for story in page.split("<article")[1:]]
    assert notes == [
        [],
        ["Cut off: it reached the most tokens allowed."],
        ["Cut off: the model&#39;s context was full."],
    ]


def test_options_that_are_off_are_left_out() -> None:
    greedy = GenerateOptions(temperature=0, stop=("The end", "\n"), ignore_eos=True, max_new_tokens=8)
    assert options_text(greedy) == (
        "Written with the likeliest token each time, ended before 'The end' or '\\n', "
        "going on past a story's end, at most 8 tokens."
    )
