"""Settings of one training run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tinylm.config import Config, ModelConfig
from tinylm.presets import preset
from tinylm.train.loggers import LoggerName

__all__ = ["TrainConfig"]

Rate = Annotated[float, Field(ge=0, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]


class TrainConfig(Config):
    """What to train, for how long, and how.

    The vocabulary always comes from the tokenizer; `vocab_size` of the shape is replaced by it.
    """

    preset: str = Field("story", description="named shape; ignored when `model` is given")
    model: ModelConfig | None = Field(None, description="a shape of your own")
    minutes: Annotated[float, Field(gt=0, le=100_000)] = Field(2.0, description="training time aimed at")
    steps: Annotated[int, Field(ge=0)] = Field(0, description="optimiser steps; 0: what fits in `minutes`")
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "f32", "bf16"] = Field("auto", description="auto: bf16 only where the chip has it")
    compile: Literal["auto", "on", "off"] = Field("auto", description="auto: long runs whose layers are not fused")
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="CPU threads; 0: physical cores")

    batch_tokens: Annotated[int, Field(gt=0)] = Field(1024, description="tokens per optimiser step")
    micro_batch_tokens: Annotated[int, Field(ge=0)] = Field(0, description="tokens held at once; 0: the whole batch")
    context: Annotated[int, Field(ge=0)] = Field(0, description="positions per row; 0: the model's context length")
    short_context: Annotated[int, Field(ge=0)] = Field(
        64, description="positions per row at first, doubling from there; 0: `context`"
    )
    short_share: Share = Field(0.5, description="leading share of the steps with rows shorter than `context`")
    checkpoint_activations: bool = Field(False, description="recompute layers in backward: less memory, more time")
    loss_rows: Annotated[int, Field(gt=0)] = Field(512, description="rows of logits held at once")

    optimizer: Literal["muon", "adamw"] = Field("muon", description="for the matrices; the rest uses Adam")
    matrix_lr: Rate = 0.02
    embedding_lr: Rate = 0.1
    table_lr: Rate = Field(0.1, description="lookup tables: n-grams, copies, values")
    head_lr: Rate = 0.01
    vector_lr: Rate = Field(0.01, description="norm weights and biases")
    momentum: Share = Field(0.95, description="Muon's Nesterov momentum")
    newton_schulz_steps: Annotated[int, Field(gt=0, le=12)] = 3
    beta1: Share = 0.8
    beta2: Share = 0.95
    weight_decay: Rate = Field(0.0, description="on matrices, times the learning rate")
    warmup_share: Share = 0.02
    decay_share: Share = Field(0.5, description="closing share of the steps with a falling rate")
    final_lr: Share = Field(0.0, description="rate at the end, as a share of the peak")
    clip_norm: Annotated[float, Field(ge=0)] = Field(
        0.0, description="largest gradient norm, lookup tables aside; 0: off"
    )
    average: Share = Field(0.0, description="decay of the exponential weight average per step; 0: off")
    lora_rank: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="fine-tune products of this rank; 0: all")
    lora_lr: Rate = 0.005
    ngram_dropout: Share = Field(0.0, description="share of the rows of n-gram tables that a step does without")
    zero_projections: bool = Field(
        True, description="residual projections and an untied head start at zero, but for a copying start"
    )
    copying_start: bool = Field(False, description="attention and an untied head start by repeating what is looked at")
    embedding_std: Annotated[float, Field(gt=0, le=10)] = 1.0

    eval_every_s: Annotated[float, Field(gt=0)] = Field(60.0, description="seconds of training between evaluations")
    eval_documents: Annotated[int, Field(gt=0)] = Field(64, description="validation documents judged during the run")
    samples: Annotated[int, Field(ge=0)] = Field(2, description="sample stories written at each evaluation")
    sample_prompt: str = "Once upon a time"
    card_stories: Annotated[int, Field(ge=0)] = Field(48, description="stories judged at the end; 0: no score card")
    loggers: tuple[LoggerName, ...] = Field((), description="places for metrics beside metrics.jsonl")
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 30.0
    keep_checkpoints: Annotated[int, Field(ge=2, le=100)] = 2

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        for name, length in (("context", self.row_length), ("short_context", self.row_lengths[0])):
            if length > self.shape.context_length:
                raise ValueError(f"{name} must be at most context_length ({self.shape.context_length}); found {length}")
        for length in self.row_lengths:
            if self.micro_tokens % length:
                raise ValueError(f"rows of {length} must divide the tokens held at once ({self.micro_tokens})")
        if self.batch_tokens % self.micro_tokens:
            raise ValueError(f"micro_batch_tokens must divide batch_tokens; found {self.micro_batch_tokens}")
        return self

    @property
    def shape(self) -> ModelConfig:
        """The model to train, before the tokenizer sets its vocabulary."""
        return self.model or preset(self.preset)

    @property
    def row_length(self) -> int:
        """T of the last part of the run."""
        return self.context or self.shape.context_length

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """T of each phase of the run: doubling from `short_context` to `context`."""
        lengths = [min(self.short_context or self.row_length, self.row_length)]
        while lengths[-1] < self.row_length:
            lengths.append(min(2 * lengths[-1], self.row_length))
        return tuple(lengths)

    @property
    def micro_tokens(self) -> int:
        """Tokens of one forward and backward pass."""
        return self.micro_batch_tokens or self.batch_tokens
