"""Tokens to model: the stages `train`, `native`, `export`, `evaluate`, and the change of a model's precision."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tinylm.artifacts import MODEL_FILE, ArtifactRef, Store
from tinylm.config import ModelConfig, Precision, parse
from tinylm.errors import StageError
from tinylm.manifest import sha256_file, write_json
from tinylm.progress import ProgressReporter
from tinylm.scoring import evaluate as evaluate_texts
from tinylm.stages.settings import (
    EXACT,
    RECIPE,
    VERSION,
    Conversion,
    EvaluateConfig,
    ExportConfig,
    NoSettings,
    RecipeConfig,
)

if TYPE_CHECKING:
    from tinylm.train.config import TrainConfig

__all__ = ["at_precision", "evaluate", "export", "native", "recipe", "train"]

_log = logging.getLogger(__name__)


def recipe(
    store: Store, config: TrainConfig, corpus: ArtifactRef, progress: ProgressReporter, *, tables: bool
) -> ArtifactRef:
    """Return shape, vocabulary, batch and schedule for `config.minutes`, the text and this machine: recipe.json.

    The machine is measured once: what is asked for again on one like it, as in the next container of an image, is the
    same recipe, so that a stopped training goes on.
    Args: tables: give the shape lookup tables.
    """
    from tinylm.bench.machine import machine_key
    from tinylm.train.plan import machine_speed
    from tinylm.train.recipe import recommend

    def make(folder: Path) -> dict[str, Any]:
        with progress.task("recipe: this machine's speed", None):
            speed, workers = machine_speed(config)
        text_bytes = corpus.summary["train"]["bytes"]
        chosen = recommend(config.minutes, text_bytes, speed, workers=workers, tables=tables)
        write_json(folder / RECIPE, {"vocab_size": chosen.vocab_size, "train": chosen.train.model_dump(mode="json")})
        return {"matmul_flops_per_s": speed, "workers": workers, "reasons": chosen.reasons}

    asked = RecipeConfig(
        minutes=config.minutes,
        tables=tables,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
    )
    return store.build("recipe", VERSION["recipe"], asked, {"corpus": corpus}, make, content={"machine": machine_key()})


def train(
    store: Store,
    config: TrainConfig,
    tokens: ArtifactRef,
    tokenizer: ArtifactRef,
    progress: ProgressReporter,
    *,
    base: Path | None = None,
) -> ArtifactRef:
    """Return a trained checkpoint: float weights, model settings, tokenizer, metrics. Goes on after a kill.

    Args: base: model file to start from instead of random weights; `tokens` must be of its own tokenizer.
    """

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.train import train as run

        return run(config, tokens.path, tokenizer.path / "tokenizer.model", folder, progress, base=base)

    return store.build(
        "train",
        VERSION["train"],
        config,
        {"tokens": tokens, "tokenizer": tokenizer},
        make,
        content={"shape": config.shape.digest()} | ({} if base is None else {"base": sha256_file(base)}),
        resumable=True,
        discard=("checkpoints",),
    )


def native(store: Store, progress: ProgressReporter) -> ArtifactRef:
    """Return the built C++ extension, and make it the one that this installation imports."""
    from tinylm.native_build import build_native, install_native, native_content

    ref = store.build(
        "native",
        VERSION["native"],
        NoSettings(),
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
    """Return the one-file model, and beside it the same in f32.

    Raises: StageError if rounding costs more bits per byte than its budget.
    """

    def make(folder: Path) -> dict[str, Any]:
        exact, rounded = folder / EXACT, folder / MODEL_FILE
        _write_model(checkpoint, exact, "f32", config.theme_template)
        summary = _write_model(checkpoint, rounded, config.precision, config.theme_template)
        with progress.task("export: bits per byte before and after", 2) as bar:
            before = _native_bpb(exact, corpus, config.validation_bytes)
            bar.update(1, before=before)
            after = _native_bpb(rounded, corpus, config.validation_bytes)
            bar.update(2, before=before, after=after)
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

    def make(_: Path) -> dict[str, Any]:
        from tinylm.train.evaluate import torch_scorer

        texts = list(_validation_texts(corpus, config.validation_bytes))
        with progress.task("evaluation", 3) as bar:
            rows = {"torch f32": evaluate_texts(torch_scorer(checkpoint.path), texts).bits_per_byte}
            bar.update(1, **rows)
            for done, (name, file) in enumerate(
                {"f32": EXACT, str(model.summary["precision"]): MODEL_FILE}.items(), start=2
            ):
                rows[f"native {name}"] = _native_bpb(model.path / file, corpus, config.validation_bytes)
                bar.update(done, **rows)
        return {"bits_per_byte": rows, "documents": len(texts), "bytes": sum(len(text.encode()) for text in texts)}

    inputs = {"checkpoint": checkpoint, "model": model, "corpus": corpus, "native": native}
    return store.build("evaluation", VERSION["evaluation"], config, inputs, make)


def at_precision(store: Store, model: Path, precision: Precision) -> Path:
    """Return `model` itself when it has that precision, else a converted copy, made once and kept in the store."""
    from tinylm.modelfile import read_model
    from tinylm.quantize import write_model

    source = read_model(model)
    if source.precision == precision:
        return model
    header = source.header

    def make(folder: Path) -> dict[str, Any]:
        return write_model(
            folder / MODEL_FILE,
            source.config,
            source.dequantized(),
            source.tokenizer,
            header.tokenizer_kind,
            header.bos_id,
            header.eos_id,
            precision,
            header.provenance | {"converted_from": source.precision},
            add_bos=header.add_bos,
        ).as_dict()

    wanted = Conversion(precision=precision)
    ref = store.build("converted", VERSION["converted"], wanted, {}, make, content={"model": source.digest})
    copy = ref.path / MODEL_FILE
    _log.info("model: %s", _copy_told(model, source.precision, precision, copy))
    return copy


def _copy_told(model: Path, held: Precision, wanted: Precision, copy: Path) -> str:
    finest_first = get_args(Precision)
    is_finer = finest_first.index(wanted) < finest_first.index(held)
    stays = f"; its rounding to {held} stays: for exact weights use export.precision, or import --precision"
    return f"{model} holds {held}; running its {wanted} copy {copy}{stays if is_finer else ''}"


def _write_model(checkpoint: ArtifactRef, path: Path, precision: Precision, theme_template: str) -> dict[str, Any]:
    """Write the checkpoint's weights as a one-file model and return what the writer says of it."""
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
        {"checkpoint": checkpoint.key, "training": checkpoint.manifest.config, "theme_template": theme_template},
    ).as_dict()


def _native_bpb(model: Path, corpus: ArtifactRef, limit_bytes: int) -> float:
    """Return bits per byte of the first `limit_bytes` of validation text in the native engine."""
    from tinylm.engine import load_engine

    with load_engine(model) as engine:
        return evaluate_texts(engine.score, _validation_texts(corpus, limit_bytes)).bits_per_byte


def _validation_texts(corpus: ArtifactRef, limit_bytes: int) -> Iterator[str]:
    """Yield whole validation documents until `limit_bytes` are reached."""
    from tinylm.corpus import read_texts

    total_bytes = 0
    for text in chain.from_iterable(read_texts(corpus.path / "valid.parquet")):
        yield text
        total_bytes += len(text.encode())
        if total_bytes >= limit_bytes:
            return
