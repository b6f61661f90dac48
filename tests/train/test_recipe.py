"""The recipe for given minutes: bigger budgets, bigger models; what it asks for is a valid run."""

from __future__ import annotations

import pytest

from tinylm.presets import preset
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


def test_tables_grow_with_the_vocabulary() -> None:
    small, large = (recommend(minutes, 1 << 34, 1.5e11, tables=True).train.shape for minutes in (8, 600))
    rows = [weight_shapes(shape)["ngram_embeddings.2.weight"][0] for shape in (small, large)]
    assert rows == [8 * small.vocab_size, 8 * large.vocab_size]
    assert rows[0] < rows[1]
