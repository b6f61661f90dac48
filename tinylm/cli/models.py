"""Commands about model files: `init`, `import`, `export`, `inspect`, `eval`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.base import ArtifactsDir, Json, ModelPath, Output, find_model
from tinylm.cli.options import EngineSetup, Precision, engine_options
from tinylm.errors import DataError

__all__ = ["add_to"]

PrecisionOption = Annotated[Precision, typer.Option(help="How weights are stored.")]
OutFile = Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="File to write.")]
OutFileOrFolder = Annotated[Path, typer.Option("--out", "-o", help="File or folder to write.")]


def init(
    out_file: OutFile,
    preset: Annotated[str, typer.Option(help="Named shape.")] = "llama-20m",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights.")] = 0,
    precision: PrecisionOption = Precision.int8,
    json_output: Json = False,
) -> None:
    """Write a model of random weights, for speed tests."""
    from tinylm.modelfile import random_weights
    from tinylm.outputs import check_output
    from tinylm.presets import preset as find_preset
    from tinylm.quantize import write_model

    out = Output(json_output)
    check_output(out_file)
    config = find_preset(preset)
    provenance = {"name": preset, "weights": "random", "seed": seed}
    weights = random_weights(config, seed)
    summary = write_model(out_file, config, weights, b"", "bytes", None, None, precision.value, provenance)
    out.line(f"{out_file}  {summary.parameters:,} parameters, {summary.file_bytes:,} bytes, {precision.value}")
    out.result(summary.as_dict() | {"model": str(out_file)})


@engine_options
def evaluate(
    engine: EngineSetup,
    text: Annotated[list[str], typer.Option("--text", help="Text to judge on: file, glob or folder; repeatable.")],
    text_column: Annotated[str, typer.Option(help="Column or key of a table that holds the text.")] = "text",
    model: ModelPath = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Measure a model on text: bits per byte, nats per token."""
    from tinylm.corpus import CorpusConfig
    from tinylm.corpus.sources import read_documents
    from tinylm.engine import load_engine
    from tinylm.scoring import evaluate as evaluate_texts

    out = Output(json_output)
    path = find_model(model, artifacts)
    source = CorpusConfig(source="files", files=tuple(text), text_column=text_column)
    texts = _some((document for document in read_documents(source) if document), text)
    with load_engine(path, **engine._asdict()) as loaded:
        result = evaluate_texts(loaded.score, texts)
    out.line(
        f"{result.bits_per_byte:.4f} bits per byte, {result.nats_per_token:.4f} nats per token, "
        f"{result.tokens:,} tokens, {result.bytes:,} bytes"
    )
    out.result({"model": str(path)} | result.as_dict())


def _some(texts: Iterable[str], names: list[str]) -> Iterator[str]:
    """Yield the texts; DataError at their end if there was none."""
    text = None
    for text in texts:
        yield text
    if text is None:
        raise DataError(
            f"--text: found no text in {', '.join(names)}; expected at least one document that is not empty"
        )


def import_(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Hugging Face folder or owner/name, .gguf, llama2.c .bin.")
    ],
    out_file: OutFile,
    tokenizer: Annotated[Path | None, typer.Option(help="Its tokenizer.", show_default="the one beside SRC")] = None,
    precision: PrecisionOption = Precision.int8,
    lora: Annotated[Path | None, typer.Option(help="PEFT folder to merge first.", show_default="none")] = None,
    json_output: Json = False,
) -> None:
    """Make a model file of a model from another tool."""
    from tinylm.interop.imports import import_model

    out = Output(json_output)
    summary = import_model(source, out_file, precision=precision.value, tokenizer=tokenizer, lora=lora)
    out.line(f"{out_file}  {summary.parameters:,} parameters, {summary.file_bytes:,} bytes, {summary.precision}")
    out.result(summary.as_dict() | {"model": str(out_file)})


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Model file, or an artifact's key.")],
    target: Annotated[str, typer.Option("--to", help="hf, gguf, llama2c or onnx.")],
    out_file: OutFileOrFolder,
    dtype: Annotated[
        str | None, typer.Option(help="How weights are stored there.", show_default="the target's")
    ] = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Write a model in the format of another tool."""
    from tinylm.interop.exports import export_model

    out = Output(json_output)
    summary = export_model(find_model(file, artifacts), target, out_file, dtype=dtype)
    for note in summary.notes:
        out.line(note)
    for path in summary.files:
        out.line(str(path))
    out.result(summary.as_dict())


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Model file of any format that `import` reads.")],
    json_output: Json = False,
) -> None:
    """Show what a model file holds: shape, parameters, bytes by part, tokenizer, provenance, where it can go."""
    from tinylm.interop.inspect import inspect_file

    out = Output(json_output)
    report = inspect_file(file)
    for line in report.lines():
        out.line(line)
    out.result(report.as_dict())


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    panel = "Models"
    app.command("init", rich_help_panel=panel)(init)
    app.command("import", rich_help_panel=panel)(import_)
    app.command("export", rich_help_panel=panel)(export)
    app.command("inspect", rich_help_panel=panel)(inspect)
    app.command("eval", rich_help_panel=panel)(evaluate)
