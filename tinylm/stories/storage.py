"""Where a job's files lie: a local folder with locks and fsync, or any fsspec file system.

The commit rule for every file: write under a temporary name in the same folder, close, check, flush to
the disk, rename, flush the folder. A name without `.tmp` is therefore always a whole file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import fsspec

from tinylm.errors import ConfigError, StageError
from tinylm.manifest import fsync

__all__ = ["LocalFolder", "RemoteFolder", "Storage", "open_storage"]

_log = logging.getLogger(__name__)
_LOCK = ".lock"
TEMPORARY = ".tmp-"
_FULL = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota used up",
    errno.EFBIG: "limit on the size of a file (ulimit -f) reached",
}
Write = Callable[[Path], None]  # fills a local file
Check = Callable[[Path], None]  # raises when the file is not as meant


class Storage(Protocol):
    """A folder of committed files."""

    def names(self) -> list[str]:
        """Return the committed files' names, sorted."""

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a committed file for reading."""

    def commit(self, name: str, write: Write, check: Check | None = None) -> None:
        """Make `name` appear whole: `write` fills a temporary file, `check` raises when it is not as meant."""

    def lock(self, wait: bool) -> contextlib.AbstractContextManager[None]:
        """Hold the folder against a second job; `wait`: until the other ends, else refuse."""

    def sweep(self) -> None:
        """Remove temporary files that a killed run left; only while the lock is held."""

    def remove(self, name: str) -> None:
        """Remove a committed file if it is there."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes in bytes of the committed files whose names start with `prefix`."""


def open_storage(folder: str) -> Storage:
    """Return the storage for a local path or an fsspec URL; a local folder is made."""
    if "://" in folder and not folder.startswith("file://"):
        return RemoteFolder(folder)
    return LocalFolder(Path(folder.removeprefix("file://")))


def file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of an fsspec URL, and the path in it.

    Raises: ConfigError for a protocol that is unknown, or whose package is not installed.
    """
    try:
        fs, path = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{url}: cannot be opened ({error}); install what it needs, or name a local path") from None
    return fs, str(path)


class LocalFolder:
    """A folder on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"output: {str(path)!r} cannot be made a folder: {reason}") from None

    def names(self) -> list[str]:
        return sorted(
            entry.name for entry in self.path.iterdir() if TEMPORARY not in entry.name and entry.name != _LOCK
        )

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with (self.path / name).open("rb") as stream:
            yield stream

    def commit(self, name: str, write: Write, check: Check | None = None) -> None:
        publish(self.path / name, write, check)

    @contextmanager
    def lock(self, wait: bool) -> Iterator[None]:
        with file_lock(self.path / _LOCK, wait):
            yield

    def sweep(self) -> None:
        for entry in self.path.iterdir():
            if TEMPORARY in entry.name:
                entry.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def sizes(self, prefix: str) -> dict[str, int]:
        return {name: (self.path / name).stat().st_size for name in self.names() if name.startswith(prefix)}


class RemoteFolder:
    """A folder on an fsspec file system. No lock: two runs of one job write the same bytes."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = file_system(self.url)
        self._fs.makedirs(self._root, exist_ok=True)

    def names(self) -> list[str]:
        self._fs.invalidate_cache()
        found = [str(path).rsplit("/", 1)[-1] for path in self._fs.ls(self._root, detail=False)]
        return sorted(name for name in found if name and TEMPORARY not in name)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        with self._fs.open(f"{self._root}/{name}", "rb") as stream:
            yield cast("BinaryIO", stream)

    def commit(self, name: str, write: Write, check: Check | None = None) -> None:
        with tempfile.TemporaryDirectory(prefix="tinylm-") as folder:
            local = Path(folder) / name
            write(local)
            if check:
                check(local)
            n_bytes = local.stat().st_size
            part = f"{self._root}/.{name}{TEMPORARY}{uuid.uuid4().hex}"
            try:
                self._fs.put_file(str(local), part)
                self._fs.mv(part, f"{self._root}/{name}")
            except BaseException:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(part)
                raise
        stored = self._fs.size(f"{self._root}/{name}")
        if stored is not None and stored != n_bytes:
            raise StageError(f"{self.url}/{name}: wrote {n_bytes} bytes, the file system holds {stored}")

    @contextmanager
    def lock(self, wait: bool) -> Iterator[None]:
        del wait
        yield

    def sweep(self) -> None:
        """Leave temporary files alone: another machine may be writing them."""

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")

    def sizes(self, prefix: str) -> dict[str, int]:
        names = [name for name in self.names() if name.startswith(prefix)]
        return {name: int(self._fs.size(f"{self._root}/{name}") or 0) for name in names}


def publish(path: Path, write: Write, check: Check | None = None) -> None:
    """Make `path` appear whole and flushed to the disk, or not at all.

    Raises: DiskFullError where the disk takes no more; what `write` and `check` raise. The temporary file is removed.
    """
    part = path.with_name(f".{path.name}{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        write(part)
        if check:
            check(part)
        fsync(part)
        part.rename(path)
        fsync(path.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise DiskFullError(path, error.errno) from error
        raise


class DiskFullError(StageError):
    """The disk, a quota or a limit took no more; whole files stay, the broken one is gone."""

    def __init__(self, path: Path, number: int) -> None:
        super().__init__(f"{_FULL[number]} while writing {path}")
        self.folder, self.errno = path.parent, number

    @property
    def free_bytes(self) -> int:
        """Bytes that are free on that disk now."""
        return shutil.disk_usage(self.folder).free


@contextmanager
def file_lock(path: Path, wait: bool) -> Iterator[None]:
    """Hold `path` locked; the kernel frees the lock at the holder's death, and the file goes at the end.

    Raises: ConfigError when another process holds it and `wait` is False.
    """
    descriptor = _locked(path, wait)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        if _is_same(descriptor, path):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, wait: bool) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # the holder may have removed it as it ended
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take(descriptor, path, wait)
            if _is_same(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder removed the file as it ended: lock the new one


def _take(descriptor: int, path: Path, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        if not wait:
            raise ConfigError(f"output: {path.parent} is being written by {holder}; wait for it") from None
        _log.info("waiting: %s is being written by %s", path.parent, holder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        on_disk: Any = path.stat()
    except FileNotFoundError:
        return False
    return bool(os.fstat(descriptor).st_ino == on_disk.st_ino)
