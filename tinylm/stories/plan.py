"""A job on disk: what it reads and writes, whether it may go on from what is there, and its manifest."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
from pydantic import Field

import tinylm
from tinylm.config import Config
from tinylm.errors import ConfigError, DataError
from tinylm.stories.job import GenerateJob, RangeSummary, describe_difference, file_format
from tinylm.stories.rows import RowParser
from tinylm.stories.shards import canonical, read_shard_summary, shard_name
from tinylm.stories.sources import Input, Source, find_sources, identify, job_records, sha256_of, stored_bytes
from tinylm.stories.storage import TEMPORARY, Storage, open_storage

__all__ = [
    "JobPlan",
    "finished_shards",
    "job_lock",
    "plan_job",
    "prepare_output",
    "read_object",
    "shard_folder",
    "sidecar",
    "single_format",
]

_log = logging.getLogger(__name__)
# The underscore makes readers of a folder of Parquet files (pyarrow, pandas, Spark, Dask) pass over them.
JOB_FILE, MANIFEST_FILE = "_job.json", "_manifest.json"
SPOOL_FOLDER = ".stdin"
FORMAT_VERSION = 1


class JobPlan(Config):
    """All that a worker anywhere needs to write some of a job's shards."""

    job: GenerateJob
    inputs: tuple[Input, ...]
    paths: tuple[str, ...]
    model_digest: str
    version: str = Field(tinylm.__version__, description="of the TinyLM that planned the job")

    @property
    def rows(self) -> int:
        """Input rows of the job."""
        return sum(each.rows for each in self.inputs)

    @property
    def n_shards(self) -> int:
        """Shards of the job; the last may be shorter."""
        return -(-self.rows // self.job.rows_per_shard)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the output's bytes depend on; two equal identities give equal files."""
        return {
            "format": FORMAT_VERSION,
            "version": self.version,
            "model": self.model_digest,
            "inputs": {str(place): each.model_dump() for place, each in enumerate(self.inputs)},
            "settings": self.job.text_settings(),
        }

    @cached_property
    def stamp(self) -> dict[str, Any]:
        """The identity as each shard carries it: many inputs as their number, rows and one digest."""
        inputs = self.identity["inputs"]
        digest = hashlib.sha256(canonical(inputs)).hexdigest()
        return {**self.identity, "inputs": {"files": len(inputs), "rows": self.rows, "sha256": digest}}

    def place(self, row: int) -> str:
        """Return where a row stands, for people: its file, and its line or its row below the header."""
        for path, known in zip(self.paths, self.inputs, strict=True):
            if row < known.rows:
                unit = "line" if known.kind in ("txt", "jsonl") else "row"
                return f"{path or 'the openings'} {unit} {row + 1}"
            row -= known.rows
        raise IndexError(f"the job has {self.rows} rows")

    def shard_rows(self, number: int) -> range:
        """Return the input rows of shard `number`."""
        size = self.job.rows_per_shard
        return range(number * size, min((number + 1) * size, self.rows))


def single_format(output: str) -> str | None:
    """Return parquet, jsonl, csv or txt when `output` names one file, None when it names a folder."""
    if "://" not in output and os.path.isdir(output):  # noqa: PTH112  (False, not an error, for impossible names)
        return None
    return file_format(output)


def sidecar(output: str) -> str:
    """Return the manifest's path of a single .jsonl, .csv or .txt output; a Parquet file carries its own."""
    return f"{output}.manifest.json"


def shard_folder(output: str) -> str:
    """Return the folder that takes the shards: the output itself, or a hidden one beside a single file."""
    if single_format(output) is None:
        return output
    folder, _, name = output.rpartition("/")
    return f"{folder}/.{name}.work" if folder or output.startswith("/") else f".{name}.work"


@contextmanager
def job_lock(job: GenerateJob) -> Iterator[Storage]:
    """Hold the job's output against a second job; yields the shards' storage. A job refused inside leaves nothing.

    Raises: ConfigError when another job holds it and `job.busy` is "refuse".
    """
    own_folders = _own_folders(job.output)
    try:
        storage = open_storage(shard_folder(job.output))
        with storage.lock(wait=job.busy == "wait"), _begun_or_forgotten(job.output):
            storage.sweep()
            _sweep_beside(job.output)
            yield storage
    finally:
        for folder in own_folders:
            with suppress(OSError, ValueError):  # it holds something, was removed already, or cannot be
                folder.rmdir()


def _own_folders(output: str) -> list[Path]:
    """Return the folders that go once they are empty, innermost first: a single file's own, and those not there yet."""
    folder = shard_folder(output)
    if "://" in folder:
        return []
    path = Path(folder)
    absent = [each for each in (path, *path.parents) if not os.path.exists(each)]  # noqa: PTH110  (False for odd names)
    return absent or ([] if folder == output else [path])


@contextmanager
def _begun_or_forgotten(output: str) -> Iterator[None]:
    """Drop the copy of standard input when the job ends early, before it has its identity on disk."""
    folder = shard_folder(output)
    try:
        yield
    except BaseException:
        if "://" not in folder and not (Path(folder) / JOB_FILE).exists():
            shutil.rmtree(Path(folder) / SPOOL_FOLDER, ignore_errors=True)
        raise


def _sweep_beside(output: str) -> None:
    """Remove what a killed run left of a single output file."""
    if single_format(output) is None or "://" in output:
        return
    for path in (Path(output), Path(sidecar(output))):  # by their whole names: `x.jsonl.csv` may be another job's
        for left in path.parent.glob(f".{glob.escape(path.name)}{TEMPORARY}*"):
            left.unlink(missing_ok=True)


def _keep_apart(sources: Iterable[Source], output: str) -> None:
    """Raise ConfigError if the output is one of the prompts' files, which it would replace."""
    for source in sources:
        if source.path and _same_file(source.path, output):
            raise ConfigError(f"output: {output} is also read as prompts; choose another output")


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):  # one of them is not there, or cannot be
        return False


def plan_job(job: GenerateJob, model_digest: str) -> JobPlan:
    """Return the job's plan: every source found, digested and counted.

    Raises: DataError when a source is missing or unreadable; with `job.strict`, when a row is bad.
    """
    folder = shard_folder(job.output)
    spool = None if "://" in folder else Path(folder) / SPOOL_FOLDER
    sources = find_sources(job, spool)
    _keep_apart(sources, job.output)
    inputs = tuple(identify(source, job.max_row_bytes, job.needed_columns) for source in sources)
    plan = JobPlan(job=job, inputs=inputs, paths=tuple(source.path for source in sources), model_digest=model_digest)
    if not plan.rows:
        raise DataError(f"prompts: found no row in {', '.join(job.prompts)}; give at least one prompt")
    return plan


def check_rows_first(plan: JobPlan, parser: RowParser) -> None:
    """Raise DataError when any row is bad or two rows share an id; for `strict` jobs, before any work.

    Cost: one pass over the prompts; some 100 bytes of memory for each row.
    """
    first, bad, ids = None, 0, set[bytes]()
    for index, record in job_records(plan_sources(plan), plan.inputs, plan.job.max_row_bytes):
        row = parser.parse(index, record)
        key = hashlib.blake2b(row.id.encode(), digest_size=8).digest()
        error = row.error or (f"id {row.id[:100]!r} was used before" if key in ids else None)
        ids.add(key)
        if error is not None:
            bad += 1
            first = first or f"{plan.place(index)}: {error}"
    if first is not None:
        raise DataError(f"{first} ({bad} of {plan.rows} rows are bad); nothing was generated (strict)")


def check_worker(plan: JobPlan, model_digest: str) -> None:
    """Raise ConfigError or DataError unless this machine has the version, model and prompts that were planned with."""
    if plan.version != tinylm.__version__:
        raise ConfigError(f"the job was planned by TinyLM {plan.version}, this worker has {tinylm.__version__}")
    if plan.model_digest != model_digest:
        raise ConfigError(f"model: the job's is {plan.model_digest[:16]}, this worker's {model_digest[:16]}")
    for source, known in zip(plan_sources(plan), plan.inputs, strict=True):
        size_bytes = stored_bytes(source)
        if size_bytes is not None and size_bytes != known.size_bytes:
            raise DataError(f"prompts: {source.path} has {size_bytes:,} bytes here, the job's {known.size_bytes:,}")


def plan_sources(plan: JobPlan) -> list[Any]:
    """Return the plan's sources, found again from the paths that it fixed."""
    if not any(plan.paths):
        return list(find_sources(plan.job))
    fixed = plan.job.model_copy(update={"prompts": plan.paths})
    return list(find_sources(fixed))


def prepare_output(plan: JobPlan, storage: Storage) -> None:
    """Write the job's identity first of all, or check that what is there belongs to this very job.

    A manifest goes first: it says that a job is finished, and this one is not. The identity is replaced last, so that
    a job killed on the way is found again.
    Raises: ConfigError naming each difference, when the folder holds another job or other files.
    """
    names = storage.names()
    if JOB_FILE in names:
        found = read_object(storage, JOB_FILE)
        differences = [f"{JOB_FILE} is damaged"] if found is None else describe_difference(found, plan.identity)
        if not differences:
            storage.remove(MANIFEST_FILE)
            return
        if not plan.job.overwrite:
            raise ConfigError(
                f"output: {plan.job.output} holds another job; {'; '.join(differences)}. "
                "Run that job again to finish it, choose another output, or overwrite"
            )
        for name in (MANIFEST_FILE, *(name for name in names if name.startswith("part-"))):
            storage.remove(name)
    elif foreign := [name for name in names if not name.startswith(".")]:
        raise ConfigError(f"output: {plan.job.output} holds other files, such as {foreign[0]}; choose an empty folder")
    write_text(storage, JOB_FILE, canonical(plan.identity))


def finished_shards(plan: JobPlan, storage: Storage, numbers: Iterable[int]) -> dict[int, RangeSummary]:
    """Return the counts of those of `numbers` that are whole already; damaged ones are removed and logged."""
    names = set(storage.names())
    done: dict[int, RangeSummary] = {}
    for number in numbers:
        name = shard_name(number)
        if name not in names:
            continue
        with storage.open(name) as stream:
            summary = read_shard_summary(stream, plan.stamp, plan.shard_rows(number))
        if summary is None:
            _log.warning("%s is damaged; it is written again", name)
            storage.remove(name)
        else:
            done[number] = summary
    return done


def read_object(storage: Storage, name: str) -> dict[str, Any] | None:
    """Return the JSON object that a committed file holds, None where it holds none."""
    try:
        with storage.open(name) as stream:
            body = json.loads(stream.read())
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def write_text(storage: Storage, name: str, body: bytes) -> None:
    """Commit a small file."""

    def write(path: Path) -> None:
        path.write_bytes(body)

    storage.commit(name, write)


def manifest(plan: JobPlan, storage: Storage, total: RangeSummary) -> bytes:
    """Return the manifest's bytes: the job, its counts, and each shard's size and digest."""
    files = []
    for number in range(plan.n_shards):
        with storage.open(shard_name(number)) as stream:
            digest, size_bytes = sha256_of(stream)
        files.append({"name": shard_name(number), "size_bytes": size_bytes, "sha256": digest})
    return json.dumps(
        {"job": plan.identity, "summary": total.model_dump(mode="json"), "files": files}, indent=1, sort_keys=True
    ).encode()


def exists(path: str) -> bool:
    """Return whether a local path or URL exists."""
    fs, inner = fsspec.url_to_fs(path)
    return bool(fs.exists(inner))
