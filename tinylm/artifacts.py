"""Content-addressed store of everything that a stage makes: a folder per result, whole or not there at all.

    <root>/<stage>/<key>/               one published artifact; manifest.json lists its files and where it came from
    <root>/<stage>/.work-<key>/         being built, or left by a killed process
    <root>/<stage>/.damaged-<key>-<n>/  failed its check; kept for a look until `gc`
    <root>/.locks/<stage>-<key>         flock held by the builder; the kernel frees it when the holder dies

The key is the SHA-256 of stage name, stage code version, canonical settings, the inputs' content digests and the
digests of content outside the store. Equal key means equal work, so a published key is reused, never remade.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tinylm.config import Config
from tinylm.errors import ArtifactError, ConfigError, DataError
from tinylm.manifest import (
    MANIFEST,
    SUMMARY,
    InputEntry,
    Manifest,
    content_digest,
    fsync,
    git_commit,
    read_manifest,
    seal,
    tool_versions,
    verify,
    write_json,
)
from tinylm.outputs import cannot_write

__all__ = ["MODEL_FILE", "ArtifactRef", "Store", "find_model"]

_log = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"  # in every artifact of stage `model` and `converted`
KEY_DIGITS = 16  # 64 bits: among a million artifacts the odds of any clash are 1 in 10^7
# What killed processes leave; nothing else is the store's to remove.
_LEFT = re.compile(rf"\.(work|damaged)-(?P<key>[0-9a-f]{{{KEY_DIGITS}}})(-\d+)?")
_ANOTHER_STORE = "name a folder for artifacts that you may write to, by --artifacts or TINYLM_ARTIFACTS"
LOCK_POLL_S = 0.1  # chosen: a polled lock leaves a waiting thread interruptible

Make = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class ArtifactRef:
    """A published artifact. `reused` and `seconds` tell how this process came by it."""

    stage: str
    key: str
    path: Path
    reused: bool = field(default=True, compare=False)
    seconds: float = field(default=0.0, compare=False)

    @functools.cached_property
    def manifest(self) -> Manifest:
        """The artifact's manifest. Raises: ArtifactError if it is missing or unreadable."""
        return read_manifest(self.path)

    @property
    def summary(self) -> dict[str, Any]:
        """The figures that the stage reported about its result."""
        return self.manifest.summary

    def __str__(self) -> str:
        return f"{self.stage}/{self.key}"


@dataclass(frozen=True)
class _Recipe:
    """Everything that decides an artifact's content."""

    stage: str
    stage_version: int
    config: Config
    inputs: Mapping[str, ArtifactRef]
    content: Mapping[str, str]

    @functools.cached_property
    def key(self) -> str:
        identity = {
            "stage": self.stage,
            "version": self.stage_version,
            "config": self.config.model_dump(mode="json"),
            "inputs": {name: ref.manifest.content_sha256 for name, ref in self.inputs.items()},
            "content": dict(self.content),
        }
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_DIGITS]

    def describe(
        self, work: Path, discard: Sequence[str], summary: dict[str, Any], wall_s: float, cpu_s: float
    ) -> Manifest:
        """Make the files under `work` durable and return the manifest that describes them."""
        files = seal(work, discard)
        return Manifest(
            stage=self.stage,
            stage_version=self.stage_version,
            key=self.key,
            config=self.config.model_dump(mode="json"),
            inputs={
                name: InputEntry(stage=ref.stage, key=ref.key, content_sha256=ref.manifest.content_sha256)
                for name, ref in self.inputs.items()
            },
            content=dict(self.content),
            files=files,
            content_sha256=content_digest(files),
            summary=summary,
            tools=tool_versions(),
            commit=git_commit(),
            wall_s=round(wall_s, 3),
            cpu_s=round(cpu_s, 3),
            published_at=datetime.now(UTC).isoformat(),
        )


class Store:
    """The artifacts under one folder; safe for any number of processes and threads at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def build(
        self,
        stage: str,
        stage_version: int,
        config: Config,
        inputs: Mapping[str, ArtifactRef],
        make: Make,
        *,
        content: Mapping[str, str] | None = None,
        resumable: bool = False,
        discard: Sequence[str] = (),
    ) -> ArtifactRef:
        """Return the artifact of this work, made by `make(folder) -> summary` unless it is published already.

        Args:    content: digests of what the work reads outside the store, by name.
                 resumable: `make` finds what a killed or failed run left in its folder, and goes on from there.
                 discard: names in the folder (a trainer's checkpoints) that are dropped when the work is complete.
        Raises:  whatever `make` raises; ArtifactError if the result cannot be published.
        """
        started_s = time.monotonic()
        recipe = _Recipe(stage, stage_version, config, inputs, content or {})
        final = self.root / stage / recipe.key
        with self._locked(stage, recipe.key):
            reused = _is_whole(final)
            if not reused:
                work = final.parent / f".work-{recipe.key}"
                if not _is_finished(work):
                    if not resumable:
                        shutil.rmtree(work, ignore_errors=True)
                    _make(recipe, work, make, keep_on_failure=resumable, discard=discard)
                _publish(work, final, discard)
        return ArtifactRef(stage, recipe.key, final, reused, time.monotonic() - started_s)

    def find(self, name: str) -> ArtifactRef:
        """Return the published artifact called `name`: `stage/key`, a key, or an unambiguous start of one.

        Raises: ConfigError if none or several match.
        """
        matches = [ref for ref in self.entries() if str(ref).startswith(name) or ref.key.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        found = "no artifact matches" if not matches else f"{len(matches)} artifacts match"
        raise ConfigError(f"{found} {name!r} in {self.root}; `tinylm artifacts ls` lists them")

    def entries(self, stage: str | None = None) -> list[ArtifactRef]:
        """Return the published artifacts (of one stage), oldest first; unreadable ones are left to `verify`."""
        found = []
        for path in self._published(stage):
            ref = ArtifactRef(path.parent.name, path.name, path)
            with suppress(ArtifactError):
                found.append((ref.manifest.published_at, str(ref), ref))
        return [ref for _, _, ref in sorted(found, key=lambda row: row[:2])]

    def stages(self) -> list[str]:
        """Return the names of the stages that have published something."""
        return sorted({path.parent.name for path in self._published(None)})

    def newest(self, stage: str) -> ArtifactRef | None:
        """Return the artifact of `stage` published last, or None."""
        entries = self.entries(stage)
        return entries[-1] if entries else None

    def verify(self, stage: str | None = None) -> dict[str, str | None]:
        """Return for each published artifact None, or what is wrong with it, after reading every byte."""
        result: dict[str, str | None] = {}
        for path in self._published(stage):
            try:
                verify(path)
            except ArtifactError as error:
                result[f"{path.parent.name}/{path.name}"] = str(error)
            else:
                result[f"{path.parent.name}/{path.name}"] = None
        return result

    def gc(self, keep: int, *, dry_run: bool = False) -> list[Path]:
        """Remove all but the newest `keep` artifacts per stage and what those were made from; return what went.

        Work that a running process holds is left alone; what killed processes left is removed.
        """
        doomed = [ref.path for ref in self._unreachable(keep)]
        left = [(path, _LEFT.fullmatch(path.name)) for path in sorted(self.root.glob("*/.*-*"))]
        keys = [(path, path.name) for path in doomed] + [(path, found["key"]) for path, found in left if found]
        removed = []
        for path, key in keys:
            with self._locked(path.parent.name, key, wait=False) as held:
                if not held:
                    continue
                removed.append(path)
                if not dry_run:
                    _remove(path)
        return removed

    def _unreachable(self, keep: int) -> list[ArtifactRef]:
        entries = self.entries()
        by_name = {str(ref): ref for ref in entries}
        wanted = [ref for stage in {ref.stage for ref in entries} for ref in self.entries(stage)[-keep:] if keep]
        kept: set[str] = set()
        while wanted:
            ref = wanted.pop()
            if str(ref) not in kept:
                kept.add(str(ref))
                parents = (f"{entry.stage}/{entry.key}" for entry in ref.manifest.inputs.values())
                wanted += [by_name[name] for name in parents if name in by_name]
        return [ref for ref in entries if str(ref) not in kept]

    def _published(self, stage: str | None) -> list[Path]:
        return sorted(path for path in self.root.glob(f"{stage or '[!.]*'}/[!.]*") if path.is_dir())

    @contextmanager
    def _locked(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        """Hold the key's lock; yields False, without it, when `wait` is False and another process has it."""
        descriptor = self._open_lock(stage, key)
        try:
            held = _acquire(descriptor, f"{stage}/{key}", wait)
            if held:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} ({' '.join(sys.argv)[:120]})".encode(), 0)
            yield held
        finally:
            os.close(descriptor)

    def _open_lock(self, stage: str, key: str) -> int:
        """Return the opened file of a lock; the first to fail where the store cannot be written, before any work."""
        path = self.root / ".locks" / f"{stage}-{key}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            (self.root / stage).mkdir(exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise cannot_write(self.root, error, _ANOTHER_STORE) from None


def find_model(store: Store, name: str | None) -> Path:
    """Return the model file that `name` means: a file, a folder with one, an artifact; None: the newest published.

    Raises: DataError saying what is missing and what to do.
    """
    if name is None:
        newest = store.newest("model")
        if newest is None:
            raise DataError(f"no model named and none published in {store.root}; run `tinylm run`, or name a file")
        return newest.path / MODEL_FILE
    path = Path(name)
    for file in (path, path / MODEL_FILE):
        if os.path.isfile(file):  # noqa: PTH113  (False, not an error, for impossible names)
            return file
    try:
        return store.find(name).path / MODEL_FILE
    except ConfigError:
        if os.path.isdir(path):  # noqa: PTH112
            such = "".join(f", such as {file}" for file in sorted(path.glob("*.safetensors"))[:1])
            raise DataError(
                f"model {name}: is a folder without {MODEL_FILE}; name the model file itself{such}"
            ) from None
        raise DataError(f"model {name}: no such file, and no artifact of that name in {store.root}") from None


def _acquire(descriptor: int, what: str, wait: bool) -> bool:
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not wait:
                return False
            if not told:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
                _log.warning("%s is being made by %s; waiting for it", what, holder)
                told = True
            time.sleep(LOCK_POLL_S)


def _make(recipe: _Recipe, work: Path, make: Make, *, keep_on_failure: bool, discard: Sequence[str]) -> None:
    """Fill `work`, ending with its manifest."""
    work.mkdir(parents=True, exist_ok=True)
    started_s, started_cpu_s = time.monotonic(), _cpu_s()
    try:
        summary = make(work)
        write_json(work / SUMMARY, summary)
    except BaseException:
        if not keep_on_failure:
            shutil.rmtree(work, ignore_errors=True)
        raise
    wall_s, cpu_s = time.monotonic() - started_s, _cpu_s() - started_cpu_s
    try:
        record = recipe.describe(work, discard, summary, wall_s, cpu_s)
        write_json(work / MANIFEST, record.model_dump(mode="json"))
    except OSError as error:
        # After a failed fsync the kernel may hold pages that it calls clean and the disk never got
        # (Rebello et al., ATC 2020): the bytes cannot be trusted, so nothing of them is kept.
        shutil.rmtree(work, ignore_errors=True)
        raise ArtifactError(f"cannot write {recipe.stage}/{recipe.key} at {work.parent}: {error}") from error


def _is_whole(final: Path) -> bool:
    """Return whether `final` is published and passes its check; a damaged one is set aside."""
    if not final.exists():
        return False
    try:
        verify(final)
    except ArtifactError as error:
        aside = _unused(final.parent / f".damaged-{final.name}")
        final.rename(aside)
        _log.warning("%s; set aside as %s and made again", error, aside.name)
        return False
    return True


def _is_finished(work: Path) -> bool:
    """Return whether a killed run had completed `work` and only not renamed it."""
    try:
        verify(work)
    except ArtifactError:
        (work / MANIFEST).unlink(missing_ok=True)
        return False
    return True


def _publish(work: Path, final: Path, discard: Sequence[str]) -> None:
    """Turn finished work into a published artifact with one rename."""
    try:
        for name in discard:
            shutil.rmtree(work / name, ignore_errors=True)
        work.rename(final)
        fsync(final.parent)
    except OSError as error:
        raise ArtifactError(f"cannot publish {final}: {error}") from error


def _remove(path: Path) -> None:
    """Delete a folder so that no reader ever sees a part of it under a published name."""
    doomed = path if path.name.startswith(".") else _unused(path.parent / f".damaged-{path.name}")
    if doomed != path:
        path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _unused(path: Path) -> Path:
    number = 0
    while (candidate := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return candidate


def _cpu_s() -> float:
    """Return CPU seconds of this process and its finished children so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
