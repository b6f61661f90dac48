"""Named model shapes; each can be trained, exported and run in every engine."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError

__all__ = ["PRESETS", "preset"]

PRESETS: dict[str, ModelConfig] = {
    # The recipe's own two: Qwen3's layout, so that other tools open them. Three layers learn more in two minutes; with
    # lookup tables, four learn more in eight (docs/LOG.md).
    "quickstart": ModelConfig(
        vocab_size=2048,
        context_length=320,  # the longest built-in story has 276 tokens
        n_layers=3,
        n_heads=2,
        n_kv_heads=2,
        d_model=128,
        d_ff=320,
        tied_embeddings=False,
        qk_norm=True,
        norm_eps=1e-6,
    ),
    "story": ModelConfig(
        vocab_size=2048,
        context_length=256,
        n_layers=4,
        n_heads=2,
        n_kv_heads=2,
        d_model=128,
        d_ff=320,
        tied_embeddings=False,
        qk_norm=True,
        norm_eps=1e-6,
    ),
    # The same with lookup tables: more learned in the same minutes, at the price that no other tool opens it.
    "story-tables": ModelConfig(
        vocab_size=2048,
        context_length=256,
        n_layers=4,
        n_heads=2,
        n_kv_heads=2,
        d_model=128,
        d_ff=320,
        tied_embeddings=False,
        qk_norm=True,
        norm_eps=1e-6,
        value_embeddings=True,
        ngram_rows=(16_384,),
        copy_ngrams=4,
    ),
    "tinylm": ModelConfig(
        vocab_size=4096,
        context_length=256,
        n_layers=16,
        n_heads=6,
        n_kv_heads=6,
        d_model=192,
        d_ff=768,
        activation="gelu",
    ),
    "smalllm": ModelConfig(
        vocab_size=16_000,
        context_length=512,
        n_layers=8,
        n_heads=6,
        n_kv_heads=6,
        d_model=384,
        d_ff=1536,
        activation="gelu",
    ),
    "llama-20m": ModelConfig(
        vocab_size=16_000,
        context_length=512,
        n_layers=8,
        n_heads=6,
        n_kv_heads=6,
        d_model=384,
        d_ff=1024,
    ),
    "llama-8m": ModelConfig(
        vocab_size=4096,
        context_length=256,
        n_layers=16,
        n_heads=6,
        n_kv_heads=6,
        d_model=192,
        d_ff=512,
    ),
    "slm-51m": ModelConfig(
        vocab_size=50_257,
        context_length=256,
        n_layers=8,
        n_heads=8,
        n_kv_heads=8,
        d_model=512,
        d_ff=2048,
        norm="layernorm",
        position="learned",
        activation="gelu",
    ),
    "gpt-2m": ModelConfig(
        vocab_size=5000,
        context_length=256,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4,
        d_model=256,
        d_ff=1024,
        norm="layernorm",
        position="sinusoidal",
        activation="gelu",
        bias=True,
    ),
    "gpt2": ModelConfig(
        vocab_size=50_257,
        context_length=1024,
        n_layers=12,
        n_heads=12,
        n_kv_heads=12,
        d_model=768,
        d_ff=3072,
        norm="layernorm",
        position="learned",
        activation="gelu_tanh",
        bias=True,
    ),
}


def preset(name: str) -> ModelConfig:
    """Return the shape called `name`.

    Raises: ConfigError listing the known names.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset: no preset is called {name!r}; known presets: {', '.join(PRESETS)}")
    return PRESETS[name]
