"""What every command shares: errors to exit codes, output and `--json`, the model and store that are meant."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from tinylm.errors import ConfigError, TinyLMError, UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tinylm.artifacts import Store

__all__ = [
    "ArtifactsDir",
    "CommandGroup",
    "Corpus",
    "Json",
    "ModelPath",
    "Output",
    "Valid",
    "check_folder",
    "find_model",
    "ignore_signals",
    "open_store",
    "set_up_logging",
]

WORK_FAILED = 1
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}  # of a path that the user named, or where one of ours must be
AGAIN = "stopped; the same command goes on where it was"  # of a command that says nothing else of itself
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, last on standard output.")]
ModelPath = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model file, or an artifact's key; default: the newest published model."),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(help="Text to train on: file, glob or folder; may be given several times.", show_default="profile's"),
]
Valid = Annotated[
    list[str] | None, typer.Option(help="Validation text of its own, never trained on.", show_default="held out")
]
ArtifactsDir = Annotated[
    Path, typer.Option("--artifacts", envvar="TINYLM_ARTIFACTS", help="Folder of the artifact store.")
]


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived; raised in the main thread so that work in progress is closed in order."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


class CommandGroup(TyperGroup):
    """Turns what a command raises into one line on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` names."""
        for number in STOPS[1:]:  # Python itself turns the first into KeyboardInterrupt
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it for the end of the terminal
                signal.signal(number, _terminate)
        try:
            return super().invoke(ctx)
        except TinyLMError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt as stop:
            _fail(stop.args[0] if stop.args else AGAIN, 128 + getattr(stop, "signum", signal.SIGINT))
        except BrokenPipeError:
            # The reader of our output is gone (`| head`); standard output must not be flushed again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(WORK_FAILED)
        except OSError as error:
            told = f"{error.filename or 'input or output'}: {error.strerror or error}"
            if error.errno in FORBIDDEN:
                _fail(f"{told}; name another path, or change who may use this one", UserError.exit_code)
            _fail(told, WORK_FAILED)


def _terminate(number: int, frame: FrameType | None) -> None:
    del frame
    raise _Terminated(number)


def ignore_signals() -> None:
    """Let the process end: its work is done or given up, and a late Ctrl-C must not change how that is told."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _fail(message: str, code: int) -> None:
    print(f"tinylm: {message}", file=sys.stderr)
    sys.exit(code)


def set_up_logging(*, verbose: bool, quiet: bool) -> None:
    """Send the package's log lines to standard error, one plain line each."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("tinylm").setLevel(level)


class Output:
    """Where a command's words go: standard output, or standard error when that is kept for JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.console = Console(stderr=as_json, highlight=False)

    def show(self, what: RenderableType) -> None:
        """Print a table or other rich object."""
        self.console.print(what)

    def line(self, text: str = "") -> None:
        """Print one line as it is."""
        print(text, file=sys.stderr if self._as_json else sys.stdout)

    def piece(self, text: str) -> None:
        """Print a part of a line at once."""
        print(text, end="", flush=True, file=sys.stderr if self._as_json else sys.stdout)

    def result(self, values: dict[str, Any]) -> None:
        """End with `values` as one JSON object, if that was asked for."""
        if self._as_json:
            print(json.dumps(values, ensure_ascii=False, default=str))


def check_folder(option: str, path: Path, *, to_write: bool = True) -> None:
    """Raise ConfigError if `path` is no folder, nor can be one: known now, not after an hour of work."""
    place, problem = path.absolute(), ""
    try:
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            problem = "is no folder"
        elif not os.access(place, os.X_OK | (os.W_OK if to_write else os.R_OK)):
            problem = f"cannot be {'written' if to_write else 'read'}"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        which = "" if place == path.absolute() else f"{place} "
        raise ConfigError(f"{option} {path}: {which}{problem}; expected a folder, or a name for a new one")


def open_store(folder: Path) -> Store:
    """Return the artifact store in `folder`. Raises: ConfigError if that can be none."""
    from tinylm.artifacts import Store

    check_folder("--artifacts", folder, to_write=False)
    return Store(folder)


def find_model(name: str | None, folder: Path) -> Path:
    """Return the model file that `name` means; None: the newest published one, and standard error says which.

    Raises: DataError saying what is missing and what to do.
    """
    from tinylm.artifacts import find_model as find

    path = find(open_store(folder), name)
    if name is None:
        print(f"model: {path} (newest published)", file=sys.stderr)
    return path
