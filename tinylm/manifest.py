"""What a published artifact says about itself, and the check that its files agree."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from tinylm.config import Config, parse
from tinylm.errors import ArtifactError, ConfigError

__all__ = [
    "MANIFEST",
    "SUMMARY",
    "FileEntry",
    "InputEntry",
    "Manifest",
    "content_digest",
    "fsync",
    "git_commit",
    "read_manifest",
    "seal",
    "sha256_file",
    "tool_versions",
    "verify",
    "write_json",
]

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
TOOLS = ("tinylm", "torch", "numpy", "pyarrow", "sentencepiece", "safetensors", "datasets")


class FileEntry(Config):
    """One file of an artifact."""

    size_bytes: int
    sha256: str


class InputEntry(Config):
    """One artifact that another was made from."""

    stage: str
    key: str
    content_sha256: str


class Manifest(Config):
    """What an artifact is, what it was made from, and what it must contain."""

    format: Literal[1] = 1
    stage: str
    stage_version: int
    key: str
    config: dict[str, Any]
    inputs: dict[str, InputEntry]
    content: dict[str, str]
    files: dict[str, FileEntry]
    content_sha256: str
    summary: dict[str, Any]
    tools: dict[str, str]
    commit: str | None
    wall_s: float
    cpu_s: float
    published_at: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size_bytes for entry in self.files.values())


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in folder `path`. Raises: ArtifactError if it is missing or damaged."""
    try:
        return parse(Manifest, json.loads((path / MANIFEST).read_bytes()), str(path / MANIFEST))
    except OSError as error:
        raise ArtifactError(f"artifact {path} cannot be read: {error.strerror}") from None
    except (ValueError, ConfigError) as error:
        raise ArtifactError(f"artifact {path} has a damaged manifest: {error}") from None


def verify(path: Path) -> Manifest:
    """Return the manifest of `path` after comparing every file with it. Raises: ArtifactError naming the file."""
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        file = path / name
        size = file.stat().st_size if file.is_file() else -1
        if size != entry.size_bytes:
            found = "missing" if size < 0 else f"{size} bytes, not {entry.size_bytes}"
            raise ArtifactError(f"artifact {path} is damaged: {name} is {found}")
        if sha256_file(file) != entry.sha256:
            raise ArtifactError(f"artifact {path} is damaged: {name} has other content than its manifest says")
    return manifest


def seal(work: Path, discard: Sequence[str]) -> dict[str, FileEntry]:
    """Make every file and folder durable; return the files' sizes and digests by relative path."""
    files: dict[str, FileEntry] = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if name == MANIFEST or name.split("/")[0] in discard:
            continue
        fsync(path)
        if path.is_file():
            files[name] = FileEntry(size_bytes=path.stat().st_size, sha256=sha256_file(path))
    return files


def content_digest(files: Mapping[str, FileEntry]) -> str:
    """Digest names and bytes; the summary, which may hold times, is about the content and no part of it."""
    listing = sorted((name, entry.sha256) for name, entry in files.items() if name != SUMMARY)
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON durably: the file appears whole, under its name, after its bytes reached the disk."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    fsync(partial)
    partial.rename(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def tool_versions() -> dict[str, str]:
    """Return the versions of Python, the system and the packages that decide what a stage makes."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in TOOLS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@functools.cache
def git_commit() -> str | None:
    """Return the source tree's commit, with `-dirty` when it has changes; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
