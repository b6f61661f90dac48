"""The chain of stages, text to report: profiles that set every stage, and the run that needs no server."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from tinylm import stages
from tinylm.artifacts import ArtifactRef, Store
from tinylm.bench.config import SweepConfig
from tinylm.config import Config, parse
from tinylm.corpus.config import CorpusConfig
from tinylm.errors import ConfigError
from tinylm.progress import ProgressReporter
from tinylm.stages import EvaluateConfig, ExportConfig, SamplesConfig
from tinylm.tokenizer import TokenizerConfig
from tinylm.train.config import TrainConfig

__all__ = ["Profile", "RunResult", "load_profile", "profile_names", "run_pipeline"]

FOLDER = Path(__file__).parent / "profiles"


class Profile(Config):
    """Settings of every stage of one run."""

    description: str = ""
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    train: TrainConfig = Field(default_factory=TrainConfig)
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    sweep: SweepConfig = SweepConfig()
    samples: SamplesConfig = SamplesConfig()


@dataclass(frozen=True)
class RunResult:
    """The artifacts of one run, in the order of the chain, by stage name."""

    artifacts: dict[str, ArtifactRef]

    @property
    def model(self) -> Path:
        """The one-file model."""
        return self.artifacts["model"].path / "model.safetensors"


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_profile(name: str, changes: dict[str, Any] | None = None) -> Profile:
    """Return the profile called `name`, or the TOML file at that path, with `changes` laid over it.

    Args:   changes: values by dotted key, such as {"train.minutes": 3}.
    Raises: ConfigError naming the file, the key, what was found and what is allowed.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"no profile {name!r}; known: {', '.join(profile_names())}, or a path that ends in .toml")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"profile {path}: {error}") from None
    for key, value in (changes or {}).items():
        _set(values, key.split("."), value)
    return parse(Profile, values, f"profile {name}")


def run_pipeline(
    profile: Profile,
    store: Store,
    reports_dir: Path,
    progress: ProgressReporter,
    on_stage: Callable[[ArtifactRef], None] = lambda ref: None,
) -> RunResult:
    """Return all artifacts of `profile`, making what is not current; `on_stage` hears of each one as it is ready.

    The native build needs no text, so it runs beside corpus, tokenizer and training.
    """
    done: dict[str, ArtifactRef] = {}

    def keep(ref: ArtifactRef) -> ArtifactRef:
        done[ref.stage] = ref
        on_stage(ref)
        return ref

    with ThreadPoolExecutor(1, "native-build") as beside:
        native = beside.submit(stages.native, store, progress)
        corpus = keep(stages.corpus(store, profile.corpus, progress))
        tokenizer = keep(stages.tokenizer(store, profile.tokenizer, corpus, progress))
        tokens = keep(stages.tokens(store, corpus, tokenizer, progress))
        checkpoint = keep(stages.train(store, profile.train, tokens, tokenizer, progress))
        built = keep(native.result())
    model = keep(stages.export(store, profile.export, checkpoint, corpus, built, progress))
    keep(stages.evaluate(store, profile.evaluate, checkpoint, model, corpus, built, progress))
    keep(stages.stories(store, profile.samples, model, built, progress))
    sweep = keep(stages.sweep(store, profile.sweep, model, built, progress))
    keep(stages.report(store, sweep, reports_dir, progress))
    return RunResult(done)


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    *tables, last = keys
    for table in tables:
        values = values.setdefault(table, {})
    values[last] = value
