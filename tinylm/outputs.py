"""Where a finished file may be put, and what is said when it cannot be."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from tinylm.errors import DataError, StageError, TinyLMError

__all__ = ["cannot_write", "check_output", "new_folder", "safetensors_output", "whole_file"]

# Refusals that another path mends; any other (a full or failing disk) is not the caller's input.
_WRONG_PLACE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
_MEND = "name an output in a folder that you may write to"


def check_output(path: Path, *inputs: Path) -> None:
    """Raise DataError if `path` exists and is not a regular file, or is one of the files `inputs`.

    Writers move a finished file to `path`, which would replace a device, a pipe, or the only copy of their input.
    """
    try:
        found = path.lstat()
    except OSError:
        return  # absent, or out of reach: then the writing itself says why
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "link" if stat.S_ISLNK(found.st_mode) else "device or pipe"
        raise DataError(f"{path}: is a {kind}; expected a new or a regular file: name another output")
    for source in inputs:
        if source.exists() and source.samefile(path):
            raise DataError(f"{path}: is the input {source} itself, which would be lost: name another output")


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make `folder`, and those above it, for the block; if that fails, those made go again where they are empty."""
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in made:
            with suppress(OSError):  # another process has put something there
                place.rmdir()
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name to write a file under, which then takes the place of `path`; a failure leaves nothing behind.

    Raises: DataError if `path` cannot be such a file; StageError if the disk refuses.
    """
    check_output(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with new_folder(path.parent):
            try:
                yield temporary
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError, mend: str = _MEND) -> TinyLMError:
    """Return the error to raise where the system refused to write `path`.

    Args:    mend: what to do where another path mends it.
    Returns: DataError where another path mends it; StageError for a full or failing disk, or a limit.
    """
    # NumPy tells a write that was cut short by its count of bytes alone, without the system's reason.
    reason = error.strerror or "only a part of it was taken"
    if error.errno in _WRONG_PLACE:
        return DataError(f"{path}: cannot be written ({reason}): {mend}")
    if error.errno == errno.EFBIG:  # there may be any room on the disk
        return StageError(f"{path}: cannot be written ({reason}): raise the limit on the size of a file (ulimit -f)")
    return StageError(f"{path}: cannot be written ({reason}): free space, or name an output on another disk")


@contextmanager
def safetensors_output(path: Path) -> Iterator[None]:
    """Let safetensors write `path` anew inside the block; it gets the mode that the umask gives any file.

    Raises: OSError naming `path` where safetensors could not write it, whose own error is not one.
    """
    path.unlink(missing_ok=True)
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)  # safetensors puts a private file of its own in this one's place
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from None
    path.chmod(mode)
