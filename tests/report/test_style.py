"""The style sheet: what a screen needs, and what paper does without."""

from __future__ import annotations

import re
from pathlib import Path

import tinylm.report

STYLE = (Path(tinylm.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
Rule = tuple[str, str]


def _rules(text: str) -> list[Rule]:
    """Return (selectors, declarations), spaces aside."""
    return [(" ".join(s.split()), " ".join(d.split())) for s, d in re.findall(r"([^{}]+)\{([^{}]*)\}", text)]


def test_paper_hides_the_controls_and_repeats_nothing_of_the_screen() -> None:
    assert STYLE.count("{") == STYLE.count("}")
    screen, paper = STYLE.split("@media print {")  # the last block: its rules win over those of a narrow screen
    assert "@media" not in paper
    assert all("screen and" in query for query in re.findall(r"@media.*prefers-color-scheme.*", screen))
    rules = _rules(paper)
    hidden = [selectors for selectors, declarations in rules if "display: none" in declarations]
    assert hidden == ["nav, .tools, details.data, .skip, #tip"]
    assert not set(rules) & set(_rules(screen))
