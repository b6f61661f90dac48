"""Records from prompts files, one format each; a bad record is a record with a reason."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tinylm.errors import DataError
from tinylm.stories.lines import LongLine, bounded_lines, count_lines

__all__ = ["Record", "column_names", "count_records", "read_records"]

_BOM = b"\xef\xbb\xbf"
_CELL_LINES = 1000  # lines that one quoted CSV cell may span before its quote counts as a stray one (chosen)
_PARQUET_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class Record:
    """One input row as read: its fields, or why there are none."""

    fields: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    is_table: bool = False  # from a table: unknown columns are normal
    is_text: bool = False  # from CSV: numbers arrive as text
    is_line: bool = False  # from plain text: the line is the prompt, there are no columns


def read_records(stream: BinaryIO, kind: str, max_bytes: int, skip: int = 0) -> Iterator[Record]:
    """Yield the records of `stream` (`kind`: txt, jsonl, csv, tsv, parquet) after the first `skip`."""
    if kind == "parquet":
        yield from _parquet_records(stream, skip)
    elif kind in _DELIMITERS:
        yield from _csv_records(stream, max_bytes, skip, _DELIMITERS[kind])
    else:
        parse = _JSON_OR_TEXT[kind]
        for line in bounded_lines(stream, max_bytes, skip):
            yield _line_record(line, max_bytes, parse)


def count_records(stream: BinaryIO, kind: str, max_bytes: int) -> int:
    """Return how many records `read_records` would yield."""
    if kind == "parquet":
        return int(pq.ParquetFile(stream).metadata.num_rows)
    if kind in _DELIMITERS:
        return sum(1 for _ in _csv_records(stream, max_bytes, 0, _DELIMITERS[kind]))
    return count_lines(stream)


def column_names(stream: BinaryIO, kind: str, max_bytes: int) -> list[str] | None:
    """Return a table's column names, None for files without columns or without a first line."""
    if kind == "parquet":
        return list(pq.ParquetFile(stream).schema_arrow.names)
    if kind not in _DELIMITERS:
        return None
    header = _csv_row(_PushBack(bounded_lines(stream, max_bytes)), max_bytes, _DELIMITERS[kind])
    return header if isinstance(header, list) else None


def _line_record(line: bytes | LongLine, max_bytes: int, parse: Callable[[str], Record]) -> Record:
    text = _decoded(line, max_bytes)
    if isinstance(text, Record):
        return text
    return parse(text) if text.strip() else Record(error="empty line")


def _decoded(line: bytes | LongLine, max_bytes: int) -> str | Record:
    if isinstance(line, LongLine):
        return Record(error=f"line of {line.n_bytes:,} bytes; at most {max_bytes:,} (max_row_bytes)")
    try:
        return line.removeprefix(_BOM).removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        return Record(error=f"not UTF-8 at byte {error.start + 1} of the line (0x{line[error.start]:02x})")


def _text_record(text: str) -> Record:
    return Record({"prompt": _unescaped(text)}, is_line=True)


def _unescaped(text: str) -> str:
    """Return `text` with `\\n` as a newline, `\\t` as a tab and `\\\\` as one backslash."""
    if "\\" not in text:
        return text
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], text)


def _json_record(text: str) -> Record:
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        return Record(error=f"not JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        return Record(error="not usable JSON: nested too deeply")
    except ValueError as error:
        return Record(error=f"not usable JSON: {str(error)[:200]}")
    if not isinstance(value, dict):
        return Record(error=f"expected a JSON object with a prompt; found {_json_kind(value)}")
    return Record(value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} occurs twice")
    return fields


def _json_kind(value: object) -> str:
    names: dict[type, str] = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


_JSON_OR_TEXT: dict[str, Callable[[str], Record]] = {"txt": _text_record, "jsonl": _json_record}
_DELIMITERS = {"csv": ",", "tsv": "\t"}


def _csv_records(stream: BinaryIO, max_bytes: int, skip: int, delimiter: str) -> Iterator[Record]:
    """Yield rows below the header; a stray quote costs its own line only.

    A quoted cell may span lines. When its quote never closes, or closes in a way that CSV does not
    allow, the first line alone is the bad record and reading goes on with the next line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    lines = _PushBack(bounded_lines(stream, max_bytes))
    header = _csv_row(lines, max_bytes, delimiter)
    if header is None:
        return
    if isinstance(header, Record):
        raise DataError(f"header: {header.error}")
    width = len(header)
    number = -1
    while (row := _csv_row(lines, max_bytes, delimiter, width)) is not None:
        number += 1
        if number >= skip:
            yield row if isinstance(row, Record) else Record(dict(zip(header, row, strict=True)), None, True, True)


class _PushBack:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[bytes | LongLine]) -> None:
        self._lines, self._given_back = lines, deque[bytes | LongLine]()

    def take(self) -> bytes | LongLine | None:
        return self._given_back.popleft() if self._given_back else next(self._lines, None)

    def give_back(self, lines: list[bytes | LongLine]) -> None:
        self._given_back.extendleft(reversed(lines))


def _csv_row(lines: _PushBack, max_bytes: int, delimiter: str, width: int | None = None) -> list[str] | Record | None:
    """Return the next row's cells, a bad record, or None at the end; `width`: cells that the header has."""
    first = lines.take()
    if first is None:
        return None
    text = _decoded(first, max_bytes)
    if isinstance(text, Record):
        return text
    taken: list[bytes | LongLine] = []
    while _is_open(text, delimiter):
        line = lines.take()
        more = None if line is None else _decoded(line, max_bytes)
        if line is not None:
            taken.append(line)
        if not isinstance(more, str) or len(taken) > _CELL_LINES or len(text) + len(more) > max_bytes:
            lines.give_back(taken)
            return Record(error="CSV quote that never closes")
        text = f"{text}\n{more}"
    row = _parsed_cells(text, delimiter, width)
    if isinstance(row, Record):
        lines.give_back(taken)
    return row


def _parsed_cells(text: str, delimiter: str, width: int | None) -> list[str] | Record:
    if not text:
        return Record(error="empty line")
    try:
        row = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        return Record(error=f"not CSV: {error}")
    if width is not None and len(row) != width:
        return Record(error=f"CSV row of {len(row)} cells; the header has {width}")
    return row


def _is_open(text: str, delimiter: str) -> bool:
    """Return whether a quoted cell is still open at the end of `text`."""
    if '"' not in text:
        return False
    cell, place = _closed_cell(delimiter), 0
    while place < len(text):
        match = cell.match(text, place)
        if match is None:
            return True
        place = max(match.end(), place + 1)
    return False


@functools.cache
def _closed_cell(delimiter: str) -> re.Pattern[str]:
    """Return the pattern of one whole cell: quoted, with quotes doubled inside, or plain."""
    mark = re.escape(delimiter)
    return re.compile(rf'(?:"(?:[^"]|"")*+"[^{mark}]*|[^"{mark}][^{mark}]*|)(?:{mark}|$)')


def _parquet_records(stream: BinaryIO, skip: int) -> Iterator[Record]:
    table = pq.ParquetFile(stream)
    first_group = 0
    while first_group < table.num_row_groups and table.metadata.row_group(first_group).num_rows <= skip:
        skip -= table.metadata.row_group(first_group).num_rows
        first_group += 1
    groups = range(first_group, table.num_row_groups)
    for batch in table.iter_batches(batch_size=_PARQUET_BATCH_ROWS, row_groups=groups):
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        columns = [_cells(batch.column(name)) for name in batch.schema.names]
        for cells in list(zip(*columns, strict=True))[skip:] if columns else []:
            yield _table_record(dict(zip(batch.schema.names, cells, strict=True)))
        skip = 0


def _cells(column: pa.Array) -> list[Any]:
    """Return Python values; text as bytes, because one damaged cell must not cost its neighbours."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.binary() if pa.types.is_string(kind) else pa.large_binary())
    return list(column.to_pylist())


def _table_record(cells: dict[str, Any]) -> Record:
    fields: dict[str, Any] = {}
    for name, value in cells.items():
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError as error:
                return Record(error=f"column {name!r}: not UTF-8 at byte {error.start + 1}")
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            fields[name] = value
    return Record(fields, None, True)
