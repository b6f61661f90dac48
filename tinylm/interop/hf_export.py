"""A folder that `transformers.AutoModelForCausalLM` and `AutoTokenizer` open: weights, tokenizer, settings, card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tinylm.backends.transformers_layouts import layout_for, to_theirs
from tinylm.backends.transformers_settings import settings_for
from tinylm.config import ModelConfig
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.tokenizer_json import check_writable, sentencepiece_json, with_bos_template
from tinylm.outputs import safetensors_output
from tinylm.tokenizer import Tokenizer, load_tokenizer

__all__ = ["check_hf", "is_hf_export", "write_hf"]

_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_FILES = {
    "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json",
}  # fmt: skip
_CARD_MARK = "Made with TinyLM and exported for `transformers`"
_CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [tinylm]
---

# A small story model

{mark}; no custom code is needed.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
prompt = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=200)[0], skip_special_tokens=True))
```

| | |
| --- | --- |
{rows}

Where it comes from:

```json
{origin}
```
"""


def check_hf(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """Return notes on an export; DataError if transformers lacks a class or a tokenizer for this model."""
    layout = layout_for(config)
    check_writable(tokenizer, "hf")
    notes = []
    if config.position == "sinusoidal":
        notes.append("the fixed sinusoids are written as a learned position table of the same values")
    if layout.model_type in ("gpt2", "gpt_neo", "gpt_neox") and not config.bias:
        notes.append(f"{layout.architecture} has biases; they are written as zeros")
    return notes


def is_hf_export(folder: Path) -> bool:
    """Return whether `folder` holds an earlier export: our model card, and no file but those an export writes."""
    if not {path.name for path in folder.iterdir()} <= _FILES:
        return False
    card = folder / "README.md"
    return card.is_file() and _CARD_MARK.encode() in card.read_bytes()


def write_hf(checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
    """Write the folder's files into `folder`, which exists."""
    import torch  # slow to load, and those who only ask what can be exported need none of it
    from safetensors.torch import save_file

    from tinylm.backends.torch_backend import to_tensor

    config = checkpoint.config
    layout = layout_for(config)
    tokenizer = load_tokenizer(checkpoint.tokenizer).with_specials(checkpoint.bos_id, checkpoint.eos_id)
    settings = settings_for(config, checkpoint.bos_id, checkpoint.eos_id)
    settings["dtype"] = _DTYPES[dtype]
    tensors = to_theirs(layout, config, checkpoint.weights)
    path = folder / "model.safetensors"
    with safetensors_output(path):
        theirs = {name: to_tensor(rows).to(getattr(torch, _DTYPES[dtype])) for name, rows in tensors.items()}
        save_file(theirs, path, metadata={"format": "pt"})
    _write_json(folder / "config.json", settings)
    ends = {"bos_token_id": checkpoint.bos_id, "eos_token_id": checkpoint.eos_id, "pad_token_id": checkpoint.eos_id}
    _write_json(folder / "generation_config.json", {key: value for key, value in ends.items() if value is not None})
    _write_tokenizer(checkpoint, tokenizer, folder)
    (folder / "README.md").write_text(_card(checkpoint, layout.architecture, dtype))


def _write_tokenizer(checkpoint: Checkpoint, tokenizer: Tokenizer, folder: Path) -> None:
    pieces = tokenizer.pieces()
    ids = {"bos_token": checkpoint.bos_id, "eos_token": checkpoint.eos_id, "pad_token": checkpoint.eos_id}
    marks = {name: pieces[token].text for name, token in ids.items() if token is not None and token < len(pieces)}
    document = checkpoint.tokenizer
    if checkpoint.tokenizer_kind == "sentencepiece":
        (folder / "tokenizer.model").write_bytes(checkpoint.tokenizer)
        document = sentencepiece_json(checkpoint.tokenizer)
        marks["unk_token"] = next((piece.text for piece in pieces if piece.type == "unknown"), "<unk>")
    if checkpoint.add_bos and checkpoint.bos_id is not None and "bos_token" in marks:
        document = with_bos_template(document, marks["bos_token"], checkpoint.bos_id)
    (folder / "tokenizer.json").write_bytes(document)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **marks,
        "add_bos_token": checkpoint.add_bos and "bos_token" in marks,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # "</s>" inside a text is text, as in TinyLM
        "model_max_length": checkpoint.config.context_length,
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _card(checkpoint: Checkpoint, architecture: str, dtype: str) -> str:
    config = checkpoint.config
    parameters = sum(rows.size for rows in checkpoint.weights.values())
    shape = {
        "class": architecture,
        "parameters": f"{parameters:,}",
        "layers": config.n_layers,
        "width": config.d_model,
        "heads": f"{config.n_heads} ({config.n_kv_heads} key/value)",
        "feed-forward": f"{config.d_ff} ({config.activation})",
        "vocabulary": f"{config.vocab_size:,}",
        "context": f"{config.context_length:,} tokens",
        "stored as": dtype,
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in shape.items())
    origin = json.dumps(checkpoint.provenance, indent=2, sort_keys=True, default=str)
    return _CARD.format(mark=_CARD_MARK, rows=rows, origin=origin)
