"""What one bulk job is: its settings, its identity on disk, and the summary that it ends with."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tinylm.config import Config, GenerateOptions, Slots, Threads
from tinylm.stories.template import check_template, check_theme_template, template_columns

__all__ = ["SHARD_REQUESTS", "GenerateJob", "JobSummary", "RangeSummary", "describe_difference", "file_format"]

SHARD_REQUESTS = 1000  # requests in one shard: some ten seconds of two cores' work, so a kill costs little (chosen)
FIELDS = frozenset({"prompt", "id", "samples", *GenerateOptions.model_fields})
RUN_ONLY = frozenset(
    {"prompts", "output", "model", "replicas", "threads_per_replica", "max_batch", "isa", "strict", "overwrite", "busy"}
)
_FILE_FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv", ".txt": "txt"}
# Whoever ends a name in one of these wants one such file; any other name, `stories.v2` too, may be a folder's.
_NOT_WRITTEN = {
    ".gz", ".zst", ".bz2", ".xz", ".lz4", ".br", ".zip", ".tar", ".tgz", ".7z",
    ".json", ".ndjson", ".tsv", ".arrow", ".feather", ".orc", ".avro", ".xlsx", ".html", ".md",
}  # fmt: skip


class GenerateJob(Config):
    """Settings of one bulk job: which prompts, which model, how to write, where to.

    The text of every row depends on `model`, the prompts and the fields that say how to write; never on
    `replicas`, `threads_per_replica`, `max_batch`, `isa` or `shard_rows`.
    """

    prompts: tuple[str, ...] = Field((), description="files, globs, '-' (standard input) or fsspec URLs")
    output: str = Field(description="folder for shards, or one .parquet, .jsonl, .csv or .txt file; may be a URL")
    model: str = Field("", description="path of the one-file model")
    options: GenerateOptions = GenerateOptions()
    samples: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="stories for each row")
    template: str | None = Field(
        None, description="prompt with {column} places; None: the prompt column itself, or the model's theme template"
    )
    themes: tuple[str, ...] = Field((), description="instead of prompts: one row for each theme")
    preset: str | None = Field(None, description="instead of prompts: the openings of a named preset")
    columns: dict[str, str] = Field({}, description="our field name to the file's column name")
    input_format: Literal["auto", "txt", "jsonl", "csv", "parquet"] = "auto"
    extra_fields: Literal["refuse", "ignore"] = Field("refuse", description="unknown fields of a .jsonl row")
    answer_form: Literal["rows", "openai"] = Field("rows", description="openai: OpenAI batch output lines")
    strict: bool = Field(False, description="read all rows first and refuse the job if one is bad")
    overwrite: bool = Field(False, description="replace an output that belongs to another job")
    busy: Literal["wait", "refuse"] = Field("wait", description="what to do while another job writes this output")
    shard_rows: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(None, description="input rows in a shard")
    max_row_bytes: Annotated[int, Field(ge=1024)] = Field(4 << 20, description="a longer input row is a bad row")
    replicas: Threads | None = None
    threads_per_replica: Threads | None = None
    max_batch: Slots | None = None
    isa: str = "auto"

    @model_validator(mode="after")
    def _check(self) -> GenerateJob:
        given = [name for name in ("prompts", "themes", "preset") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"name exactly one source of prompts, themes or preset; found {given or 'none'}")
        if unknown := sorted(set(self.columns) - FIELDS):
            raise ValueError(f"columns maps unknown fields {unknown}; known: {sorted(FIELDS)}")
        if (suffix := PurePosixPath(self.output).suffix.lower()) in _NOT_WRITTEN:
            known = ", ".join(_FILE_FORMATS)
            raise ValueError(
                f"output: found {self.output!r}, but {suffix} is not written; name a file ending in {known}, "
                f"or a folder whose name does not end in {suffix}"
            )
        if self.answer_form == "openai" and file_format(self.output) != "jsonl":
            raise ValueError(f"answer_form openai needs a .jsonl output; found {self.output!r}")
        if not all(theme.strip() for theme in self.themes):
            raise ValueError("themes: found an empty one; name what the story is about, such as friendship")
        if self.template is not None:
            (check_theme_template if self.themes else check_template)(self.template)
        return self

    @property
    def rows_per_shard(self) -> int:
        """Input rows in one shard, from the setting or from the number of samples."""
        return self.shard_rows or max(1, SHARD_REQUESTS // self.samples)

    @property
    def needed_columns(self) -> list[str]:
        """Columns without which no row can have a prompt."""
        return template_columns(self.template) if self.template else [self.columns.get("prompt", "prompt")]

    def text_settings(self) -> dict[str, Any]:
        """Return the settings that the output's bytes depend on, as plain JSON values."""
        settings = self.model_dump(mode="json", exclude=set(RUN_ONLY))
        settings["shard_rows"] = self.rows_per_shard
        return settings


def file_format(output: str) -> str | None:
    """Return parquet, jsonl, csv or txt by the suffix of `output`, in capitals or not; None for any other."""
    return _FILE_FORMATS.get(PurePosixPath(output).suffix.lower())


class RangeSummary(Config):
    """What one run over some shards did; sums of several are the job's."""

    rows: int = 0
    answers: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    failures: dict[str, int] = Field({}, description="bad rows by kind")
    finish_reasons: dict[str, int] = Field({}, description="answers by finish reason")
    first_bad_row: int | None = Field(None, description="number of the first bad row, counted from 0")
    first_bad: str | None = Field(None, description="its reason")

    def __add__(self, other: RangeSummary) -> RangeSummary:
        """Return the summary of both ranges; `self` comes first in row order."""
        return RangeSummary(
            rows=self.rows + other.rows,
            answers=self.answers + other.answers,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            failures=_merged(self.failures, other.failures),
            finish_reasons=_merged(self.finish_reasons, other.finish_reasons),
            first_bad_row=other.first_bad_row if self.first_bad_row is None else self.first_bad_row,
            first_bad=other.first_bad if self.first_bad_row is None else self.first_bad,
        )


class JobSummary(RangeSummary):
    """How a job ended."""

    output: str
    model_digest: str
    shards: int
    first_bad_place: str | None = Field(None, description="file and line of the first bad row")
    reused_rows: int = Field(0, description="rows found whole from an earlier run")
    seconds_s: float = 0.0
    tokens_per_s: float = Field(0.0, description="tokens written by this run per second of this run")
    occupancy: float = Field(0.0, description="share of the engine's slot time that held a request")
    prepare_share: float = Field(0.0, description="CPU seconds of reading and checking rows per second of this run")
    feed_share: float = Field(0.0, description="CPU seconds of tokenising, submitting, collecting, likewise")
    write_share: float = Field(0.0, description="CPU seconds of writing shards per second of this run")

    @property
    def bad_rows(self) -> int:
        """Input rows that could not be used."""
        return sum(self.failures.values())

    @property
    def complaint(self) -> str | None:
        """One line about the bad rows, or None when every row was good."""
        if not self.bad_rows:
            return None
        rest = "" if self.bad_rows == 1 else f" ({self.bad_rows} bad rows in all)"
        others = (
            "no other row is there" if self.bad_rows == self.rows else f"every other row of {self.rows} was answered"
        )
        return (
            f"{self.first_bad_place}: {self.first_bad}{rest}; "
            f"{others}, the bad ones are marked invalid_input in {self.output}"
        )

    @property
    def exit_code(self) -> int:
        """0 when every row was good, else 2: the input has bad rows."""
        return 2 if self.bad_rows else 0


def describe_difference(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Return one `name: found …, wanted …` for each leaf in which two identities differ."""
    lines: list[str] = []
    for key in sorted(found.keys() | wanted.keys()):
        old, new, name = found.get(key), wanted.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            lines += describe_difference(old, new, f"{name}.")
        elif old != new:
            lines.append(f"{name}: found {_short(old)}, this job has {_short(new)}")
    return lines


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _merged(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in sorted(left.keys() | right.keys())}
