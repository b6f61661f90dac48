"""`tinylm inspect`: what a model file of any known format holds, without converting it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tinylm.config import ModelConfig, parse
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.interop.exports import export_targets
from tinylm.interop.safetensors_folder import SafetensorsFolder, read_config
from tinylm.modelfile import is_model_file, read_model
from tinylm.tokenizer import SentencePieceTokenizer, Tokenizer, load_tokenizer

__all__ = ["FileReport", "inspect_file"]


@dataclass(frozen=True)
class FileReport:
    """Facts of one model file or folder."""

    path: str
    format: str
    architecture: str
    stored_as: str
    parameters: int
    total_bytes: int
    bytes_by_part: dict[str, int]
    config: dict[str, Any]
    tokenizer: str
    provenance: dict[str, Any] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)  # target → "" or the reason why not
    tensors: dict[str, list[int]] = field(default_factory=dict)  # name → shape

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        rows = [
            f"{self.path}: {self.format}",
            f"architecture  {self.architecture}",
            f"shape         {_in_words(self.config)}",
            f"parameters    {self.parameters:,} in {len(self.tensors)} tensors, stored as {self.stored_as}",
            f"size          {self.total_bytes:,} bytes",
            *(f"  {part:<13} {size:>12,} bytes" for part, size in self.bytes_by_part.items()),
            f"tokenizer     {self.tokenizer}",
            *(f"  {key.removeprefix('general.'):<12} {_in_words(value)}" for key, value in self.provenance.items()),
        ]
        for target, reason in self.exports.items():
            rows.append(f"export {target:<8}{'yes' if not reason else 'no: ' + reason}")
        return rows


def _in_words(value: object) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, Mapping) else str(value)


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    stored_bytes: int
    kind: str


def inspect_file(path: Path) -> FileReport:
    """Return what `path` holds: a TinyLM model file, a Hugging Face folder, GGUF, llama2.c `.bin` or ONNX.

    Raises: DataError if it is absent or of an unknown format; FormatError if it is damaged.
    """
    if path.is_dir():
        return _checkpoint_folder(path) if _is_checkpoint(path) else _hf_folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    readers = {".safetensors": _model_file, ".gguf": _gguf, ".bin": _llama2c, ".onnx": _onnx}
    if path.suffix.lower() not in readers:
        if is_model_file(path):  # the engine asks for no suffix either
            return _model_file(path)
        raise DataError(f"{path}: unknown kind of file; known: folders, {', '.join(readers)}")
    return readers[path.suffix.lower()](path)


def _model_file(path: Path) -> FileReport:
    if not _is_tinylm(path):
        tensors = _safetensors(path)
        return _report(path, "safetensors weights", "not stated in this file", tensors, path.stat().st_size)
    model = read_model(path)
    header = model.header
    tensors = {name: _Tensor(rows.shape, rows.nbytes, str(rows.dtype)) for name, rows in model.tensors().items()}
    tensors["tokenizer"] = _Tensor((len(model.tokenizer),), len(model.tokenizer), "bytes")
    tokenizer = _load(model.tokenizer) if header.tokenizer_kind != "bytes" else None
    report = _report(
        path,
        f"TinyLM model file, version 1, digest {model.digest[:16]}",
        _family(model.config),
        tensors,
        path.stat().st_size,
        config=model.config,
        tokenizer=tokenizer,
        marks=_marks(header.bos_id, header.eos_id, header.add_bos),
        provenance=dict(header.provenance),
    )
    # Packed int4 and scales count as the weights that they stand for.
    parameters = sum(rows.size for rows in model.dequantized().values())
    return replace(report, parameters=parameters, stored_as=header.precision)


def _is_tinylm(path: Path) -> bool:
    try:
        metadata = safe_open(path, framework="numpy").metadata() or {}  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError, ValueError):
        return True  # let the strict reader say what is wrong
    return metadata.get("format") == "tinylm"


_HF_ORIGIN = ("_name_or_path", "transformers_version")


def _hf_folder(folder: Path) -> FileReport:
    from tinylm.interop.hf_config import read_hf_config
    from tinylm.interop.hf_tokenizer import find_hf_tokenizer

    settings = read_config(folder)
    tensors = _folder_tensors(folder)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    names = settings.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else "not stated"
    try:
        shape = read_hf_config(settings, str(folder / "config.json"))
    except DataError as error:  # a model that cannot be imported can still be described
        return _report(folder, "Hugging Face folder", f"{architecture}; {error}", tensors, size)
    found = find_hf_tokenizer(folder, settings, shape.config.vocab_size)
    return _report(
        folder,
        "Hugging Face folder",
        architecture,
        tensors,
        size,
        config=shape.config,
        tokenizer=_load(found.model),
        marks=_marks(found.bos_id, found.eos_id, found.add_bos),
        provenance={key: settings[key] for key in _HF_ORIGIN if settings.get(key)},
    )


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "tokenizer.model").is_file() and "n_layers" in read_config(folder)


def _checkpoint_folder(folder: Path) -> FileReport:
    try:
        config = parse(ModelConfig, read_config(folder), str(folder / "config.json"))
    except ConfigError as error:
        raise FormatError(str(error)) from None
    tokenizer = load_tokenizer(folder / "tokenizer.model")
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return _report(
        folder,
        "TinyLM training checkpoint",
        _family(config),
        _folder_tensors(folder),
        size,
        config=config,
        tokenizer=tokenizer,
        marks=_marks(tokenizer.bos_id, tokenizer.eos_id, True),
    )


_GGUF_ORIGIN = (
    *(f"general.{key}" for key in ("name", "author", "organization", "version", "license", "url", "source.url")),
    "tinylm.provenance",
)


def _gguf(path: Path) -> FileReport:
    from tinylm.interop.gguf_file import read_gguf_file
    from tinylm.interop.gguf_import import gguf_config
    from tinylm.interop.gguf_tokenizer import read_gguf_tokenizer

    file = read_gguf_file(path)
    tensors = {
        name: _Tensor(tensor.shape, tensor.data.nbytes, tensor.type_name) for name, tensor in file.tensors.items()
    }
    architecture = str(file.fields.get("general.architecture", "not stated"))
    provenance = {key: value for key, value in file.fields.items() if key in _GGUF_ORIGIN and type(value) is str}
    size, name = path.stat().st_size, f"GGUF version {file.version}"
    try:
        config = gguf_config(file)
        found = read_gguf_tokenizer(file, config.vocab_size)
    except DataError as error:
        return _report(path, name, f"{architecture}; {error}", tensors, size, provenance=provenance)
    return _report(
        path,
        name,
        architecture,
        tensors,
        size,
        config=config,
        tokenizer=_load(found.model),
        marks=_marks(found.bos_id, found.eos_id, found.add_bos),
        provenance=provenance,
    )


def _llama2c(path: Path) -> FileReport:
    from tinylm.interop.llama2c import describe_llama2c

    config, version, stored = describe_llama2c(path)
    tensors = {
        name: _Tensor(shape, size, "int8" if version == 2 else "float32") for name, (shape, size) in stored.items()
    }
    return _report(path, f"llama2.c version {version}", "llama", tensors, path.stat().st_size, config=config)


def _onnx(path: Path) -> FileReport:
    from tinylm.interop.onnx_file import read_onnx

    graph = read_onnx(path)
    tensors = {name: _Tensor(shape, size, kind) for name, (shape, size, kind) in graph.constants.items()}
    provenance = {"producer": graph.producer, "inputs": _briefly(graph.inputs), "outputs": _briefly(graph.outputs)}
    size, architecture = path.stat().st_size, f"graph of {graph.nodes} nodes, opset {graph.opset}"
    beside = path.with_name("tokenizer.json")
    tokenizer = load_tokenizer(beside) if beside.is_file() else None
    stated = graph.metadata.get("tinylm.config")
    if stated is None:
        return _report(path, "ONNX", architecture, tensors, size, tokenizer=tokenizer, provenance=provenance)
    try:
        config = parse(ModelConfig, json.loads(stated), str(path))
    except (ConfigError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{path}: tinylm.config in its metadata: {error}") from None
    report = _report(
        path, "ONNX", architecture, tensors, size, config=config, tokenizer=tokenizer, provenance=provenance
    )
    return replace(report, exports={})  # a graph is an end: it is not read back


def _briefly(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _report(
    path: Path,
    form: str,
    architecture: str,
    tensors: Mapping[str, _Tensor],
    total_bytes: int,
    *,
    config: ModelConfig | None = None,
    tokenizer: Tokenizer | None = None,
    marks: str = "",
    provenance: dict[str, Any] | None = None,
) -> FileReport:
    parts: dict[str, int] = {}
    for name, tensor in tensors.items():
        part = _part(name)
        parts[part] = parts.get(part, 0) + tensor.stored_bytes
    weights = {name: tensor for name, tensor in tensors.items() if name != "tokenizer"}
    return FileReport(
        path=str(path),
        format=form,
        architecture=architecture,
        stored_as=", ".join(sorted({tensor.kind for tensor in weights.values()})),
        parameters=sum(_product(tensor.shape) for tensor in weights.values()),
        total_bytes=total_bytes,
        bytes_by_part=parts,
        config=config.model_dump(mode="json", exclude_defaults=True) if config else {},
        tokenizer=_describe(tokenizer) + marks,
        provenance=provenance or {},
        exports=export_targets(config, tokenizer) if config else {},
        tensors={name: list(tensor.shape) for name, tensor in weights.items()},
    )


# Which part of a model a tensor belongs to, by the names that the known formats use; the first match counts.
_PARTS = (
    ("tokenizer", re.compile(r"^tokenizer$")),
    ("norms", re.compile(r"norm|ln_\d|ln_f|rms_")),
    ("positions", re.compile(r"pos_emb|position|wpe|^cos$|^sin$")),
    ("lookup tables", re.compile(r"^(ngram|value|copy)_embeddings")),
    ("embedding", re.compile(r"embed|embd|wte")),
    ("attention", re.compile(r"attn|attention")),
    ("feed-forward", re.compile(r"mlp|ffn")),
    ("head", re.compile(r"head|output|embed_out")),
)


def _part(name: str) -> str:
    return next((part for part, pattern in _PARTS if pattern.search(name)), "other")


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _family(config: ModelConfig) -> str:
    from tinylm.backends.transformers_layouts import layout_for

    try:
        return f"{layout_for(config).model_type} layout"
    except DataError:
        return "TinyLM's own combination of parts"


def _load(model: bytes) -> Tokenizer:
    return load_tokenizer(model)


def _describe(tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return "none in this file"
    if isinstance(tokenizer, SentencePieceTokenizer):
        exact = "every text survives" if tokenizer.is_exact else "normalises text"
        return f"SentencePiece, {tokenizer.vocab_size:,} tokens, {exact}"
    return f"Hugging Face tokenizer.json, {tokenizer.vocab_size:,} tokens"


def _marks(bos_id: int | None, eos_id: int | None, add_bos: bool) -> str:
    return f"; BOS {bos_id}{'' if add_bos else ' (not put before prompts)'}, EOS {eos_id}"


def _folder_tensors(folder: Path) -> dict[str, _Tensor]:
    tensors: dict[str, _Tensor] = {}
    for path in SafetensorsFolder(folder).files:
        tensors |= _safetensors(path)
    return tensors


_BITS = re.compile(r"\d+")


def _safetensors(path: Path) -> dict[str, _Tensor]:
    try:
        with safe_open(path, framework="numpy") as file:
            names: list[str] = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            return {name: _stored(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"{path}: not a safetensors file, or damaged ({error})") from None


def _stored(shape: tuple[int, ...], kind: str) -> _Tensor:
    bits = _BITS.search(kind)
    return _Tensor(shape, _product(shape) * (int(bits.group()) if bits else 8) // 8, kind)
