"""What the benchmark's tests share."""

from __future__ import annotations

from typing import Any

from tinylm.bench import NullService, SweepConfig


def null_config(**changes: Any) -> SweepConfig:
    """Settings of a sweep that needs no engine and little time."""
    known: dict[str, Any] = {
        "backend": "null",
        "replicas": (1, 2),
        "batch": (2,),
        "loads": ("closed:1", "open:50%"),
        "repeats": 2,
        "warmup_s": 1.0,
        "min_duration_s": 12.0,
        "min_requests": 10,
        "max_duration_s": 30.0,
        "null": NullService(distribution="exponential", mean_ms=10.0, simulated=True),
    }
    return SweepConfig.model_validate(known | changes)
