"""Fine-tuning: low-rank parts start without effect, learn, and end merged into plain weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinylm.errors import DataError
from tinylm.model import GPT
from tinylm.progress import NullProgress
from tinylm.train import TrainConfig, train
from tinylm.train.evaluate import load_checkpoint
from tinylm.train.lora import add_low_rank, merge_low_rank

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def base(tokens_dir: Path, tmp_path_factory: pytest.TempPathFactory, tiny_run: Make) -> Path:
    out = tmp_path_factory.mktemp("base")
    train(tiny_run(steps=20), tokens_dir, tokens_dir / "tokenizer.model", out, NullProgress())
    return out


def test_low_rank_parts_start_silent_and_merge_exactly(tiny_run: Make) -> None:
    torch.manual_seed(0)
    model, tokens = GPT(tiny_run().shape), torch.randint(320, (2, 9))
    before = model(tokens)
    add_low_rank(model, 4)
    assert torch.equal(model(tokens), before)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("low_rank" in name)
        if "low_rank_b" in name:
            parameter.data.normal_()
    tuned = model(tokens)
    assert (tuned - before).abs().max() > 0.1
    merge_low_rank(model)
    torch.testing.assert_close(model(tokens), tuned, atol=1e-5, rtol=1e-4)
    assert set(model.state_dict()) == set(GPT(tiny_run().shape).state_dict())


def test_fine_tuning_improves_and_moves_matrices_only(
    base: Path, tokens_dir: Path, tmp_path: Path, tiny_run: Make
) -> None:
    config = tiny_run(steps=30, lora_rank=4, average=0.0, lora_lr=0.02)
    judged = train(config, tokens_dir, tokens_dir / "tokenizer.model", tmp_path, NullProgress(), base=base)
    first = train(tiny_run(steps=20), tokens_dir, tokens_dir / "tokenizer.model", base, NullProgress())
    assert judged["valid_bits_per_byte"] < first["valid_bits_per_byte"] - 0.02
    old, new = load_file(base / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved == {name for name in old if ".attn.w" in name or ".mlp.w" in name}
    assert load_checkpoint(tmp_path).config == load_checkpoint(base).config


def test_a_base_of_another_vocabulary_is_refused(tokens_dir: Path, tmp_path: Path, tiny_run: Make) -> None:
    shape = tiny_run().shape.model_copy(update={"vocab_size": 77})
    save_file(dict(GPT(shape).named_parameters()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(shape.model_dump_json())
    with pytest.raises(DataError, match="vocabulary of 77, the tokens one of 320"):
        train(tiny_run(), tokens_dir, tokens_dir / "tokenizer.model", tmp_path / "o", NullProgress(), base=tmp_path)
