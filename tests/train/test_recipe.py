"""The recipe for given minutes: bigger budgets, bigger models; what it asks for is a valid run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tinylm.artifacts import Store
from tinylm.errors import ConfigError
from tinylm.pipeline import FITTED_FROM, Profile, _fitted, load_profile
from tinylm.presets import preset
from tinylm.progress import NullProgress
from tinylm.stages import recipe as recipe_stage
from tinylm.train import plan
from tinylm.train.recipe import recommend
from tinylm.weights import weight_shapes

MINUTES = (0.1, 1, 2, 8, 30, 600, 1e5)


@pytest.mark.parametrize("tables", [False, True])
def test_longer_runs_get_larger_models(tables: bool) -> None:
    recipes = [recommend(minutes, 1 << 34, 1.5e11, tables=tables) for minutes in MINUTES]
    shapes = [recipe.train.shape for recipe in recipes]
    sizes = [shape.d_model**2 * shape.n_layers for shape in shapes]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 4
    for recipe, shape in zip(recipes, shapes, strict=True):
        assert shape.vocab_size == recipe.vocab_size
        assert shape.has_lookup_tables == tables


def test_eight_minutes_on_two_cores_are_the_story_presets() -> None:
    assert recommend(8, 11_000_000, 1.5e11).train.shape == preset("story")
    assert recommend(8, 11_000_000, 1.5e11, tables=True).train.shape == preset("story-tables")


def test_small_text_gets_a_small_vocabulary_and_decay() -> None:
    recipe = recommend(8, 300_000, 1.5e11)
    assert recipe.vocab_size == 750
    assert recipe.train.weight_decay > 0
    assert any("this text is small" in reason for reason in recipe.reasons)


def test_several_passes_leave_out_pairs_and_see_longer_rows() -> None:
    shorter, longer = (recommend(minutes, 11_000_000, 1.45e11, tables=True) for minutes in (8, 30))
    assert (shorter.train.ngram_dropout, longer.train.ngram_dropout) == (0, 0.3)
    assert any("leave out 30% of the pairs" in reason for reason in longer.reasons)
    assert recommend(30, 11_000_000, 1.45e11).train.ngram_dropout == 0
    assert (shorter.train.row_lengths, shorter.train.short_share) == ((64, 128, 256), 0.5)
    assert (longer.train.row_lengths, longer.train.short_share) == ((64, 128, 256, 512), 0.75)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_every_worker_has_a_row_of_the_batch(workers: int) -> None:
    for minutes in MINUTES:
        train = recommend(minutes, 11_000_000, 1.5e11, workers=workers).train
        assert train.batch_tokens // train.row_length % workers == 0


def fitted(store: Store, wishes: dict[str, Any], *, tables: bool = False) -> Profile:
    """The profile of a run fitted around `wishes`, for 11 MB of text."""
    manifest: Any = SimpleNamespace(content_sha256="0" * 64, summary={"train": {"bytes": 11_000_000}})
    corpus: Any = SimpleNamespace(stage="corpus", key="0" * 16, manifest=manifest, summary=manifest.summary)
    profile = load_profile(FITTED_FROM, wishes)
    return _fitted(profile, recipe_stage(store, profile.train, corpus, NullProgress(), tables=tables), wishes)


def test_a_fitted_run_keeps_what_its_user_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "measure_speed", lambda *_: 1.45e11)
    store = Store(tmp_path)
    wishes = {"train.minutes": 30, "train.seed": 7, "train.threads": 1, "train.ngram_dropout": 0.5}
    train = fitted(store, wishes, tables=True).train
    assert (train.minutes, train.seed, train.threads, train.ngram_dropout) == (30, 7, 1, 0.5)
    assert train.shape.d_model == 192
    defaults = {"train.minutes": 30, "train.ngram_dropout": 0.0, "train.batch_tokens": 1024, "train.preset": "story"}
    like_the_profile = fitted(store, defaults, tables=True).train
    assert (like_the_profile.ngram_dropout, like_the_profile.batch_tokens) == (0, 1024)
    assert like_the_profile.shape == preset("story")
    own = fitted(store, {"train.preset": "gpt-2m", "tokenizer.vocab_size": 1024})
    assert own.train.shape == preset("gpt-2m")
    assert own.tokenizer.vocab_size == 1024
    with pytest.raises(ConfigError, match=r"a fitted run: .*rows of 512 must divide the tokens held at once"):
        fitted(store, {"train.minutes": 30, "train.micro_batch_tokens": 256})


def test_the_same_wish_is_the_same_recipe_however_fast_the_machine_seems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plan, "measure_speed", lambda *_: 1.45e11)
    first = fitted(Store(tmp_path), {"train.minutes": 8})
    monkeypatch.setattr(plan, "measure_speed", lambda *_: 0.5e11)
    assert fitted(Store(tmp_path), {"train.minutes": 8}) == first
    assert fitted(Store(tmp_path), {"train.minutes": 7}).train.shape.n_layers < first.train.shape.n_layers
    monkeypatch.setattr("tinylm.bench.machine.machine_key", lambda: "another machine")
    assert fitted(Store(tmp_path), {"train.minutes": 8}).train.shape.n_layers < first.train.shape.n_layers


def test_tables_grow_with_the_vocabulary() -> None:
    small, large = (recommend(minutes, 1 << 34, 1.5e11, tables=True).train.shape for minutes in (8, 600))
    rows = [weight_shapes(shape)["ngram_embeddings.2.weight"][0] for shape in (small, large)]
    assert rows == [8 * small.vocab_size, 8 * large.vocab_size]
    assert rows[0] < rows[1]
