"""Which engines are compared: where each finds its model, how the model gets there, which adapter drives it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tinylm.bench.peers.family import run_family
from tinylm.config import Precision

__all__ = ["ENGINES", "Engine", "convert"]

_CONVERSION_LIMIT_S = 1800
_ONE_STREAM = ("W1-1", "W1-2")  # where four bits are meant to pay: every weight is read for one token
_ADAPTERS = Path(__file__).parent / "adapters"


@dataclass(frozen=True)
class Engine:
    """One engine. `command` converts the Hugging Face folder `hf`; empty where the source is used as it is.

    `precision` says by which of the machine's limits the engine is judged.
    """

    name: str
    label: str
    adapter: str
    model: str
    command: tuple[str, ...] = ()
    own: bool = False
    workloads: tuple[str, ...] = ()
    precision: Precision = "int8"

    def runs(self, workload: str) -> bool:
        """Return whether the engine is measured on `workload`: `workloads` names the only ones, if any."""
        return not self.workloads or workload in self.workloads

    @property
    def script(self) -> Path:
        """The adapter's file."""
        return _ADAPTERS / self.adapter


ENGINES = (
    Engine("tinylm", "TinyLM int8", "run_native.py", "tinylm-int8.safetensors", own=True),
    Engine(
        "tinylm-int4",
        "TinyLM int4",
        "run_native.py",
        "tinylm-int4.safetensors",
        own=True,
        workloads=_ONE_STREAM,
        precision="int4",
    ),
    Engine("llama.cpp", "llama.cpp Q8_0", "run_llama_cpp.py", "model-q8_0.gguf"),
    Engine(
        "llama.cpp-q4_0",
        "llama.cpp Q4_0",
        "run_llama_cpp.py",
        "model-q4_0.gguf",
        workloads=_ONE_STREAM,
        precision="int4",
    ),
    Engine(
        "ctranslate2",
        "CTranslate2 int8",
        "run_ctranslate2.py",
        "ct2-int8",
        ("ct2-transformers-converter", "--model", "hf", "--output_dir", "ct2-int8", "--quantization", "int8"),
    ),
    Engine(
        "openvino",
        "OpenVINO GenAI int8",
        "run_openvino.py",
        "ov-int8",
        (
            "optimum-cli",
            "export",
            "openvino",
            "--model",
            "hf",
            "--task",
            "text-generation-with-past",
            "--weight-format",
            "int8",
            "ov-int8",
        ),
    ),
    Engine(
        "onnxruntime",
        "ONNX Runtime GenAI int4",
        "run_onnx_genai.py",
        "ort-int4",
        ("python", "-m", "onnxruntime_genai.models.builder", "-i", "hf", "-o", "ort-int4", "-p", "int4", "-e", "cpu"),
        precision="int4",
    ),
    Engine("transformers", "transformers bf16 or f32", "run_transformers.py", "hf", precision="bf16"),
)


def convert(engine: Engine, folder: Path, peers_bin: Path) -> str | None:
    """Make the engine's model in `folder` unless it is there; return why that failed, or None.

    Args: peers_bin: the `bin` folder of the peers' environment.
    """
    target = folder / engine.model
    if target.exists():
        return None
    if not engine.command:
        return f"{engine.model}: this model cannot be written in the engine's format"
    program = peers_bin / engine.command[0]
    if not program.exists():
        return f"conversion: no {program}; the engine is not installed in the peers' environment"
    # Converters write to a name of its own: what a failed or killed one leaves is never taken for a model.
    partial = folder / f"partial-{engine.model}"
    shutil.rmtree(partial, ignore_errors=True)
    arguments = [partial.name if part == engine.model else part for part in engine.command[1:]]
    try:
        done = run_family([str(program), *arguments], folder, _CONVERSION_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"conversion: {error}"
    if done.returncode == 0 and partial.exists():
        partial.replace(target)
        return None
    lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
    return f"conversion ended with code {done.returncode}: {lines[-1]}"
