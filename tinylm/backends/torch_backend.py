"""The training model, `tinylm.model.GPT`, behind the backends' protocol: float32 PyTorch on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tinylm.backends.base import FloatArray, LoadedModel, StepBackend
from tinylm.model import GPT, Cache

__all__ = ["TorchBackend", "to_tensor"]


def to_tensor(values: FloatArray) -> torch.Tensor:
    """Return a tensor of these values; shares their memory where that may be written to."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


class TorchBackend(StepBackend):
    """Runs the reference model that training uses."""

    name = "torch"

    def __init__(self, model: LoadedModel, *, threads: int = 1) -> None:
        super().__init__(model)
        torch.set_num_threads(threads)
        self._model = GPT(model.config).eval()
        tensors = {name: to_tensor(values) for name, values in model.weights.items()}
        self._model.load_state_dict(tensors, assign=True)
        self._cache = Cache()

    def reset(self) -> None:
        self._cache = Cache()

    def step(self, tokens: Sequence[int]) -> FloatArray:
        with torch.inference_mode():
            logits: FloatArray = self._model(torch.tensor([list(tokens)]), self._cache)[0].numpy()
        return logits
