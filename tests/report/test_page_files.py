"""A page is a whole file or none, whatever the system says to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinylm.errors import DataError, StageError
from tinylm.report import Story, render_stories

TOLD = [Story("Once", " upon a time.", "")]


def test_a_page_that_does_not_fit_leaves_the_one_before(tmp_path: Path, largest_file: Any) -> None:
    page = tmp_path / "page.html"
    render_stories(TOLD, page)
    before = page.read_bytes()
    for place in (page, tmp_path / "new" / "page.html"):
        with largest_file(1000), pytest.raises(StageError, match=r"page\.html: cannot be written \(File too large\)"):
            render_stories(TOLD, place)
    assert list(tmp_path.iterdir()) == [page]
    assert page.read_bytes() == before


@pytest.mark.parametrize(("place", "words"), [("folder", "is a folder"), ("file/page.html", "cannot be written")])
def test_a_page_has_a_place_of_its_own(place: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=words):
        render_stories(TOLD, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
