"""From a record to a row that the engine can answer, or to a row that says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tinylm.config import GenerateOptions
from tinylm.errors import DataError
from tinylm.stories.job import GenerateJob
from tinylm.stories.openai_batch import is_batch_line, plain_fields
from tinylm.stories.readers import Record
from tinylm.stories.seeds import row_seed
from tinylm.stories.template import fill, template_columns

__all__ = ["Row", "RowParser"]

_OPTION_NAMES = tuple(GenerateOptions.model_fields)
_MAX_ID_CHARACTERS = 1024
_MAX_SAMPLES = 1000
_EXCERPT_CHARACTERS = 200
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Row:
    """One input row, ready for the engine unless `error` says why it is not.

    `prompt` of a bad row is what could be read of it, cut to a short excerpt, or None.
    """

    index: int
    id: str
    prompt: str | None
    options: GenerateOptions
    samples: int
    error: str | None = None


class RowParser:
    """Turns records into rows by the job's settings; a pure function of (row number, record)."""

    def __init__(self, job: GenerateJob, max_prompt_bytes: int, context_length: int) -> None:
        """`max_prompt_bytes`: no prompt over this length can fit the model's context."""
        self._job = job
        self._max_prompt_bytes, self._context_length = max_prompt_bytes, context_length
        self._base = job.options.model_dump()
        names = [] if job.template is None else template_columns(job.template)
        self._known = {"prompt", "id", "custom_id", "samples", "n", "max_tokens", *_OPTION_NAMES, *names}

    def parse(self, index: int, record: Record) -> Row:
        """Return row `index`; never raises on what a row holds."""
        fields: Mapping[str, Any] = record.fields
        row_id, prompt = str(index), None
        try:
            if record.error is not None:
                raise DataError(record.error)
            row_id = _checked_id(self._renamed(record, fields), row_id)
            if is_batch_line(fields):
                fields = plain_fields(fields)
            elif not record.is_table and self._job.extra_fields == "refuse":
                self._refuse_unknown(fields)
            fields = self._renamed(record, fields)
            prompt = self._prompt(fields, record)
            if record.is_text and not prompt:
                raise DataError("empty prompt cell")
            samples = _checked_samples(fields, self._job.samples, record.is_text)
            options = self._options(index, fields, record.is_text)
        except DataError as error:
            return self._bad(index, row_id, prompt, str(error))
        if len(prompt.encode()) > self._max_prompt_bytes:
            reason = f"prompt of {len(prompt.encode()):,} bytes cannot fit the context of {self._context_length} tokens"
            return Row(index, row_id, prompt[:_EXCERPT_CHARACTERS], options, samples, reason)
        return Row(index, row_id, prompt, options, samples)

    def _bad(self, index: int, row_id: str, prompt: str | None, reason: str) -> Row:
        options = self._seeded(index)
        excerpt = None if prompt is None else _writable(prompt[:_EXCERPT_CHARACTERS])
        return Row(index, row_id, excerpt, options, self._job.samples, _writable(reason))

    def _seeded(self, index: int) -> GenerateOptions:
        return self._job.options.model_copy(update={"seed": row_seed(self._job.options.seed, index)})

    def _refuse_unknown(self, fields: Mapping[str, Any]) -> None:
        known = self._known | set(self._job.columns.values())
        if unknown := sorted(name for name in fields if name not in known):
            raise DataError(f"unknown field {unknown[0][:100]!r}; known fields: {', '.join(sorted(known))}")

    def _renamed(self, record: Record, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if record.is_line or not self._job.columns:
            return fields
        taken = set(self._job.columns.values())
        kept = {name: value for name, value in fields.items() if name not in self._job.columns or name in taken}
        return kept | {ours: fields[theirs] for ours, theirs in self._job.columns.items() if theirs in fields}

    def _prompt(self, fields: Mapping[str, Any], record: Record) -> str:
        if self._job.template is not None:
            prompt: object = fill(self._job.template, fields)
        else:
            prompt = fields.get("prompt", _MISSING)
        if prompt is _MISSING:
            raise DataError(f"no field {self._job.columns.get('prompt', 'prompt')!r}; found {_names(record.fields)}")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise DataError(f"prompt must be text; found {_kind(prompt)}")
        if "\0" in prompt:
            raise DataError(f"prompt holds a NUL character at place {prompt.index(chr(0)) + 1}")
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"prompt holds half a character (lone surrogate) at place {error.start + 1}") from None
        return prompt

    def _options(self, index: int, fields: Mapping[str, Any], is_text: bool) -> GenerateOptions:
        own = {name: fields[name] for name in _OPTION_NAMES if _is_set(fields.get(name))}
        if "max_tokens" in fields and _is_set(fields["max_tokens"]):
            own.setdefault("max_new_tokens", fields["max_tokens"])
        if not own:
            return self._seeded(index)
        if "stop" in own:
            own["stop"] = _stops(own["stop"], is_text)
        own.setdefault("seed", row_seed(self._job.options.seed, index))
        try:
            return GenerateOptions.model_validate(self._base | own, strict=not is_text)
        except ValidationError as error:
            problem = error.errors()[0]
            name = ".".join(str(part) for part in problem["loc"])
            raise DataError(f"{name}: {problem['msg']}; found {_excerpt(problem['input'])}") from None


def _checked_id(fields: Mapping[str, Any], default: str) -> str:
    value = fields.get("id", fields.get("custom_id"))
    if not _is_set(value):
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"id must be text or a whole number; found {_kind(value)}")
    text = str(value)
    if len(text) > _MAX_ID_CHARACTERS:
        raise DataError(f"id of {len(text):,} characters; at most {_MAX_ID_CHARACTERS}")
    if _writable(text) != text:
        raise DataError("id holds half a character (lone surrogate)")
    return text


def _checked_samples(fields: Mapping[str, Any], default: int, is_text: bool) -> int:
    value = fields.get("samples", fields.get("n"))
    if not _is_set(value):
        return default
    if is_text and isinstance(value, str) and value.strip().isdecimal() and len(value) < 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_SAMPLES:
        raise DataError(f"samples must be a whole number from 1 to {_MAX_SAMPLES}; found {_excerpt(value)}")
    return value


def _stops(value: object, is_text: bool) -> tuple[str, ...]:
    if is_text and isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(f"stop: expected a JSON list of texts; found {_excerpt(value)}") from None
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) and _writable(item) == item for item in value):
        raise DataError(f"stop must be text or a list of texts; found {_excerpt(value)}")
    return tuple(value)


def _is_set(value: object) -> bool:
    """An empty CSV cell, a null and an absent field all mean: the job's own setting."""
    return value is not None and value != ""


def _kind(value: object) -> str:
    names = {type(None): "null", dict: "an object", list: "a list", bool: "a truth value"}
    return names.get(type(value), f"{type(value).__name__} {_excerpt(value)}")


def _names(fields: Mapping[str, Any]) -> str:
    return ", ".join(repr(name[:50]) for name in list(fields)[:10]) or "an empty object"


def _excerpt(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= _EXCERPT_CHARACTERS else f"{text[:_EXCERPT_CHARACTERS]}..."


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
