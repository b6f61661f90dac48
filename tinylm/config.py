"""Frozen, validated settings of every stage; read once at the edge, then passed down.

Axis letters used throughout the project: B batch rows, T positions, C model width, H query heads,
G key/value heads, D head width, F feed-forward width, V vocabulary, L layers.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tinylm.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["NGRAM_FACTOR", "Config", "GenerateOptions", "ModelConfig", "Precision", "Slots", "Threads", "parse"]

Precision = Literal["f32", "bf16", "int8", "int4"]
NGRAM_FACTOR = 1_000_003  # hash of an n-gram: row = (row * factor + token) mod rows, from the oldest token on
Positive = Annotated[int, Field(gt=0)]
Threads = Annotated[int, Field(gt=0, le=1024)]  # also replicas; this and the next are bounds of the engine itself
Slots = Annotated[int, Field(gt=0, le=4096)]


class Config(BaseModel):
    """Base of all settings: immutable, unknown keys refused, digest by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def digest(self) -> str:
        """Return the SHA-256 of the settings' canonical JSON, in hex."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def parse(kind: type[ConfigT], values: dict[str, Any], source: str = "settings") -> ConfigT:
    """Return `kind` built from `values`.

    Raises: ConfigError naming `source`, each wrong field, the value found and what is allowed.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_told(kind, problem) for problem in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from None


def _told(kind: type[BaseModel], problem: ErrorDetails) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{field}: unknown key; known keys: {', '.join(_keys_at(kind, problem['loc'][:-1]))}"
    if problem["type"] == "value_error":  # a check of ours: it says what it found
        return f"{field}: {message}" if field else message
    return f"{field}: {message}; found {problem.get('input')!r}"


def _keys_at(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the settings at `place` in `kind`, or of those around it where these are none themselves."""
    for part in place:
        field = kind.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        kind = next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), kind)
    return sorted(kind.model_fields)


class ModelConfig(Config):
    """Shape and parts of one GPT-family model."""

    vocab_size: Annotated[int, Field(gt=0, le=1 << 20)]
    context_length: Annotated[int, Field(gt=0, le=1 << 20)]
    n_layers: Annotated[int, Field(gt=0, le=1024)]
    n_heads: Annotated[int, Field(gt=0, le=1024)]
    n_kv_heads: Annotated[int, Field(gt=0, le=1024)]
    d_model: Annotated[int, Field(gt=0, le=1 << 16)]
    d_ff: Annotated[int, Field(gt=0, le=1 << 18)]
    head_dim: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="width of a head; 0: d_model / n_heads")
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    position: Literal["rope", "learned", "sinusoidal"] = "rope"
    activation: Literal["swiglu", "gelu", "gelu_tanh", "relu2"] = "swiglu"
    bias: bool = False
    tied_embeddings: bool = True
    qk_norm: bool = False
    value_embeddings: bool = Field(False, description="each layer adds a learned vector of the token to its value")
    ngram_rows: tuple[Annotated[int, Field(gt=0, le=1 << 24)], ...] = Field(
        (), max_length=3, description="rows of the tables of hashed pairs, triples, … that embeddings add; empty: none"
    )
    copy_ngrams: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="embeddings add what came after the last use of the longest n-gram up to this; 0: off"
    )
    logit_softcap: Annotated[float, Field(ge=0)] = Field(0.0, description="0: off; else c * tanh(logits / c)")
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    rotary_fraction: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="leading share of a head rotated")
    norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    parallel_residual: bool = Field(False, description="attention and feed-forward both read the layer's input")
    local_window: Annotated[int, Field(ge=0)] = Field(0, description="positions seen by `local_layers`; 0: all")
    local_layers: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check_shape(self) -> ModelConfig:
        if self.head_dim == 0 and self.d_model % self.n_heads:
            raise ValueError(f"n_heads must divide d_model ({self.d_model}); found {self.n_heads}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads ({self.n_heads}); found {self.n_kv_heads}")
        if self.position == "rope" and (self.rotary_dim % 2 or self.rotary_dim == 0):
            raise ValueError(f"rotated width of a head must be even and positive; found {self.rotary_dim}")
        if any(not 0 <= layer < self.n_layers for layer in self.local_layers):
            raise ValueError(f"local_layers must lie in 0..{self.n_layers - 1}; found {self.local_layers}")
        return self

    @property
    def head_width(self) -> int:
        """D: width of one attention head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def has_lookup_tables(self) -> bool:
        """Whether the model adds rows of tables beyond its embeddings: parts that no other tool has."""
        return self.value_embeddings or bool(self.ngram_rows) or self.copy_ngrams > 0

    @property
    def rotary_dim(self) -> int:
        """Leading elements of a head that RoPE rotates."""
        return int(self.head_width * self.rotary_fraction)


class GenerateOptions(Config):
    """How one prompt is continued. The text depends on these, the model, and the prompt alone."""

    max_new_tokens: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        256, description="tokens at most; 0 answers with no text"
    )
    temperature: Annotated[float, Field(ge=0, le=100)] = Field(0.8, description="0: greedy")
    top_k: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(40, description="keep the k likeliest tokens; 0: off")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="keep the likeliest mass p; 1: off")
    min_p: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="drop tokens below p times the best; 0: off")
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] = Field(1.0, description="1: off (CTRL, 1909.05858)")
    stop: tuple[str, ...] = Field((), description="end before the first of these strings")
    ignore_eos: bool = Field(False, description="go on past the end-of-story token")
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(0, description="key of the counter-based random stream")
