"""Settings and code versions of the stages whose packages have none of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from tinylm.config import Config, GenerateOptions, Precision
from tinylm.stories.template import THEME_TEMPLATE, check_theme_template

__all__ = [
    "EXACT",
    "RECIPE",
    "VERSION",
    "Conversion",
    "EvaluateConfig",
    "ExportConfig",
    "NoSettings",
    "RecipeConfig",
    "SamplesConfig",
]

# Raise a stage's number when a change to its code makes another result from equal settings and inputs.
VERSION = {
    "corpus": 1,
    "recipe": 1,
    "tokenizer": 1,
    "tokens": 1,
    "train": 2,
    "native": 1,
    "model": 2,
    "converted": 2,
    "evaluation": 1,
    "sweep": 1,
    "stories": 2,
    "report": 3,
}

BPB_BUDGET: dict[Precision, float] = {"f32": 0.001, "bf16": 0.001, "int8": 0.003, "int4": 0.02}

EXACT = "exact.safetensors"
RECIPE = "recipe.json"


class NoSettings(Config):
    """Settings of a stage that has none."""


class RecipeConfig(Config):
    """What a recipe is for: the minutes, and what decides how fast this machine trains."""

    minutes: float
    tables: bool
    device: str
    precision: str
    threads: int


class Conversion(Config):
    """Settings of a change of precision."""

    precision: Precision


class ExportConfig(Config):
    """How the checkpoint becomes the one-file model, and how much it may lose."""

    precision: Precision = "int8"
    max_bpb_increase: Annotated[float, Field(ge=0)] | None = Field(
        None, description="bits per byte that rounding may cost; absent: int8 0.003, int4 0.02, else 0.001"
    )
    validation_bytes: Annotated[int, Field(gt=0)] = Field(
        200_000, description="validation text that the loss is measured on, whole documents"
    )
    theme_template: str = Field(
        THEME_TEMPLATE, description="how a story about a {theme} begins; the model file carries it"
    )

    @field_validator("theme_template")
    @classmethod
    def _check_template(cls, template: str) -> str:
        check_theme_template(template)
        return template

    @property
    def budget_bpb(self) -> float:
        """Bits per byte that the rounding may cost."""
        return BPB_BUDGET[self.precision] if self.max_bpb_increase is None else self.max_bpb_increase


class EvaluateConfig(Config):
    """How much validation text the trained model is judged on."""

    validation_bytes: Annotated[int, Field(gt=0)] = Field(1_000_000, description="validation text, whole documents")


class SamplesConfig(Config):
    """The sample stories at the end of a run."""

    prompts: tuple[str, ...] = Field((), description="openings; none: the first words of held-out documents")
    stories: Annotated[int, Field(gt=0, le=1000)] = Field(5, description="how many, if `prompts` is empty")
    opening_words: Annotated[int, Field(gt=0, le=100)] = Field(6, description="words taken of each held-out document")
    # One unlikely token and a small model leaves its text for good: min-p and a low temperature keep it to likely ones
    # (docs/LOG.md).
    options: GenerateOptions = GenerateOptions(max_new_tokens=1000, temperature=0.5, min_p=0.2, seed=1)
