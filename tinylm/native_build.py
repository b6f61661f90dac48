"""Builds the C++ extension as a stage and keeps the built file beside its sources' and compiler's digests."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from tinylm.errors import StageError
from tinylm.manifest import sha256_file
from tinylm.progress import ProgressReporter

__all__ = ["build_native", "extension_path", "install_native", "native_content"]

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
NOT_IN_EXTENSION = {"build", "cli", "fuzz", "tests"}
ERROR_LINES = 15  # of the compiler's output, shown when it fails (chosen)


def extension_path() -> Path | None:
    """Return where the importable extension lies, or None when it is not built."""
    spec = importlib.util.find_spec("tinylm._native")
    return Path(spec.origin) if spec is not None and spec.origin else None


def native_content() -> dict[str, str]:
    """Return digests of what the built extension depends on: sources, compiler and Python's ABI."""
    if not _is_checkout():
        installed = extension_path()
        return {"extension": sha256_file(installed) if installed else "absent"}
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path.relative_to(ROOT)}\0{sha256_file(path)}\n".encode())
    return {"sources": digest.hexdigest(), "compiler": _compiler(), "abi": SUFFIX}


def build_native(out_dir: Path, progress: ProgressReporter) -> dict[str, Any]:
    """Build the extension from this checkout (an installed package: take it as it is) into `out_dir`.

    Returns: source count, compiler, file name, size and seconds.
    Raises:  StageError with the end of the compiler's output.
    """
    started_s = time.monotonic()
    with progress.task("native", None):
        if _is_checkout():
            _compile(out_dir / "build.log")
    built = extension_path()
    if built is None:
        raise StageError("the C++ extension tinylm._native is not installed; reinstall tinylm with a C++17 compiler")
    shutil.copy2(built, out_dir / built.name)
    return {
        "file": built.name,
        "size_bytes": built.stat().st_size,
        "sources": len(_sources()),
        "compiler": _compiler(),
        "seconds": round(time.monotonic() - started_s, 1),
    }


def install_native(artifact: Path) -> None:
    """Make the extension kept in `artifact` the one that `import` finds, if it is not so already."""
    kept = next(artifact.glob(f"_native*{SUFFIX}"))
    installed = PACKAGE / kept.name
    if installed.exists() and sha256_file(installed) == sha256_file(kept):
        return
    partial = installed.with_name(f".{kept.name}.partial")
    shutil.copy2(kept, partial)
    partial.rename(installed)  # a rename: processes that have the old file mapped keep it


def _compile(log: Path) -> None:
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    with log.open("w") as output:
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False)
    importlib.invalidate_caches()
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-ERROR_LINES:])
        raise StageError(f"the C++ extension did not build ({' '.join(command)}):\n{tail}")


def _is_checkout() -> bool:
    return (ROOT / "setup.py").is_file() and (ROOT / "native").is_dir()


def _sources() -> list[Path]:
    if not _is_checkout():
        return []
    native = ROOT / "native"
    found = [path for path in native.rglob("*") if path.relative_to(native).parts[0] not in NOT_IN_EXTENSION]
    return [ROOT / "setup.py", *sorted(path for path in found if path.suffix in {".cpp", ".h", ".inl"})]


def _compiler() -> str:
    """Return the first line of the C++ compiler's version text."""
    name = str(sysconfig.get_config_var("CXX") or "c++").split()[0]
    if shutil.which(name) is None:
        return "none"
    done = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.splitlines()[0] if done.stdout else name
