"""Settings of a sweep and of its cells."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tinylm.config import Config, GenerateOptions, Positive, Slots, Threads

__all__ = ["OPENINGS", "CellSpec", "Load", "NullService", "Seeds", "SweepConfig"]

Share = Annotated[float, Field(gt=0, le=10)]
Rate = Annotated[float, Field(gt=0)]
LOAD_FORMS = "closed:CLIENTS, open:RATE/s, open:SHARE%, fixed:RATE/s, fixed:SHARE%, offline:REQUESTS"
_LOAD = re.compile(
    r"(?P<kind>closed|offline):(?P<count>\d+)|(?P<arrivals>open|fixed):(?P<value>\d+(?:\.\d+)?)(?P<unit>/s|%)"
)

_NAMES = ("Lily", "Tom", "Mia", "Ben", "Anna", "Max", "Sara", "Leo", "Ella", "Sam", "Nora", "Jack")
_BEGINNINGS = (
    "Once upon a time, {} found",
    "One day, {} went to the park and",
    "{} had a small dog who",
    "In the forest, {} met a fox. The fox",
    "It was a rainy day and {} wanted to",
    "Grandpa gave {} an old box. Inside",
    "{} was sad because the kite",
    "Mom said it was time for bed, but {}",
    "Every morning, {} walked to the pond to",
    "There was a big tree near the house of {}. In the tree",
    "{} and a friend built a boat out of",
    "At the beach, {} saw a",
)
OPENINGS = tuple(beginning.format(name) for name in _NAMES for beginning in _BEGINNINGS)


class Load(Config):
    """How requests arrive: N closed-loop clients, a rate in the open, or all at once."""

    kind: Literal["closed", "poisson", "fixed", "offline"]
    clients: Annotated[int, Field(gt=0, le=65_536)] | None = Field(
        None, description="closed: clients that each wait for their answer"
    )
    requests: Positive | None = Field(None, description="offline: requests, all submitted at once")
    rate_rps: Rate | None = Field(None, description="poisson, fixed: arrivals per second")
    share: Share | None = Field(None, description="poisson, fixed: arrivals as a share of measured capacity")

    @classmethod
    def parse(cls, text: str) -> Load:
        """Return the load that `text` names, such as `closed:4`, `open:20/s` or `open:80%`."""
        found = _LOAD.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"load must be one of {LOAD_FORMS}; found {text!r}")
        if found["kind"] == "closed":
            return cls(kind="closed", clients=int(found["count"]))
        if found["kind"] == "offline":
            return cls(kind="offline", requests=int(found["count"]))
        value = float(found["value"])
        kind: Literal["poisson", "fixed"] = "poisson" if found["arrivals"] == "open" else "fixed"
        return cls(kind=kind, rate_rps=value) if found["unit"] == "/s" else cls(kind=kind, share=value / 100)

    @property
    def text(self) -> str:
        """The spelling that `parse` reads back."""
        if self.kind == "closed":
            return f"closed:{self.clients}"
        if self.kind == "offline":
            return f"offline:{self.requests}"
        name = "open" if self.kind == "poisson" else "fixed"
        return f"{name}:{self.share * 100:g}%" if self.share is not None else f"{name}:{self.rate_rps:g}/s"


class Seeds(Config):
    """Four separate streams, so that changing one leaves the others as they were."""

    prompts: Annotated[int, Field(ge=0)] = 1
    arrivals: Annotated[int, Field(ge=0)] = 2
    sampling: Annotated[int, Field(ge=0)] = 3
    order: Annotated[int, Field(ge=0)] = 4


class NullService(Config):
    """A backend of known behaviour that proves the harness; each replica has `batch` servers."""

    distribution: Literal["constant", "exponential", "bimodal"] = "constant"
    mean_ms: Annotated[float, Field(gt=0)] = 10.0
    slow_share: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="bimodal: share of slow requests")
    slow_factor: Annotated[float, Field(gt=1)] = Field(10.0, description="bimodal: slow time over fast time")
    simulated: bool = Field(False, description="a clock that jumps instead of waiting: queueing theory in no time")
    seed: Annotated[int, Field(ge=0)] = 5


class SweepConfig(Config):
    """One sweep: the grid, the load, when a cell may stop, and the seeds."""

    question: str = Field("How fast does this machine write stories, and how does it scale?", min_length=1)
    backend: Literal["native", "null"] = "native"
    replicas: tuple[Threads, ...] = Field((1, 2, 4), min_length=1)
    threads: tuple[Threads, ...] = Field((1,), min_length=1, description="threads per replica")
    batch: tuple[Slots, ...] = Field((16,), min_length=1, description="slots per replica")
    loads: tuple[str, ...] = Field(
        ("closed:1", "closed:4", "closed:16", "open:50%", "open:80%"), min_length=1, description=LOAD_FORMS
    )
    isa: str = "auto"
    repeats: Annotated[int, Field(ge=1, le=100)] = 3
    warmup_s: Annotated[float, Field(ge=0)] = 1.0
    min_duration_s: Annotated[float, Field(gt=0)] = 6.0
    min_requests: Annotated[int, Field(ge=1)] = 30
    max_duration_s: Annotated[float, Field(gt=0)] = Field(20.0, description="ends a cell that gathers too few requests")
    options: GenerateOptions = GenerateOptions(max_new_tokens=128, ignore_eos=True)
    prompts: tuple[str, ...] = Field(OPENINGS, min_length=1)
    seeds: Seeds = Seeds()
    null: NullService = NullService()
    handicap_ms: Annotated[float, Field(ge=0)] = Field(
        0.0, description="delay added to every answer, to show that a regression is noticed"
    )
    audit: bool = Field(True, description="check text, caching and token counts of the engine under load")
    regression_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.05

    @field_validator("loads")
    @classmethod
    def _known_loads(cls, loads: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Load.parse(load).text for load in loads)

    @classmethod
    def quick(cls, **changes: object) -> SweepConfig:
        """Return the small plan of a first run: about half a minute, few samples, percentiles withheld."""
        small: dict[str, object] = {
            "loads": ("closed:1", "closed:16"),
            "repeats": 2,
            "warmup_s": 0.3,
            "min_duration_s": 1.5,
            "min_requests": 10,
            "max_duration_s": 4.0,
            "options": GenerateOptions(max_new_tokens=64, ignore_eos=True),
            "audit": False,
        }
        return cls.model_validate(small | changes)


class CellSpec(Config):
    """One cell: one engine set-up under one load, measured in one fresh process."""

    role: Literal["measure", "calibrate", "probe", "audit"] = "measure"
    backend: Literal["native", "null"]
    model: int = Field(0, ge=0, description="index into the sweep's models")
    precision: str
    replicas: Positive
    threads: Positive
    batch: Positive
    load: str
    repeat: Annotated[int, Field(ge=0)] = 0
    prompts: Literal["sweep", "same", "distinct"] = Field("sweep", description="same, distinct: long audit prompts")

    @property
    def setup_id(self) -> str:
        """Name of the engine set-up: everything but load and repeat."""
        return f"{self.backend}-{self.precision}-m{self.model}-r{self.replicas}-t{self.threads}-b{self.batch}"

    @property
    def cell_id(self) -> str:
        """Name of the cell, fit for a file name."""
        load = self.load.replace(":", "").replace("/s", "rps").replace("%", "pct")
        prompts = "" if self.prompts == "sweep" else f"-{self.prompts}"
        return f"{self.setup_id}-{load}{prompts}-{self.role}{self.repeat}"
