"""The same model inside Hugging Face transformers: an outside opinion on every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tinylm.backends.base import FloatArray, LoadedModel, StepBackend
from tinylm.backends.torch_backend import to_tensor
from tinylm.backends.transformers_layouts import layout_for, to_theirs
from tinylm.backends.transformers_settings import settings_for
from tinylm.errors import ConfigError

__all__ = ["TransformersBackend"]


class TransformersBackend(StepBackend):
    """Builds the transformers class that this model fits and runs it in float32.

    Raises: DataError if no class fits; ConfigError if transformers is not installed.
    """

    name = "hf"

    def __init__(self, model: LoadedModel, *, threads: int = 1) -> None:
        super().__init__(model)
        torch.set_num_threads(threads)
        layout = layout_for(model.config)
        try:
            import transformers  # here: an optional extra
        except ImportError:
            raise ConfigError("backend hf: transformers is not installed; pip install 'tinylm[interop]'") from None
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        kind = getattr(transformers, layout.architecture)
        config = kind.config_class.from_dict(settings_for(model.config, model.bos_id, model.eos_id))
        tensors = {name: to_tensor(rows) for name, rows in to_theirs(layout, model.config, model.weights).items()}
        self._model, report = kind.from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True, attn_implementation="eager"
        )
        self._model.eval()
        lost = sorted(report["missing_keys"] | report["unexpected_keys"] | report["mismatched_keys"])
        if lost:
            raise ConfigError(f"backend hf: transformers {transformers.__version__} has other weights: {lost[:4]}")
        self._cache: Any = None

    def reset(self) -> None:
        self._cache = None

    def step(self, tokens: Sequence[int]) -> FloatArray:
        with torch.inference_mode():
            out = self._model(torch.tensor([list(tokens)]), past_key_values=self._cache, use_cache=True)
        self._cache = out.past_key_values
        logits: FloatArray = out.logits[0].float().numpy()
        return logits
