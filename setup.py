"""Builds the extension tinylm._native; all other packaging facts are in pyproject.toml.

Every source file gets baseline flags; a kernel file also gets the flags of its own instruction set, if the compiler
knows them. Which of them runs is decided at run time (native/kernels/dispatch.cpp).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("native")
FOLDERS = ("kernels", "limits", "engine", "bindings")
# Floats must give the same bits on every machine: no contraction, no reassociation.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-pthread", "-g0"]
# Loops begin at cache lines: where else they fell moved the speed of one query's attention by a tenth (Zen 5).
FLAGS += ["-falign-functions=64", "-falign-loops=64", "-Wall", "-Wextra", "-Wshadow"]
# The scalar table is the readable reference: not vectorised behind its back.
FILE_FLAGS = {"scalar": ["-fno-tree-vectorize", "-fno-tree-slp-vectorize"]}
ISA_FLAGS = {
    "x86_64": {
        "avx2": ["-mavx2", "-mfma", "-mf16c"],
        "avxvnni": ["-mavx2", "-mfma", "-mf16c", "-mavxvnni"],
        "avx512": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"],
    },
    "aarch64": {"neon": [], "neon_dot": ["-march=armv8.2-a+dotprod"]},
}
ISA_FLAGS["arm64"] = ISA_FLAGS["aarch64"]
BASE_FLAGS = {"x86_64": ["-march=x86-64"]}


def _machine() -> str:
    machine = platform.machine()
    return "x86_64" if machine in ("AMD64", "amd64") else machine


def _compiles(compiler: list[str], flags: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("int probe() { return 0; }\n")
        command = [*compiler, *flags, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (NATIVE / folder).glob("*.cpp"))


def _headers() -> list[Path]:
    return sorted(
        path for folder in FOLDERS for pattern in ("*.h", "*.inl") for path in (NATIVE / folder).glob(pattern)
    )


class BuildNative(build_ext):
    """Compiles files in parallel, each with its own flags, and replaces the library by a rename."""

    def build_extension(self, ext: Extension) -> None:
        """Compile what is out of date and link."""
        compiler = list(self.compiler.compiler_so_cxx)
        isas = self._isas(compiler)
        skipped = {name for table in ISA_FLAGS.values() for name in table} - isas.keys()
        sources = [path for path in _sources() if path.stem not in skipped]
        base = FLAGS + BASE_FLAGS.get(_machine(), [])
        defines = [f"-DTINYLM_HAVE_{name.upper()}=1" for name in isas]
        defines += [f'-DTINYLM_FLAGS="{" ".join(base)}"', f'-DTINYLM_ISAS="{" ".join(isas)}"']
        includes = [f"-I{NATIVE / folder}" for folder in FOLDERS]
        includes += [f"-isystem{path}" for path in (pybind11.get_include(), *self.compiler.include_dirs)]

        def compile_one(source: Path) -> str:
            own = FILE_FLAGS.get(source.stem, []) + isas.get(source.stem, [])
            return self._compile(source, [*compiler, *base, *own, *defines, *includes])

        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            objects = list(pool.map(compile_one, sources))
        self._link(objects, Path(self.get_ext_fullpath(ext.name)))

    def _isas(self, compiler: list[str]) -> dict[str, list[str]]:
        wanted = ISA_FLAGS.get(_machine(), {})
        present = {name: flags for name, flags in wanted.items() if (NATIVE / "kernels" / f"{name}.cpp").exists()}
        return {name: flags for name, flags in present.items() if _compiles(compiler, flags)}

    def _compile(self, source: Path, command: list[str]) -> str:
        target = Path("build", "objects", source).with_suffix(".o")  # not build_temp: installs share what is built
        stamp = target.with_suffix(".flags")
        target.parent.mkdir(parents=True, exist_ok=True)
        newest = max(path.stat().st_mtime for path in (source, *_headers()))
        current = target.exists() and stamp.exists() and stamp.read_text() == repr(command)
        if self.force or not current or target.stat().st_mtime < newest:
            stamp.unlink(missing_ok=True)
            self.spawn([*command, "-c", str(source), "-o", str(target)])
            stamp.write_text(repr(command))
        return str(target)

    def _link(self, objects: list[str], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        self.spawn([*self.compiler.linker_so_cxx, "-pthread", "-s", *objects, "-o", str(partial)])
        partial.replace(target)  # a rename: running processes keep the file that they have mapped

    def copy_extensions_to_source(self) -> None:
        """Install in place by a rename, for the same reason."""
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name))
            target = Path("tinylm", built.name)
            partial = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copy2(built, partial)
            partial.replace(target)


setup(
    ext_modules=[
        Extension(
            "tinylm._native",
            sources=[str(path) for path in _sources()],
            depends=[str(path) for path in (*_headers(), Path("setup.py"))],
            language="c++",
        )
    ],
    cmdclass={"build_ext": BuildNative},
)
