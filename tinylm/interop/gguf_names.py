"""Names of tensors in GGUF files of the llama, qwen2, qwen3 and gpt2 architectures."""

from __future__ import annotations

__all__ = ["GPT2_PARTS", "LLAMA_PARTS"]

# theirs → ours, without .weight or .bias; {i} is the layer. Several of ours: one above the other in theirs.
_ENDS = {"token_embd": ("tok_embeddings",), "output_norm": ("norm",), "output": ("head",)}
_LAYER: dict[str, tuple[str, ...]] = {
    "attn_norm": ("attn_norm",),
    "attn_output": ("attn.wo",),
    "ffn_norm": ("mlp_norm",),
    "ffn_up": ("mlp.w_up",),
    "ffn_down": ("mlp.w_down",),
}
_LLAMA_LAYER: dict[str, tuple[str, ...]] = {
    **_LAYER,
    "attn_q": ("attn.wq",),
    "attn_k": ("attn.wk",),
    "attn_v": ("attn.wv",),
    "attn_q_norm": ("attn.q_norm",),
    "attn_k_norm": ("attn.k_norm",),
    "ffn_gate": ("mlp.w_gate",),
}
_GPT2_LAYER: dict[str, tuple[str, ...]] = {**_LAYER, "attn_qkv": ("attn.wq", "attn.wk", "attn.wv")}


def _parts(layer: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    inner = {f"blk.{{i}}.{theirs}": tuple(f"layers.{{i}}.{name}" for name in ours) for theirs, ours in layer.items()}
    return {**_ENDS, **inner}


LLAMA_PARTS = _parts(_LLAMA_LAYER)
GPT2_PARTS = {**_parts(_GPT2_LAYER), "position_embd": ("pos_embeddings",)}
