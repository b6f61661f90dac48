"""`tinylm export`: one front door for every format that can be written."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, DataError
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.gguf_export import check_gguf, write_gguf
from tinylm.interop.hf_export import check_hf, is_hf_export, write_hf
from tinylm.interop.llama2c_export import check_llama2c, write_llama2c
from tinylm.interop.onnx_export import check_onnx, write_onnx
from tinylm.modelfile import read_model
from tinylm.outputs import cannot_write, check_output, new_folder
from tinylm.presets import PRESETS
from tinylm.tokenizer import Tokenizer, load_tokenizer

__all__ = ["TARGETS", "ExportSummary", "Target", "check_export", "export_checkpoint", "export_model", "export_targets"]


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote."""

    target: str
    path: Path
    dtype: str
    files: tuple[str, ...]
    total_bytes: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        return {**asdict(self), "path": str(self.path), "files": list(self.files), "notes": list(self.notes)}


@dataclass(frozen=True)
class Target:
    """One format: what it can hold and how it is written."""

    # (config, tokenizer) → notes for the user; raises DataError where the format lacks a part.
    check: Callable[[ModelConfig, Tokenizer | None], list[str]]
    write: Callable[[Checkpoint, Path, str], None]  # into the folder, or to the file's path, given
    dtypes: tuple[str, ...]  # the first is the default
    is_folder: bool = False
    beside: str = ""  # the tokenizer's file, where it is put beside the model's


TARGETS = {
    "hf": Target(check_hf, write_hf, ("f32", "f16", "bf16"), is_folder=True),
    "gguf": Target(check_gguf, write_gguf, ("f16", "q8_0", "q4_0", "f32")),
    "llama2c": Target(check_llama2c, write_llama2c, ("f32",), beside="tokenizer.bin"),
    "onnx": Target(check_onnx, write_onnx, ("f32",), beside="tokenizer.json"),
}


def export_targets(config: ModelConfig, tokenizer: Tokenizer | None = None) -> dict[str, str]:
    """Return target → "" where this model can be exported to it, else the reason why not."""
    answers = {}
    for name in TARGETS:
        try:
            _check(name, config, tokenizer)
            answers[name] = ""
        except DataError as error:
            answers[name] = str(error)
    return answers


def check_export(name: str, config: ModelConfig, tokenizer: Tokenizer | None = None) -> list[str]:
    """Return notes on exporting such a model to target `name`.

    Raises: ConfigError for an unknown target; DataError if the format lacks a part of the model, naming the
            presets that export.
    """
    if name not in TARGETS:
        raise ConfigError(f"to: no export target is called {name!r}; known targets: {', '.join(TARGETS)}")
    try:
        return _check(name, config, tokenizer)
    except DataError as error:
        able = [preset for preset, shape in PRESETS.items() if not export_targets(shape)[name]]
        raise DataError(f"{error}. Presets that export to {name}: {', '.join(able)}") from None


def _check(name: str, config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    if config.has_lookup_tables:
        raise DataError(f"{name}: no other tool knows lookup tables (value_embeddings, ngram_rows, copy_ngrams)")
    return TARGETS[name].check(config, tokenizer)


def export_model(path: Path, target: str, out: Path, *, dtype: str | None = None) -> ExportSummary:
    """Write the model file at `path` in another tool's format.

    Args:    target: a key of TARGETS.  out: the folder (hf) or file to write.  dtype: how weights are stored there.
    Raises:  DataError before any work if the format cannot hold the model, or if `out` is the model itself, no
             regular file, or a folder with other files than an earlier export's, or if beside it lies the tokenizer
             of another model; ConfigError for a wrong setting; StageError if the disk refuses.
    """
    if target not in TARGETS:
        check_export(target, next(iter(PRESETS.values())))
    _check_place(target, out, path)
    return export_checkpoint(Checkpoint.of(read_model(path)), target, out, dtype=dtype, source=path)


def export_checkpoint(
    checkpoint: Checkpoint, target: str, out: Path, *, dtype: str | None = None, source: Path | None = None
) -> ExportSummary:
    """Write a model in memory in another tool's format; errors and other arguments as `export_model`.

    Args: source: the file that the model was read from, which no file of the export may replace.
    """
    if checkpoint.tokenizer_kind == "bytes":
        raise DataError("export: the model has no tokenizer (random weights for speed tests); other tools need one")
    tokenizer = load_tokenizer(checkpoint.tokenizer).with_specials(checkpoint.bos_id, checkpoint.eos_id)
    notes = check_export(target, checkpoint.config, tokenizer)
    kind = TARGETS[target]
    dtype = dtype or kind.dtypes[0]
    if dtype not in kind.dtypes:
        raise ConfigError(f"dtype: {target} is written as {', '.join(kind.dtypes)}; found {dtype!r}")
    inputs = [source] if source else []
    _check_place(target, out, *inputs)
    try:
        files = _publish(out, kind, lambda place: kind.write(checkpoint, place, dtype), inputs)
    except OSError as error:
        raise cannot_write(out, error) from None
    total_bytes = sum(path.stat().st_size for path in files)
    return ExportSummary(target, out, dtype, tuple(path.name for path in files), total_bytes, tuple(notes))


def _check_place(target: str, out: Path, *inputs: Path) -> None:
    """Raise DataError if the export must not be written to `out`: that would destroy what is there."""
    try:
        if TARGETS[target].is_folder:
            _check_folder(target, out)
        else:
            _check_file(target, out, *inputs)
    except OSError as error:
        raise cannot_write(out, error) from None


def _check_file(target: str, out: Path, *inputs: Path) -> None:
    if out.is_dir():
        raise DataError(f"{out}: is a folder; {target} writes a file, name one")
    if out.name == TARGETS[target].beside:
        raise DataError(f"{out}: is what {target} calls the tokenizer's file; name the model's otherwise")
    check_output(out, *inputs)


def _check_folder(target: str, out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: is a file; {target} writes a folder, name another output")
    if any(out.iterdir()) and not is_hf_export(out):
        raise DataError(
            f"{out}: holds files that no {target} export wrote; expected a new or empty folder, or an earlier export: "
            "name another folder or empty this one"
        )


def _check_beside(made: Path, place: Path) -> None:
    """Raise DataError if `place` holds another tokenizer than `made`: other models in the folder may need it."""
    if place.exists() and place.read_bytes() != made.read_bytes():
        raise DataError(
            f"{place}: is not this model's tokenizer; expected none, or one that is equal: name an output in a new "
            "folder, or remove that file"
        )


def _publish(out: Path, kind: Target, write: Callable[[Path], None], inputs: list[Path]) -> list[Path]:
    """Write in a temporary folder beside `out`; that takes the place of a new folder, else each file takes its own."""
    folder = out if kind.is_folder else out.parent
    temporary = out.parent / f".{out.name}.{secrets.token_hex(4)}.tmp"
    with new_folder(out.parent):
        try:
            temporary.mkdir()
            write(temporary if kind.is_folder else temporary / out.name)
            files = sorted(temporary.iterdir())
            for path in files:
                check_output(folder / path.name, *inputs)
                if path.name == kind.beside:
                    _check_beside(path, folder / path.name)
            if not folder.exists():
                temporary.replace(folder)
            else:
                for path in files:
                    path.replace(folder / path.name)
            return [folder / path.name for path in files]
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
