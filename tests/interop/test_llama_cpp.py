"""Our GGUF files in llama.cpp, where llama-cpp-python is installed: the same tokens and the same greedy text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.backends import open_backend
from tinylm.backends.base import LoadedModel
from tinylm.config import GenerateOptions
from tinylm.interop.exports import export_model
from tinylm.interop.imports import import_model

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed; `make bench-peers` has it")


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_llama_cpp_tells_the_same_story(dtype: str, shared_data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    import_model(shared_data / "stories260K" / "stories260K.bin", model, precision="f32")
    export_model(model, "gguf", tmp_path / "model.gguf", dtype=dtype)
    f32 = llama_cpp.GGML_TYPE_F32  # the cache's usual half precision would blur ties
    theirs = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=256, verbose=False, type_k=f32, type_v=f32)
    ours = open_backend("native", model)
    for prompt in ("Once upon a time", "Lily and Tom", 'The naïve dog said "Hi!"\n'):
        tokens = theirs.tokenize(prompt.encode(), add_bos=True, special=False)
        assert tokens == LoadedModel.read(model).prompt_tokens(prompt)
        told = theirs.create_completion(tokens, max_tokens=150, temperature=0.0, repeat_penalty=1.0)
        assert (
            told["choices"][0]["text"] == ours.generate(prompt, GenerateOptions(temperature=0, max_new_tokens=150)).text
        )
    ours.close()
