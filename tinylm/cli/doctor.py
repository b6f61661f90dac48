"""`tinylm doctor`: is this machine set up, and what will TinyLM use of it?"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import typer

from tinylm import __version__
from tinylm.cli.base import ArtifactsDir, Json, Output, check_folder, open_store
from tinylm.errors import ConfigError, TinyLMError

__all__ = ["add_to"]

PACKAGES = ("torch", "prefect", "datasets", "sentencepiece", "numpy", "pyarrow", "safetensors", "pydantic")
LEAST_MEMORY_BYTES = 2 << 30  # chosen: torch, a small model and its corpus need about 1.5 GiB
LEAST_DISK_BYTES = 1 << 30


class _Check(NamedTuple):
    """One line of the answer; `ok` None: good to know, neither good nor bad."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def doctor(artifacts: ArtifactsDir = Path("artifacts"), json_output: Json = False) -> None:
    """Check the set-up: engine, compiler, processor, memory, packages, store, Prefect server."""
    out = Output(json_output)
    checks = list(_checks(artifacts))
    for check in checks:
        mark = {True: "ok", False: "BAD", None: "-"}[check.ok]
        out.line(f"{mark:<4} {check.name:<12} {check.found}{f'  ({check.advice})' if check.ok is False else ''}")
    bad = [check.name for check in checks if check.ok is False]
    out.result({"ok": not bad, "checks": [check._asdict() for check in checks]})
    if bad:
        raise TinyLMError(f"not in order: {', '.join(bad)}")


def _checks(artifacts: Path) -> Iterator[_Check]:
    yield _Check("tinylm", None, f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    yield _engine()
    compiler = shutil.which("c++") or shutil.which("g++")
    yield _Check("compiler", None, compiler or "none (needed only to build the engine)")
    yield from _machine()
    yield from (_package(name) for name in PACKAGES)
    yield _store(artifacts)
    yield _server()


def _engine() -> _Check:
    try:
        from tinylm.machine import available_isas

        return _Check("engine", True, f"instruction sets {', '.join(available_isas())}")
    except (ImportError, TinyLMError) as error:
        return _Check("engine", False, str(error), "run `make native`, or reinstall tinylm with a C++17 compiler")


def _machine() -> Iterator[_Check]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield _Check("cores", None, f"{cores} usable, {psutil.cpu_count(logical=False)} physical")
    memory = psutil.virtual_memory()
    enough = memory.available >= LEAST_MEMORY_BYTES
    yield _Check("memory", enough, f"{memory.available / 2**30:.1f} GiB free", "training needs about 2 GiB")


def _package(name: str) -> _Check:
    try:
        return _Check(name, True, version(name))
    except PackageNotFoundError:
        return _Check(name, False, "absent", "run `make install`")


def _store(folder: Path) -> _Check:
    try:
        check_folder("--artifacts", folder)
        entries = open_store(folder).entries()
    except ConfigError as error:
        return _Check("store", False, str(error), "--artifacts or TINYLM_ARTIFACTS names another")
    free_bytes = shutil.disk_usage(folder if folder.exists() else Path.cwd()).free
    found = f"{folder}: {len(entries)} artifacts, {free_bytes / 2**30:.1f} GiB free"
    return _Check("store", free_bytes >= LEAST_DISK_BYTES, found, "a run needs about 1 GiB; `tinylm artifacts gc`")


def _server() -> _Check:
    from tinylm.runs import is_serving

    url = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    return _Check("server", None, f"{url} {'answers' if is_serving(url) else 'is not up (`tinylm up` starts it)'}")


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor", rich_help_panel="Pipeline")(doctor)
