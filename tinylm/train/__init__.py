"""Training: tokens in, a checkpoint out. Knows nothing of the artifact store or Prefect; of the C++ extension it
knows kernels (`fused`), not the engine.

Importing this package does not import torch; `train` does when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinylm.train.config import TrainConfig
from tinylm.train.stopping import Stopped

if TYPE_CHECKING:
    from tinylm.train.loop import train

__all__ = ["Stopped", "TrainConfig", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from tinylm.train.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
