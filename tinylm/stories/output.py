"""From whole shards to the job's final form: a manifest beside them, or one file built from them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from tinylm.config import Config
from tinylm.errors import ConfigError
from tinylm.stories.job import RangeSummary, describe_difference, file_format
from tinylm.stories.openai_batch import answer_line
from tinylm.stories.plan import (
    MANIFEST_FILE,
    SPOOL_FOLDER,
    JobPlan,
    manifest,
    read_object,
    shard_folder,
    sidecar,
    single_format,
    write_text,
)
from tinylm.stories.shards import JOB_KEY, SCHEMA, SUMMARY_KEY, canonical, check_rows, open_writer, shard_name
from tinylm.stories.sources import sha256_of
from tinylm.stories.storage import Storage, open_storage

__all__ = ["committed_summary", "discard_work", "iter_answers", "publish_output", "sidecar"]

_BATCH_ROWS = 4096


class _Listed(Config):
    """A file as a manifest lists it; a single output file has no name there."""

    name: str | None = None
    size_bytes: int
    sha256: str


def committed_summary(plan: JobPlan) -> RangeSummary | None:
    """Return the counts of the finished output, or None when the job is not finished.

    Raises: ConfigError when the output is finished but belongs to another job, and may not be replaced.
    """
    output = plan.job.output
    storage, name = _home(output)
    is_file = single_format(output) is not None
    if name not in storage.names():
        return None
    found = _recorded(storage, name) if is_file else _manifest_body(storage, MANIFEST_FILE)
    differences = [] if found is None else describe_difference(found["job"], plan.identity)
    if found is not None and not differences:
        if _intact(storage, name, found, plan.job.overwrite):
            return RangeSummary.model_validate(found["summary"])
        if not is_file:
            return None  # shards that are missing or damaged are written again
    if plan.job.overwrite:
        return None
    reason = "exists and is not a job's output" if found is None else "was changed after the job had written it"
    if differences:
        reason = "holds another job: " + "; ".join(differences)
    raise ConfigError(f"output: {output} {reason}. Choose another output, or overwrite")


def publish_output(plan: JobPlan, storage: Storage, total: RangeSummary) -> None:
    """Make the finished job visible: the manifest, or the single file and its manifest, by one rename each."""
    kind = single_format(plan.job.output)
    body = manifest(plan, storage, total)
    if kind is None:
        write_text(storage, MANIFEST_FILE, body)
        discard_work(plan)
        return
    home, name = _home(plan.job.output)
    writers: dict[str, Callable[[Path], None]] = {
        "parquet": lambda path: _write_parquet(path, plan, storage, total),
        "jsonl": lambda path: _write_jsonl(path, plan, storage),
        "csv": lambda path: _write_csv(path, plan, storage),
        "txt": lambda path: _write_txt(path, plan, storage),
    }
    if kind == "parquet":
        home.commit(name, writers[kind], lambda path: check_rows(path, total.answers))
    else:
        home.commit(name, writers[kind], lambda path: _write_sidecar(path, home, sidecar(name), json.loads(body)))
    discard_work(plan)


def _write_sidecar(path: Path, home: Storage, name: str, body: dict[str, Any]) -> None:
    """Say what the file is that is about to appear: a sidecar beside a file of another digest says nothing of it."""
    with path.open("rb") as stream:
        digest, size_bytes = sha256_of(stream)
    body["files"] = [{"size_bytes": size_bytes, "sha256": digest}]
    write_text(home, name, json.dumps(body, indent=1, sort_keys=True).encode())


def _intact(storage: Storage, name: str, found: dict[str, Any], digest: bool) -> bool:
    """Return whether a manifest's files are there, by their sizes; if `digest`, by a single file's content too."""
    if "files" not in found:
        return True  # a Parquet file, which was read
    listed = {each.get("name", name): each for each in found["files"]}
    there = storage.sizes(name if name in listed else "part-")
    if any(there.get(each) != entry["size_bytes"] for each, entry in listed.items()):
        return False
    if name not in listed or not digest:
        return True
    with storage.open(name) as stream:
        return bool(sha256_of(stream)[0] == listed[name]["sha256"])


def iter_answers(storage: Storage, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the output rows of the named Parquet files in order."""
    for name in names:
        with storage.open(name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()


def _answers(plan: JobPlan, storage: Storage) -> Iterator[dict[str, Any]]:
    return iter_answers(storage, (shard_name(number) for number in range(plan.n_shards)))


def _write_parquet(path: Path, plan: JobPlan, storage: Storage, total: RangeSummary) -> None:
    counts = canonical(total.model_dump(mode="json"))
    schema = SCHEMA.with_metadata({JOB_KEY: canonical(plan.identity), SUMMARY_KEY: counts})
    with open_writer(path, schema) as writer:
        for number in range(plan.n_shards):
            with storage.open(shard_name(number)) as stream:
                writer.write_table(pq.ParquetFile(stream).read().replace_schema_metadata(schema.metadata))


def _write_jsonl(path: Path, plan: JobPlan, storage: Storage) -> None:
    answers = _answers(plan, storage)
    rows: Iterable[Any] = answers
    if plan.job.answer_form == "openai":
        rows = (answer_line(list(samples)) for _, samples in groupby(answers, key=lambda answer: answer["row"]))
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_csv(path: Path, plan: JobPlan, storage: Storage) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, SCHEMA.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_answers(plan, storage))


def _write_txt(path: Path, plan: JobPlan, storage: Storage) -> None:
    """One story a line, prompt first; newlines as `\\n`; an empty line for a bad row."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for answer in _answers(plan, storage):
            good = answer["finish_reason"] != "invalid_input"
            story = f"{answer['prompt'] or ''}{answer['text']}" if good else ""
            file.write(story.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n")


def _home(output: str) -> tuple[Storage, str]:
    """Return the storage that shows the output, and the name that tells that it is finished."""
    if single_format(output) is None:
        return open_storage(output), MANIFEST_FILE
    if "://" in output:
        folder, name = output.rsplit("/", 1)
        return open_storage(folder), name
    path = Path(output)
    return open_storage(str(path.parent)), PurePosixPath(output).name


def _recorded(storage: Storage, name: str) -> dict[str, Any] | None:
    """Return a single file's manifest: from the Parquet footer, or from the file beside it."""
    if file_format(name) != "parquet":
        beside = sidecar(name)
        return _manifest_body(storage, beside) if beside in storage.names() else None
    try:
        with storage.open(name) as stream:
            fields = pq.ParquetFile(stream).metadata.metadata or {}
        return {"job": json.loads(fields[JOB_KEY]), "summary": json.loads(fields[SUMMARY_KEY])}
    except (OSError, KeyError, ValueError):
        return None


def _manifest_body(storage: Storage, name: str) -> dict[str, Any] | None:
    body = read_object(storage, name)
    try:
        if body is None or not isinstance(body["job"], dict):
            return None
        RangeSummary.model_validate(body["summary"])
        for each in body["files"]:
            _Listed.model_validate(each)
    except (KeyError, TypeError, ValueError):
        return None
    return body


def discard_work(plan: JobPlan) -> None:
    """Remove what is no part of the output: a single file's shards, the copy of standard input."""
    folder = shard_folder(plan.job.output)
    if folder == plan.job.output:
        shutil.rmtree(Path(folder) / SPOOL_FOLDER, ignore_errors=True)
        return
    if "://" not in folder:
        shutil.rmtree(folder, ignore_errors=True)
        return
    storage = open_storage(folder)
    for name in storage.names():
        storage.remove(name)
