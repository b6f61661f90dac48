"""Adapters in PEFT's layout, written by hand here: merged weights equal W + (alpha / r) B A."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the adapted models are made with transformers")

import torch
from interop_models import make_model, our_logits, save_model, their_logits, worst
from safetensors.torch import save_file

from tinylm.errors import UserError
from tinylm.interop.imports import read_checkpoint

TARGETS = {
    "llama": ["model.layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj", "model.layers.0.self_attn.k_proj"],
    "gpt2-scales": ["transformer.h.0.attn.c_attn", "transformer.h.2.mlp.c_proj"],
    "gpt-neo": ["transformer.h.1.attn.attention.q_proj"],
    "gpt-neox": ["gpt_neox.layers.1.attention.query_key_value"],
}


def write_adapter(folder: Path, model: Any, modules: list[str], **settings: Any) -> dict[str, torch.Tensor]:
    """Write an adapter of rank 3 for `modules`; return the change of each as (out, in)."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(7)
    tensors, deltas = {}, {}
    for module in modules:
        shape = model.get_submodule(module).weight.shape
        out_width, in_width = reversed(shape) if module.endswith(("c_attn", "c_proj")) else shape
        down = torch.randn(3, in_width, generator=generator) * 0.2
        up = torch.randn(out_width, 3, generator=generator) * 0.2
        tensors[f"base_model.model.{module}.lora_A.weight"], tensors[f"base_model.model.{module}.lora_B.weight"] = (
            down,
            up,
        )
        deltas[module] = up @ down
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "bias": "none", "target_modules": ["any"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return deltas


@pytest.mark.parametrize("name", TARGETS)
def test_merged_logits_equal_the_adapted_model(name: str, tmp_path: Path) -> None:
    model = make_model(name, 5)
    save_model(model, tmp_path / "model")
    deltas = write_adapter(tmp_path / "lora", model, TARGETS[name])
    merged = read_checkpoint(tmp_path / "model", lora=tmp_path / "lora")
    tokens = np.random.default_rng(0).integers(0, 300, 30).tolist()
    before = their_logits(model, tokens)
    with torch.no_grad():
        for module, delta in deltas.items():
            weight = model.get_submodule(module).weight
            weight += 2.0 * (delta.T if module.endswith(("c_attn", "c_proj")) else delta)
    after = their_logits(model, tokens)
    assert worst(before, after) > 1e-2, "the adapter must change something"
    assert worst(our_logits(merged, tokens), after) < 1e-4


BAD: dict[str, dict[str, Any]] = {
    "another kind": {"peft_type": "IA3"},
    "dora": {"use_dora": True},
    "biases": {"bias": "all"},
    "whole modules": {"modules_to_save": ["lm_head"]},
    "rank": {"r": 4},
    "alpha": {"lora_alpha": "six"},
    "alpha infinite": {"lora_alpha": float("inf")},
}


@pytest.mark.parametrize("case", BAD)
def test_other_adapters_are_refused(case: str, tmp_path: Path) -> None:
    model = make_model("llama", 1)
    save_model(model, tmp_path / "model")
    write_adapter(tmp_path / "lora", model, TARGETS["llama"], **BAD[case])
    with pytest.raises(UserError, match="lora"):
        read_checkpoint(tmp_path / "model", lora=tmp_path / "lora")


def test_another_models_adapter_is_refused(tmp_path: Path) -> None:
    save_model(make_model("llama", 1), tmp_path / "model")
    write_adapter(tmp_path / "lora", make_model("gpt-neox", 1), TARGETS["gpt-neox"])
    with pytest.raises(UserError, match="another's"):
        read_checkpoint(tmp_path / "model", lora=tmp_path / "lora")
