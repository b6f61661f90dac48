"""The `tinylm` command. Start-up is kept short: a command imports what it needs when it runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from tinylm import __version__
from tinylm.cli import artifacts, bench, doctor, models, pipeline, writing
from tinylm.cli.base import CommandGroup, ignore_signals, set_up_logging

__all__ = ["app", "main"]

app = typer.Typer(
    name="tinylm",
    cls=CommandGroup,
    help="Text in, a small story model out, stories in bulk from it on ordinary CPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tinylm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log details to standard error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    del version
    set_up_logging(verbose=verbose, quiet=quiet)


pipeline.add_to(app)
models.add_to(app)
writing.add_to(app)
bench.add_to(app)
artifacts.add_to(app)
doctor.add_to(app)


def main() -> None:
    """Run the command line; the process's exit code tells how it went (0, 1, 2, 129, 130, 143)."""
    if os.environ.get("COLUMNS") == "0":  # of a terminal that does not know its width: all output would be cut to it
        del os.environ["COLUMNS"]
    try:
        app()
    finally:
        ignore_signals()
