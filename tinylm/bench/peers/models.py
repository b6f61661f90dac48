"""One model with random weights, in every engine's own format, so that all of them do the same arithmetic."""

from __future__ import annotations

from pathlib import Path

from tinylm.config import ModelConfig
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.exports import export_checkpoint
from tinylm.interop.sentencepiece_proto import build_sentencepiece
from tinylm.presets import preset
from tinylm.tokenizer import Piece
from tinylm.weights import random_weights

__all__ = ["make_sources"]

_SPECIALS = (Piece("<unk>", 0.0, "unknown"), Piece("<s>", 0.0, "control"), Piece("</s>", 0.0, "control"))


def make_sources(name: str, folder: Path) -> list[str]:
    """Write preset `name` with random weights to `folder` as TinyLM file, Hugging Face folder and GGUF.

    Returns: one line for each format that cannot hold the model, saying why.
    """
    config = preset(name)
    weights = random_weights(config, seed=0)
    vocabulary = _vocabulary(config)
    model = Checkpoint(config, weights, vocabulary, "sentencepiece", 1, 2, provenance={"preset": name})
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "tinylm-int8.safetensors", "int8")
    model.save(folder / "tinylm-int4.safetensors", "int4")
    refused = []
    formats = (("hf", "hf", "f32"), ("gguf", "model-q8_0.gguf", "q8_0"), ("gguf", "model-q4_0.gguf", "q4_0"))
    for target, out, dtype in formats:
        try:
            export_checkpoint(model, target, folder / out, dtype=dtype)
        except Exception as error:
            refused.append(f"{target}: {error}")
    return refused


def _vocabulary(config: ModelConfig) -> bytes:
    """Return a SentencePiece model of the right size: engines need one to load, the workloads use token ids alone."""
    pieces = [*_SPECIALS, *(Piece(f"<0x{byte:02X}>", 0.0, "byte") for byte in range(256))]
    words = (Piece(f"w{number}", -float(number), "normal") for number in range(config.vocab_size - len(pieces)))
    return build_sentencepiece([*pieces, *words], dummy_prefix=False)
