"""The kernels' C++ tests: every instruction set of this machine, and the others through emulation."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
ON_X86 = platform.machine() in ("x86_64", "AMD64")


def run_target(target: str) -> str:
    """Return what `make target` prints last; fails with its output. Objects are kept between runs."""
    if shutil.which("make") is None or shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs make and a C++ compiler")
    command = ["make", "-s", f"-j{os.cpu_count() or 1}", "-C", str(NATIVE), target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "0 failures" in done.stdout
    return done.stdout


def test_every_table_of_this_machine_equals_the_reference() -> None:
    output = run_target("test")
    assert "tested scalar" in output
    if ON_X86 and "avx2" in Path("/proc/cpuinfo").read_text():
        assert "tested avx2" in output


@pytest.mark.skipif(not ON_X86, reason="emulates x86 instructions on x86")
@pytest.mark.skipif(not Path("/usr/include/simde").exists(), reason="needs SIMDe (Debian: libsimde-dev)")
@pytest.mark.timeout(600)
def test_avx512_and_avxvnni_equal_the_reference_when_emulated() -> None:
    output = run_target("test-avx512-emulated")
    assert "tested avx512" in output
    assert "tested avxvnni" in output


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="needs aarch64-linux-gnu-g++")
@pytest.mark.skipif(shutil.which("qemu-aarch64-static") is None, reason="needs qemu-aarch64-static")
@pytest.mark.timeout(600)
def test_neon_equals_the_reference_under_qemu() -> None:
    output = run_target("test-neon")
    assert "tested neon_dot" in output
    assert "tested neon" in output
