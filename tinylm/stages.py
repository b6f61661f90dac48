"""One function per stage: settings and artifacts in, artifact out. The store decides what is already current.

What a stage does lives in the packages below; here is only what each one reads, and the version of its code:
raise `VERSION[stage]` when a change to that code makes a different result from equal settings and inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tinylm.artifacts import ArtifactRef, Store
from tinylm.config import Config, GenerateOptions, ModelConfig, Precision, parse
from tinylm.errors import StageError
from tinylm.progress import ProgressReporter

if TYPE_CHECKING:
    from tinylm.bench.config import SweepConfig
    from tinylm.corpus import CorpusConfig
    from tinylm.tokenizer import TokenizerConfig
    from tinylm.train.config import TrainConfig

__all__ = [
    "VERSION",
    "EvaluateConfig",
    "ExportConfig",
    "SamplesConfig",
    "corpus",
    "evaluate",
    "export",
    "native",
    "report",
    "stories",
    "sweep",
    "tokenizer",
    "tokens",
    "train",
]

VERSION = {
    "corpus": 1,
    "tokenizer": 1,
    "tokens": 1,
    "train": 1,
    "native": 1,
    "model": 1,
    "evaluation": 1,
    "sweep": 1,
    "stories": 1,
    "report": 1,
}

BPB_BUDGET: dict[Precision, float] = {"f32": 0.001, "bf16": 0.001, "int8": 0.003, "int4": 0.02}

OPENINGS = (
    "Once upon a time",
    "One day, a little girl named Lily",
    "Tom had a big red ball.",
    "It was a cold and rainy day.",
    "In a small house near the forest",
)


class _Nothing(Config):
    """Settings of a stage that has none."""


class ExportConfig(Config):
    """How the checkpoint becomes the one-file model, and how much it may lose."""

    precision: Precision = "int8"
    max_bpb_increase: Annotated[float, Field(ge=0)] | None = Field(
        None, description="bits per byte that rounding may cost; absent: int8 0.003, int4 0.02, else 0.001"
    )
    validation_bytes: Annotated[int, Field(gt=0)] = Field(
        200_000, description="validation text that the loss is measured on, whole documents"
    )

    @property
    def budget_bpb(self) -> float:
        """Bits per byte that the rounding may cost."""
        return BPB_BUDGET[self.precision] if self.max_bpb_increase is None else self.max_bpb_increase


class EvaluateConfig(Config):
    """How much validation text the trained model is judged on."""

    validation_bytes: Annotated[int, Field(gt=0)] = Field(200_000, description="validation text, whole documents")


class SamplesConfig(Config):
    """The sample stories at the end of a run."""

    prompts: tuple[str, ...] = Field(OPENINGS, min_length=1)
    options: GenerateOptions = GenerateOptions(max_new_tokens=220, seed=1)


def corpus(store: Store, config: CorpusConfig, progress: ProgressReporter) -> ArtifactRef:
    """Return train.parquet and valid.parquet: cleaned, without copies, split by content."""
    from tinylm.corpus import corpus_fingerprint, prepare_corpus

    return store.build(
        "corpus",
        VERSION["corpus"],
        config,
        {},
        lambda folder: prepare_corpus(config, folder, progress),
        content={"source": corpus_fingerprint(config)},
    )


def tokenizer(store: Store, config: TokenizerConfig, corpus: ArtifactRef, progress: ProgressReporter) -> ArtifactRef:
    """Return tokenizer.model, trained on the corpus's training split only."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.tokenizer import load_tokenizer, train_tokenizer

        train_tokenizer(config, _texts(corpus.path / "train.parquet"), folder, progress)
        return {"vocab_size": load_tokenizer(folder / "tokenizer.model").vocab_size}

    return store.build("tokenizer", VERSION["tokenizer"], config, {"corpus": corpus}, make)


def tokens(store: Store, corpus: ArtifactRef, tokenizer: ArtifactRef, progress: ProgressReporter) -> ArtifactRef:
    """Return both splits as uint16 token shards with document offsets."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.corpus.tokens import write_token_shards
        from tinylm.tokenizer import load_tokenizer

        model = load_tokenizer(tokenizer.path / "tokenizer.model")
        return write_token_shards(corpus.path, model, folder, progress)

    return store.build("tokens", VERSION["tokens"], _Nothing(), {"corpus": corpus, "tokenizer": tokenizer}, make)


def train(
    store: Store, config: TrainConfig, tokens: ArtifactRef, tokenizer: ArtifactRef, progress: ProgressReporter
) -> ArtifactRef:
    """Return a trained checkpoint: float weights, model settings, tokenizer, metrics. Goes on after a kill."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.train import train as run

        return run(config, tokens.path, tokenizer.path / "tokenizer.model", folder, progress)

    return store.build(
        "train",
        VERSION["train"],
        config,
        {"tokens": tokens, "tokenizer": tokenizer},
        make,
        resumable=True,
        discard=("checkpoints",),
    )


def native(store: Store, progress: ProgressReporter) -> ArtifactRef:
    """Return the built C++ extension, and make it the one that this installation imports."""
    from tinylm.native_build import build_native, install_native, native_content

    ref = store.build(
        "native",
        VERSION["native"],
        _Nothing(),
        {},
        lambda folder: build_native(folder, progress),
        content=native_content(),
    )
    install_native(ref.path)
    return ref


def export(
    store: Store,
    config: ExportConfig,
    checkpoint: ArtifactRef,
    corpus: ArtifactRef,
    native: ArtifactRef,
    progress: ProgressReporter,
) -> ArtifactRef:
    """Return the one-file model. Raises: StageError if rounding costs more bits per byte than its budget."""

    def make(folder: Path) -> dict[str, Any]:
        exact, rounded = folder / "exact.safetensors", folder / "model.safetensors"
        _write_model(checkpoint, exact, "f32")
        summary = _write_model(checkpoint, rounded, config.precision)
        before = _native_bpb(exact, corpus, config.validation_bytes, "bits per byte, f32", progress)
        after = _native_bpb(rounded, corpus, config.validation_bytes, f"bits per byte, {config.precision}", progress)
        exact.unlink()
        if after - before > config.budget_bpb:
            raise StageError(
                f"export to {config.precision} costs {after - before:+.4f} bits per byte, more than its budget of "
                f"{config.budget_bpb}; raise export.max_bpb_increase or choose another export.precision"
            )
        return summary | {"bpb_before": before, "bpb_after": after, "validation_bytes": config.validation_bytes}

    inputs = {"checkpoint": checkpoint, "corpus": corpus, "native": native}
    return store.build("model", VERSION["model"], config, inputs, make)


def evaluate(
    store: Store,
    config: EvaluateConfig,
    checkpoint: ArtifactRef,
    model: ArtifactRef,
    corpus: ArtifactRef,
    native: ArtifactRef,
    progress: ProgressReporter,
) -> ArtifactRef:
    """Return bits per byte on validation text of the same weights in torch f32, native f32 and as exported."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.train import evaluate_bpb

        exact = folder / "exact.safetensors"
        _write_model(checkpoint, exact, "f32")
        texts = list(_validation_texts(corpus, config.validation_bytes))
        precision = str(model.summary["precision"])
        rows = {
            "torch f32": float(evaluate_bpb(checkpoint.path, texts, progress)["bpb"]),
            "native f32": _native_bpb(exact, corpus, config.validation_bytes, "native f32", progress),
            f"native {precision}": _native_bpb(
                model.path / "model.safetensors", corpus, config.validation_bytes, f"native {precision}", progress
            ),
        }
        exact.unlink()
        return {"bits_per_byte": rows, "documents": len(texts), "bytes": sum(len(text.encode()) for text in texts)}

    inputs = {"checkpoint": checkpoint, "model": model, "corpus": corpus, "native": native}
    return store.build("evaluation", VERSION["evaluation"], config, inputs, make)


def stories(
    store: Store, config: SamplesConfig, model: ArtifactRef, native: ArtifactRef, progress: ProgressReporter
) -> ArtifactRef:
    """Return sample stories, one JSON object per line in stories.jsonl."""

    def make(folder: Path) -> dict[str, Any]:
        import json

        from tinylm.engine import load_engine

        rows = []
        with (
            load_engine(model.path / "model.safetensors") as engine,
            progress.task("stories", len(config.prompts)) as bar,
        ):
            for done, (prompt, story) in enumerate(
                zip(config.prompts, engine.generate(config.prompts, config.options), strict=True), start=1
            ):
                rows.append({"prompt": prompt, "text": story.text, "finish_reason": story.finish_reason})
                bar.update(done)
        (folder / "stories.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return {"stories": len(rows), "finish_reasons": [row["finish_reason"] for row in rows]}

    return store.build("stories", VERSION["stories"], config, {"model": model, "native": native}, make)


def sweep(
    store: Store,
    config: SweepConfig,
    model: ArtifactRef,
    native: ArtifactRef,
    progress: ProgressReporter,
    *,
    occasion: str = "",
) -> ArtifactRef:
    """Return the measured cells of one sweep on this machine.

    Args: occasion: name of a repeated measurement, such as a date; equal work under another name is measured again.
    """
    from tinylm.bench import run_sweep

    return store.build(
        "sweep",
        VERSION["sweep"],
        config,
        {"model": model, "native": native},
        lambda folder: run_sweep(config, model.path / "model.safetensors", folder, progress),
        content={"machine": _machine(), "occasion": occasion},
        resumable=True,
    )


def report(store: Store, sweep: ArtifactRef, reports_dir: Path, progress: ProgressReporter) -> ArtifactRef:
    """Return the HTML report of a sweep, and publish it under `reports_dir` with the list of all reports."""
    raise StageError("report")


def _write_model(checkpoint: ArtifactRef, path: Path, precision: Precision) -> dict[str, Any]:
    """Write the checkpoint's weights as a one-file model and return what the writer says of it."""
    import json

    from safetensors.numpy import load_file

    from tinylm.quantize import write_model
    from tinylm.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(checkpoint.path / "tokenizer.model")
    settings = json.loads((checkpoint.path / "config.json").read_bytes())
    return write_model(
        path,
        parse(ModelConfig, settings, str(checkpoint.path / "config.json")),
        load_file(checkpoint.path / "model.safetensors"),
        tokenizer.serialized(),
        "sentencepiece",
        tokenizer.bos_id,
        tokenizer.eos_id,
        precision,
        {"checkpoint": checkpoint.key, "training": checkpoint.manifest.config},
    ).as_dict()


def _native_bpb(model: Path, corpus: ArtifactRef, limit_bytes: int, name: str, progress: ProgressReporter) -> float:
    """Return bits per byte of the first `limit_bytes` of validation text in the native engine."""
    import math

    from tinylm.engine import load_engine

    nats = scored_bytes = 0.0
    with load_engine(model) as engine, progress.task(name, limit_bytes, "bytes") as bar:
        for score in engine.score(_validation_texts(corpus, limit_bytes)):
            nats, scored_bytes = nats + score.nats, scored_bytes + score.bytes
            bar.update(scored_bytes)
    return nats / math.log(2) / scored_bytes


def _validation_texts(corpus: ArtifactRef, limit_bytes: int) -> Iterator[str]:
    """Yield whole validation documents until `limit_bytes` are reached."""
    total_bytes = 0
    for text in _texts(corpus.path / "valid.parquet"):
        yield text
        total_bytes += len(text.encode())
        if total_bytes >= limit_bytes:
            return


def _texts(path: Path) -> Iterator[str]:
    """Yield column `text` of a Parquet file, a batch in memory at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["text"]):
            yield from batch.column(0).to_pylist()


def _machine() -> str:
    """Return the name of the machine as far as speed depends on it."""
    from tinylm.bench.machine import machine_key

    return machine_key()
