"""Groups of options: how text is sampled, how the engine is set up, what a bulk job reads and writes.

A command takes one parameter, `options`, `engine` or `job`; the decorators here show it as one flag per field. The
flags are written out rather than read off `GenerateOptions` and `GenerateJob`, because that import would cost every
`--help` 0.2 s; tests hold them equal.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

import typer

from tinylm.errors import ConfigError

__all__ = [
    "ENGINE",
    "JOB",
    "SAMPLING",
    "EngineSetup",
    "Precision",
    "engine_options",
    "job_options",
    "sampling_options",
]


class Precision(StrEnum):
    """How the weight matrices of a model file are stored."""

    f32 = "f32"
    bf16 = "bf16"
    int8 = "int8"
    int4 = "int4"


class EngineSetup(NamedTuple):
    """How `load_engine` is asked to spread over the machine; None: its own choice."""

    replicas: int | None = None
    threads_per_replica: int | None = None
    max_batch: int | None = None
    isa: str = "auto"


class _Flag(NamedTuple):
    """One field as a command-line option; `least` and `most` are values that it takes."""

    kind: Any
    help: str
    default: str
    least: float | None = None
    most: float | None = None


SAMPLING: dict[str, _Flag] = {
    "max_new_tokens": _Flag(int, "Tokens at most.", "256", 0),
    "temperature": _Flag(float, "0: greedy.", "0.8", 0, 100),
    "top_k": _Flag(int, "Keep the k likeliest tokens; 0: off.", "40", 0),
    "top_p": _Flag(float, "Keep the likeliest mass p, above 0; 1: off.", "0.95", None, 1),
    "min_p": _Flag(float, "Drop tokens below p times the best, less than 1; 0: off.", "0.0", 0),
    "repetition_penalty": _Flag(float, "Above 0; 1: off.", "1.0", None, 100),
    "stop": _Flag(list[str], "End before this string; may be given several times.", "none"),
    "ignore_eos": _Flag(bool, "Go on past the end of the story.", "off"),
    "seed": _Flag(int, "Key of the random stream: equal seed, equal text.", "0", 0),
}

ENGINE: dict[str, _Flag] = {
    "replicas": _Flag(int, "Independent engines over one set of weights.", "one per core; story, chat: 1", 1, 1024),
    "threads_per_replica": _Flag(int, "Threads of each replica.", "1; story, chat: all cores", 1, 1024),
    "max_batch": _Flag(int, "Stories that a replica writes at a time.", "the engine's choice; story, chat: 1", 1, 4096),
    "isa": _Flag(str, "Instruction set: auto, avx512, avxvnni, avx2, neon_dot, neon, scalar.", "auto"),
}

JOB: dict[str, _Flag] = {
    "samples": _Flag(int, "Stories for each row.", "1", 1, 1000),
    "input_format": _Flag(Literal["auto", "txt", "jsonl", "csv", "parquet"], "What the prompts files are.", "auto"),
    "column": _Flag(list[str], "field=column: where a field is found; repeatable.", "none"),
    "extra_fields": _Flag(Literal["refuse", "ignore"], "Unknown fields of a .jsonl row.", "refuse"),
    "max_row_bytes": _Flag(int, "A longer row is a bad row.", "4194304", 1024),
    "template": _Flag(str, "Prompt with {column} places.", "none"),
    "theme": _Flag(list[str], "What a story is about, instead of a file; repeatable.", "none"),
    "preset": _Flag(str, "A named set of openings, instead of a file.", "none"),
    "answer_form": _Flag(Literal["rows", "openai"], "openai: batch output lines.", "rows"),
    "shard_rows": _Flag(int, "Input rows in a shard.", "1000 / samples", 1, 1_000_000),
    "busy": _Flag(Literal["wait", "refuse"], "While another job writes this output.", "wait"),
    "strict": _Flag(bool, "Refuse the job if one row is bad.", "off"),
    "overwrite": _Flag(bool, "Replace another job's output.", "off"),
}
_JOB_FIELDS = {"theme": "themes", "column": "columns"}  # flags given several times fill fields in the plural

Command = Callable[..., None]


def sampling_options(command: Command) -> Command:
    """Show the parameter `options: GenerateOptions` of `command` as one flag per sampling setting."""

    def build(given: dict[str, Any]) -> Any:
        from tinylm.config import GenerateOptions, parse

        return parse(GenerateOptions, given, "options")

    return _spread(command, "options", SAMPLING, "Sampling", build)


def engine_options(command: Command) -> Command:
    """Show the parameter `engine: EngineSetup` of `command` as one flag per field."""
    return _spread(command, "engine", ENGINE, "Engine", _engine_setup)


def _engine_setup(given: dict[str, Any]) -> EngineSetup:
    setup = EngineSetup(**given)
    if setup.isa != "auto":
        from tinylm.machine import available_isas

        if setup.isa not in (known := available_isas()):
            raise ConfigError(f"--isa: found {setup.isa!r}; this build and machine have auto, {', '.join(known)}")
    return setup


def job_options(command: Command) -> Command:
    """Show the parameter `job: dict` of `command`, fields of `GenerateJob`, as one flag per field."""
    return _spread(command, "job", JOB, "Job", _job_fields)


def _job_fields(given: dict[str, Any]) -> dict[str, Any]:
    fields = {_JOB_FIELDS.get(flag, flag): value for flag, value in given.items()}
    if "columns" in fields:
        fields["columns"] = dict(_pair(text) for text in fields["columns"])
    return fields


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals:
        raise ConfigError(f"--column {text!r}: expected field=column, such as prompt=opening")
    return field, column


def _spread(
    command: Command, name: str, flags: dict[str, _Flag], panel: str, build: Callable[[dict[str, Any]], Any]
) -> Command:
    """Return `command` with its parameter `name` replaced by keyword flags; unset flags are left out of `build`."""

    @functools.wraps(command)
    def wrapper(*args: Any, **values: Any) -> None:
        given = {flag: values.pop(flag) for flag in flags}
        values[name] = build({flag: value for flag, value in given.items() if not _unset(value)})
        command(*args, **values)

    signature = inspect.signature(command, eval_str=True, locals={"GenerateOptions": object})
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != name]
    added = [_parameter(flag_name, flag, panel) for flag_name, flag in flags.items()]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in kept]
    wrapper.__signature__ = signature.replace(parameters=parameters + added)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters + added}
    return wrapper


def _unset(value: Any) -> bool:
    # By identity: 0 and 0.0 equal False, yet `--temperature 0` and `--top-k 0` are settings.
    return value is None or value is False or value == []


def _parameter(name: str, flag: _Flag, panel: str) -> inspect.Parameter:
    is_switch = flag.kind is bool
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=flag.help,
        rich_help_panel=panel,
        show_default=False if is_switch else flag.default,
        min=flag.least,
        max=flag.most,
    )
    kind = flag.kind if is_switch else flag.kind | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=False if is_switch else None, annotation=Annotated[kind, option]
    )
