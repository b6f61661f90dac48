"""The config.json under which transformers builds a TinyLM model."""

from __future__ import annotations

from typing import Any

from tinylm.backends.transformers_layouts import Layout, is_windowed, layout_for
from tinylm.config import ModelConfig

__all__ = ["settings_for"]

# Activations that their plain feed-forward knows, by our name.
_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu2": "relu2", "swiglu": "silu"}


def settings_for(config: ModelConfig, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """Return the config.json under which transformers builds this model; raises as `layout_for`."""
    layout = layout_for(config)
    common = {
        "architectures": [layout.architecture],
        "model_type": layout.model_type,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "pad_token_id": None,
        "dtype": "float32",
        "use_cache": True,
    }
    match layout.model_type:
        case "gpt2":
            return common | _gpt2_settings(config)
        case "gpt_neo":
            return common | _gpt_neo_settings(config)
        case "gpt_neox":
            return common | _gpt_neox_settings(config)
        case _:
            return common | _llama_settings(config, layout)


def _llama_settings(config: ModelConfig, layout: Layout) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_width,
        "hidden_act": _ACTIVATIONS[config.activation],
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # where transformers 4 looks; 5 reads the next line
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }
    if layout.model_type == "mistral":
        return settings | {"sliding_window": config.local_window}
    if layout.model_type in ("qwen2", "qwen3"):
        return settings | _qwen_windows(config)
    return settings | {"attention_bias": config.bias, "mlp_bias": config.bias}


def _qwen_windows(config: ModelConfig) -> dict[str, Any]:
    if not is_windowed(config):
        return {"attention_bias": False, "use_sliding_window": False}
    kinds = {True: "sliding_attention", False: "full_attention"}
    return {
        "attention_bias": False,
        "use_sliding_window": True,
        "sliding_window": config.local_window,
        "layer_types": [kinds[i in config.local_layers] for i in range(config.n_layers)],
    }


def _gpt2_settings(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.d_ff,
        "activation_function": _ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def _gpt_neo_settings(config: ModelConfig) -> dict[str, Any]:
    kinds = ["local" if i in config.local_layers else "global" for i in range(config.n_layers)]
    return {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_layers": config.n_layers,
        "num_heads": config.n_heads,
        "max_position_embeddings": config.context_length,
        "attention_types": [[kinds, 1]],
        "window_size": config.local_window,
        "activation_function": _ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "attention_dropout": 0.0,
        "embed_dropout": 0.0,
        "resid_dropout": 0.0,
    }


def _gpt_neox_settings(config: ModelConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "max_position_embeddings": config.context_length,
        "hidden_act": _ACTIVATIONS[config.activation],
        "layer_norm_eps": config.norm_eps,
        "use_parallel_residual": config.parallel_residual,
        "attention_bias": True,
        "rotary_pct": config.rotary_fraction,  # where transformers 4 looks; 5 reads rope_parameters
        "rotary_emb_base": config.rope_theta,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": config.rope_theta,
            "partial_rotary_factor": config.rotary_fraction,
        },
    }
