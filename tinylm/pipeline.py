"""The chain of stages, text to report: profiles that set every stage, and the run that needs no server."""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from tinylm import stages
from tinylm.artifacts import MODEL_FILE, ArtifactRef, Store
from tinylm.bench.config import SweepConfig
from tinylm.config import Config, parse
from tinylm.corpus.config import CorpusConfig
from tinylm.errors import ConfigError
from tinylm.modelfile import read_model
from tinylm.presets import preset as find_preset
from tinylm.progress import ProgressReporter
from tinylm.stages import EvaluateConfig, ExportConfig, SamplesConfig
from tinylm.tokenizer import TokenizerConfig
from tinylm.train.config import TrainConfig

__all__ = [
    "FITTED_FROM",
    "Profile",
    "RunResult",
    "base_changes",
    "load_profile",
    "profile_changes",
    "profile_names",
    "run_pipeline",
    "train_model",
]

_log = logging.getLogger(__name__)

OnStage = Callable[[ArtifactRef], None]

FOLDER = Path(__file__).parent / "profiles"
FITTED_FROM = "story"  # the profile whose other settings a run fitted to its minutes has


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
    """The artifacts of one run, by stage name in the order of the chain, and where its report lies."""

    artifacts: dict[str, ArtifactRef]
    report: Path

    @property
    def model(self) -> Path:
        """The one-file model."""
        return self.artifacts["model"].path / MODEL_FILE

    @property
    def bits_per_byte(self) -> dict[str, float]:
        """Bits per byte on validation text, by engine and precision; the trainer's own first."""
        figures: dict[str, float] = self.artifacts["evaluation"].summary["bits_per_byte"]
        return dict(sorted(figures.items(), key=lambda row: (not row[0].startswith("torch"), row[0])))

    def stories(self) -> list[dict[str, Any]]:
        """Return the sample stories: prompt, text, finish_reason."""
        lines = (self.artifacts["stories"].path / "stories.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain JSON values."""
        stages = {
            name: {"key": ref.key, "reused": ref.reused, "seconds": round(ref.seconds, 2), "path": str(ref.path)}
            for name, ref in self.artifacts.items()
        }
        return {
            "stages": stages,
            "model": str(self.model),
            "report": str(self.report),
            "bits_per_byte": self.bits_per_byte,
            "stories": self.stories(),
        }

    def text(self) -> str:
        """Return what a person wants to see at the end of a run: stages, loss, stories, report."""
        lines = [f"{'stage':<12} {'':<6} {'seconds':>8}  key"]
        for name, ref in self.artifacts.items():
            lines.append(f"{name:<12} {'reused' if ref.reused else 'run':<6} {ref.seconds:>8.1f}  {ref.key}")
        lines += ["", "bits per byte on validation text"]
        lines += [f"  {name:<12} {value:.4f}" for name, value in self.bits_per_byte.items()]
        for number, story in enumerate(self.stories(), start=1):
            lines += ["", f"story {number}", f"{story['prompt']}{story['text']}"]
        lines += ["", f"model   {self.model}", f"report  {self.report}"]
        return "\n".join(lines)


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_profile(name: str, changes: dict[str, Any] | None = None) -> Profile:
    """Return the profile called `name`, or the TOML file at that path, with `changes` laid over it.

    Args:   changes: values by dotted key, such as {"train.minutes": 3}.
    Raises: ConfigError naming the file, the key, what was found and what is allowed.
    """
    if name in profile_names():
        path = FOLDER / f"{name}.toml"
    elif name.lower().endswith(".toml"):
        path = Path(name)
    else:
        raise ConfigError(f"no profile {name!r}; known: {', '.join(profile_names())}, or a path that ends in .toml")
    values = _read_toml(path)
    for key, value in (changes or {}).items():
        _set(values, key.split("."), value)
    return parse(Profile, values, f"profile {name}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"profile {path}: cannot be read ({error.strerror}); expected a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"profile {path}: {error}; expected TOML, in UTF-8") from None


def profile_changes(
    corpus: Sequence[str] = (),
    valid: Sequence[str] = (),
    preset: str | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the changes to a profile that the commands' and flows' short options stand for.

    Args:   corpus, valid: files, globs or folders of text in place of the profile's source.
            settings: any others, as `table.key=value` with a TOML value.
    Raises: ConfigError for a setting of another form.
    """
    changes: dict[str, Any] = {}
    if corpus:
        changes |= {"corpus.source": "files", "corpus.files": list(corpus)}
    if valid:
        changes["corpus.valid_files"] = list(valid)
    if preset is not None:
        changes |= {"tokenizer.vocab_size": find_preset(preset).vocab_size, "train.model": None}
    short = {"train.preset": preset, "train.minutes": minutes, "train.seed": seed}
    changes |= {key: value for key, value in short.items() if value is not None}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise ConfigError(f"setting {setting!r}: expected table.key=value, such as train.minutes=3")
        changes[key.strip()] = _toml_value(value.strip())
    return changes


def base_changes(base: Path, profile: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes to a profile that training on from the model file `base` asks for: its shape, rows that fit.

    Args:   changes: the user's own; a row length among them stays.
    Raises: ConfigError if the changes ask for a shape.
    """
    for key in changes:
        if key == "train.preset" or key.split(".")[:2] == ["train", "model"]:
            raise ConfigError(f"{key}: the model that training starts from has a shape already; leave this out")
    shape = read_model(base).config
    longest = min(shape.context_length, load_profile(profile).train.row_length)
    rows = 1 << (longest.bit_length() - 1)  # a power of two divides the batch
    context = {} if "train.context" in changes else {"train.context": rows}
    return {"train.model": shape.model_dump(mode="json")} | context


def run_pipeline(
    profile: Profile, store: Store, reports_dir: Path, progress: ProgressReporter, on_stage: OnStage
) -> RunResult:
    """Return all artifacts of `profile`, making what is not current; `on_stage` hears of each one as it is ready."""
    done = train_model(profile, store, progress, on_stage)
    keep = _Keeper(done, on_stage)
    model, native = done["model"], done["native"]
    keep(stages.evaluate(store, profile.evaluate, done["train"], model, done["corpus"], native, progress))
    stories = keep(stages.stories(store, profile.samples, model, done["corpus"], native, progress))
    sweep = keep(stages.sweep(store, profile.sweep, model, native, progress))
    page = keep(stages.report(store, sweep, progress, checkpoint=done["train"], stories=stories))
    return RunResult(done, stages.publish_report(page, sweep, reports_dir))


def train_model(
    profile: Profile,
    store: Store,
    progress: ProgressReporter,
    on_stage: OnStage,
    *,
    base: Path | None = None,
    fit_around: Mapping[str, Any] | None = None,
    tables: bool = False,
) -> dict[str, ArtifactRef]:
    """Return the artifacts of the chain's first half, text to one-file model, by stage name.

    The native build needs no text, so it runs beside the corpus; training already uses what it builds.
    Args: base: model file to start from, with its tokenizer.
          fit_around: choose shape, vocabulary and batch for the profile's minutes, the text and this machine,
              but keep these settings, by dotted key, as the profile has them; absent: the profile's own.
          tables: give the fitted shape lookup tables.
    Raises: ConfigError if `tables` are asked of a shape that is not fitted.
    """
    if tables and fit_around is None:
        raise ConfigError("tables: expected a shape fitted to the minutes; found one from a profile, preset or model")
    done: dict[str, ArtifactRef] = {}
    keep = _Keeper(done, on_stage)
    with ThreadPoolExecutor(1, "native-build") as beside:
        native = beside.submit(stages.native, store, progress)
        corpus = keep(stages.corpus(store, profile.corpus, progress))
        built = keep(native.result())
        if fit_around is not None:
            recipe = keep(stages.recipe(store, profile.train, corpus, progress, tables=tables))
            profile = _fitted(profile, recipe, fit_around)
        if base is None:
            tokenizer = keep(stages.tokenizer(store, profile.tokenizer, corpus, progress))
        else:
            tokenizer = keep(stages.borrowed_tokenizer(store, base))
        tokens = keep(stages.tokens(store, corpus, tokenizer, progress))
        checkpoint = keep(stages.train(store, profile.train, tokens, tokenizer, progress, base=base))
    keep(stages.export(store, profile.export, checkpoint, corpus, built, progress))
    return done


def _fitted(profile: Profile, recipe: ArtifactRef, own: Mapping[str, Any]) -> Profile:
    """Return `profile` with the settings of `recipe`, but for those of its user's `own`; the log says why."""
    for reason in recipe.summary["reasons"]:
        _log.info("recipe: %s", reason)
    chosen = json.loads((recipe.path / stages.RECIPE).read_bytes())
    train = chosen["train"] | _own_fields(own, "train", profile.train)
    if "train.preset" in own:
        train["model"] = profile.train.model  # or the recipe's shape would hide the preset
    tokenizer = profile.tokenizer.model_dump() | {"vocab_size": chosen["vocab_size"]}
    tokenizer |= _own_fields(own, "tokenizer", profile.tokenizer)
    changes = {
        "train": parse(TrainConfig, train, "settings of a fitted run"),
        "tokenizer": parse(TokenizerConfig, tokenizer, "settings of a fitted run"),
    }
    return profile.model_copy(update=changes)


def _own_fields(own: Mapping[str, Any], table: str, config: Config) -> dict[str, Any]:
    """Return the fields of `config` that `own`, by dotted key, names."""
    names = {key.split(".")[1] for key in own if key.startswith(f"{table}.")}
    return {name: getattr(config, name) for name in names}


@dataclass(frozen=True)
class _Keeper:
    """Notes each artifact under its stage, tells of it, and hands it on."""

    done: dict[str, ArtifactRef]
    on_stage: OnStage

    def __call__(self, ref: ArtifactRef) -> ArtifactRef:
        self.done[ref.stage] = ref
        self.on_stage(ref)
        return ref


def _toml_value(text: str) -> Any:
    """Return `text` read as a TOML value, or as it is when it is none (a bare word)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    *tables, last = keys
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"setting {'.'.join(keys)}: {table!r} is no table, but {values!r}")
    values[last] = value
