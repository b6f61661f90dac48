"""`tinylm import`: one front door for every format that can be read."""

from __future__ import annotations

from pathlib import Path

from tinylm.config import Precision
from tinylm.errors import DataError
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.llama2c import read_llama2c
from tinylm.modelfile import is_model_file
from tinylm.outputs import check_output
from tinylm.quantize import ModelSummary

__all__ = ["import_model", "read_checkpoint"]


def import_model(
    source: str | Path,
    out: Path,
    *,
    precision: Precision = "int8",
    tokenizer: Path | None = None,
    lora: Path | None = None,
) -> ModelSummary:
    """Read a model of another tool and write it as a one-file model that the engine runs.

    Args:    source: a Hugging Face folder or hub name (owner/name), a .gguf file, or a llama2.c .bin file.
             tokenizer: its tokenizer, where that does not lie beside it.
             lora: a PEFT folder whose adapter is merged into the weights first.
    Raises:  DataError if something is missing or does not fit TinyLM, or if `out` is one of the files to read or no
             regular file; FormatError if a file is damaged; StageError if the disk refuses.
    """
    check_output(out)
    check_output(out, *_files_read(out, [place for place in (Path(source), tokenizer, lora) if place]))
    return read_checkpoint(source, tokenizer, lora).save(out, precision)


def _files_read(out: Path, places: list[Path]) -> list[Path]:
    """Return `places`, and `out` too where it is a file of a folder among them that no earlier import put there."""
    in_folder = any(place.is_dir() and out.parent.exists() and place.samefile(out.parent) for place in places)
    return [*places, out] if in_folder and not is_model_file(out) else places


def read_checkpoint(source: str | Path, tokenizer: Path | None = None, lora: Path | None = None) -> Checkpoint:
    """Return the model in `source`, whatever its format; arguments and errors as `import_model`."""
    # Each reader is imported where it is used: torch, gguf and transformers are slow to load, some are extras.
    from tinylm.interop.hf_import import download, is_hub_name, read_hf

    path = Path(source)
    if path.is_dir():
        return read_hf(path, tokenizer, lora)
    if not path.exists() and is_hub_name(str(source)):
        return read_hf(download(str(source)), tokenizer, lora)
    if not path.is_file():
        raise DataError(f"{source}: no such file or folder, and not a hub name of the form owner/name")
    return _read_file(path, tokenizer, lora)


def _read_file(path: Path, tokenizer: Path | None, lora: Path | None) -> Checkpoint:
    if is_model_file(path):
        raise DataError(
            f"{path}: is TinyLM's own model file already; expected one of another tool: use it as it is, such as with "
            "--model, or at another precision with `tinylm generate --precision`"
        )
    if lora is not None:
        raise DataError(
            f"{lora}: a LoRA adapter is merged into a Hugging Face model, whose names it uses; found {path}"
        )
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        from tinylm.interop.gguf_import import read_gguf

        return read_gguf(path, tokenizer)
    if suffix == ".bin":
        return read_llama2c(path, tokenizer)
    if suffix == ".safetensors":
        raise DataError(f"{path}: name the folder with its config.json; a lone weights file does not say its shape")
    raise DataError(f"{path}: not a format that can be imported; expected a folder, .gguf, or llama2.c .bin")
