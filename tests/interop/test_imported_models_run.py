"""Imported models run alike on every backend: the engine on float32 weights, torch, NumPy and transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the models are made with transformers")

from interop_models import CONTEXT, MODELS, VOCAB, make_model, save_model, their_logits, worst

from tinylm.backends import BACKENDS, open_backend
from tinylm.config import GenerateOptions
from tinylm.interop.imports import import_model

# The penalty keeps random weights from repeating one token, which would hide differences.
GREEDY = GenerateOptions(temperature=0, max_new_tokens=CONTEXT, repetition_penalty=8, ignore_eos=True)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_equal_on_every_backend(name: str, tmp_path: Path) -> None:
    model = make_model(name, 6)
    path = tmp_path / "model.safetensors"
    import_model(save_model(model, tmp_path / "theirs"), path, precision="f32")
    tokens = np.random.default_rng(1).integers(0, VOCAB, CONTEXT).tolist()
    expected = their_logits(model, tokens)
    made = []
    for backend_name in BACKENDS:
        backend = open_backend(backend_name, path)
        assert worst(backend.logits(tokens), expected) < 1e-4, backend_name
        made.append(backend.generate("the theme", GREEDY))
        backend.close()
    assert len(set(made[0].token_ids)) > 10
    assert [generation.token_ids for generation in made] == [made[0].token_ids] * len(made)
    assert [generation.text for generation in made] == [made[0].text] * len(made)
