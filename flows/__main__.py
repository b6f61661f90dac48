"""`python -m flows pipeline|tune`: a flow, now, on the project's Prefect server if it is up, else on one of its own.

A server of its own starts as a child process while this one imports Prefect; both take seconds.
"""

import contextlib
import logging
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows import ROOT
from tinylm.cli.base import CommandGroup
from tinylm.errors import TinyLMError
from tinylm.prefect_processes import PrefectProcesses, api_url, free_port, running_folder
from tinylm.runs import free_slots, is_any_alive, is_serving, mark_dead_runs
from tinylm.up import EXCLUSIVE_TAG

app = typer.Typer(cls=CommandGroup, add_completion=False, pretty_exceptions_enable=False)
Words = list[str] | None


@app.command()
def pipeline(
    profile: Annotated[str, typer.Option(help="Named profile, or a .toml file.")] = "quickstart",
    corpus: Annotated[Words, typer.Option(help="Text to train on; repeatable.")] = None,
    valid: Annotated[Words, typer.Option(help="Validation text of its own; repeatable.")] = None,
    preset: Annotated[str | None, typer.Option(help="Shape of the model.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    settings: Annotated[Words, typer.Option("--set", help="Any setting: table.key=value.")] = None,
) -> None:
    """Text to stories and report; prints what each stage did, five stories, and where the report is."""
    with prefect_server() as wait_for_server:
        from tinylm.pipeline import load_profile, profile_changes

        load_profile(profile, profile_changes(corpus or (), valid or (), preset, minutes, seed, settings or ()))
        from flows._prefect import flush
        from flows.pipeline import pipeline as flow

        wait_for_server()
        try:
            result = flow(
                profile=profile,
                corpus=tuple(corpus or ()),
                valid=tuple(valid or ()),
                preset=preset,
                minutes=minutes,
                seed=seed,
                settings=tuple(settings or ()),
            )
        finally:
            flush()
        sys.stdout.write(f"\n{result.text()}\n")


@app.command()
def tune(
    vary: Annotated[Words, typer.Option(help="Settings to try: train.key=[value,value].")] = None,
    rounds: Annotated[int, typer.Option(help="Half of the trials go on after each.", min=1, max=8)] = 2,
    at_once: Annotated[int, typer.Option(help="Trials side by side; 0: one per core.", min=0, max=64)] = 0,
    profile: Annotated[str, typer.Option(help="Named profile, or a .toml file.")] = "story",
    corpus: Annotated[Words, typer.Option(help="Text to train on; repeatable.")] = None,
    valid: Annotated[Words, typer.Option(help="Validation text of its own; repeatable.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes of each trial in the last round.")] = None,
    settings: Annotated[Words, typer.Option("--set", help="Any setting: table.key=value.")] = None,
) -> None:
    """Try training settings side by side; prints all trials, best first."""
    with prefect_server() as wait_for_server:
        from tinylm.pipeline import load_profile, profile_changes

        load_profile(profile, profile_changes(corpus or (), valid or (), None, minutes, None, settings or ()))
        from flows._prefect import flush
        from flows.tune import DEFAULT_VARY
        from flows.tune import tune as flow

        wait_for_server()
        try:
            rows = flow(
                vary=tuple(vary or DEFAULT_VARY),
                rounds=rounds,
                at_once=at_once,
                profile=profile,
                corpus=tuple(corpus or ()),
                valid=tuple(valid or ()),
                minutes=minutes,
                settings=tuple(settings or ()),
            )
        finally:
            flush()
        for row in rows:
            sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")


@contextmanager
def prefect_server() -> Iterator[Callable[[], None]]:
    """Have a Prefect server for the block; yields what waits until it answers. Call that before the first flow."""
    url = os.environ.get("PREFECT_API_URL") or tomllib.loads((ROOT / "prefect.toml").read_text())["api"]["url"]
    if is_serving(url):
        yield lambda: None
        return
    port = free_port()
    os.environ["PREFECT_API_URL"] = api_url(port)
    processes = PrefectProcesses(ROOT, os.environ)

    def wait() -> None:
        processes.wait_for_server()
        with contextlib.suppress(TinyLMError):  # only the book-keeping about former runs
            close_books(processes.url, running_folder(os.environ))

    processes.start_server(port)
    try:
        yield wait
    finally:
        processes.stop()


def close_books(url: str, running: Path) -> None:
    """Mark runs that were killed, and free the slot of one; it is another's where a run on another server lives."""
    for name in mark_dead_runs(url, running, no_worker=False):
        logging.getLogger("tinylm.flows").warning("run %s was killed; marked as Crashed", name)
    if not is_any_alive(running):
        free_slots(url, EXCLUSIVE_TAG)


if __name__ == "__main__":
    app()
