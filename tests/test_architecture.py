"""The rules that hold the layers apart (imports), and the promises about the package as a whole."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinylm

ROOT = Path(__file__).resolve().parents[1]

# Each layer may import itself and those below it. A package stands for all its modules.
LAYERS = [
    {"cli", "__main__"},
    {"pipeline"},
    {"stages", "up"},
    {"stories", "bench", "report", "train", "interop", "native_build"},
    {"engine", "backends", "model", "lookups", "quantize", "corpus", "tokenizer", "scoring", "presets"},
    {
        "arguments",
        "completion",
        "machine",
        "modelfile",
        "artifacts",
        "manifest",
        "outputs",
        "prefect_processes",
        "progress",
        "report_server",
        "runs",
        "weights",
    },
    {"config"},
    {"errors"},
]
LAYER_OF = {name: depth for depth, names in enumerate(LAYERS) for name in names}
TORCH_AT = ("model", "lookups", "train.", "interop.", "backends.torch")


def modules(folder: str) -> list[Path]:
    """All modules below `folder`; the peers' adapters are programs that run in environments of their own."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "adapters" not in path.parts)


def name_of(path: Path) -> str:
    """Dotted name below `tinylm`: `bench.store`, `cli` for a package's own module."""
    parts = list(path.relative_to(ROOT / "tinylm").with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every module that `path` imports anywhere, and whether for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for part in node.body
        for child in ast.walk(part)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from ((name, node in typing_only) for name in names)


def tinylm_imports(path: Path) -> set[str]:
    """The names below `tinylm` that `path` imports at run time, each cut to one of the known layers' members."""
    found = {name.split(".")[1] for name, for_types in imports(path) if name.startswith("tinylm.") and not for_types}
    return found & LAYER_OF.keys()


@pytest.mark.parametrize("path", modules("tinylm"), ids=name_of)
def test_imports_go_downwards(path: Path) -> None:
    own = name_of(path).split(".")[0]
    if own == "":
        return  # tinylm/__init__.py offers names of all layers, loaded at first use
    assert own in LAYER_OF, f"{own} has no place in LAYERS: put it there"
    upward = {name for name in tinylm_imports(path) if LAYER_OF[name] < LAYER_OF[own]}
    assert not upward, f"{name_of(path)} imports {sorted(upward)} from a layer above"


def test_the_rule_sees_an_upward_import(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("from tinylm.cli import main\nfrom tinylm import stages\n")
    assert tinylm_imports(path) == {"cli", "stages"}


@pytest.mark.parametrize("path", modules("tinylm"), ids=name_of)
def test_heavy_and_native_imports_stay_where_they_belong(path: Path) -> None:
    own = name_of(path)
    names = {name for name, for_types in imports(path) if not for_types}
    roots = {name.split(".")[0] for name in names}
    assert "prefect" not in roots
    assert "flows" not in roots
    if not f"{own}.".startswith(TORCH_AT):
        assert "torch" not in roots, f"{own} must not import torch"
    if own != "machine":
        assert "tinylm._native" not in names, f"{own} must not import the extension"


def test_report_reads_tables_through_the_store_alone() -> None:
    for path in modules("tinylm/report"):
        roots = {name.split(".")[0] for name, _ in imports(path)}
        assert "pyarrow" not in roots, f"{path} reads Parquet by itself"


@pytest.mark.parametrize("path", modules("flows"), ids=lambda path: path.name)
def test_flows_keep_their_annotations(path: Path) -> None:
    """Prefect builds a flow's parameter form from annotations at run time; strings break it."""
    assert "from __future__ import annotations" not in path.read_text().replace("`from __future__", "")


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_importing_tinylm_and_its_command_is_light() -> None:
    code = "import sys, tinylm, tinylm.cli; print(*sorted(n for n in sys.modules if '.' not in n))"
    loaded = set(run_python(code).split())
    assert not loaded & {"torch", "prefect", "pyarrow", "numpy", "pydantic", "transformers", "datasets"}


def test_telling_one_story_is_light() -> None:
    code = "import sys, tinylm.engine, tinylm.stories.telling, tinylm.stories.chat; print(*sys.modules)"
    loaded = set(run_python(code).split())
    assert not loaded & {"torch", "prefect", "pyarrow", "numpy", "jinja2", "fsspec"}
    assert "torch" not in run_python("import sys, tinylm.interop.inspect; print(*sys.modules)").split()


@pytest.mark.parametrize("name", tinylm.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(tinylm, name) is not None


def test_version_equals_changelog() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == tinylm.__version__
    assert f'version = "{tinylm.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_nothing_below_the_command_prints_or_reads_the_environment() -> None:
    for path in modules("tinylm"):
        if name_of(path).split(".")[0] == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                pytest.fail(f"{path}:{node.lineno} reads the environment")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                pytest.fail(f"{path}:{node.lineno} prints")


@pytest.mark.parametrize("path", modules("tinylm"), ids=name_of)
def test_every_module_imports_and_all_is_right(path: Path) -> None:
    module = importlib.import_module(f"tinylm.{name_of(path)}".rstrip("."))
    listed = getattr(module, "__all__", [])
    assert [name for name in listed if not hasattr(module, name)] == []
    assert len(set(listed)) == len(listed)


def test_every_make_target_is_valid_shell() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert "bench-peers" in targets
    for target in targets:
        recipe = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        checked = subprocess.run(["sh", "-n"], input=recipe, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"make {target}: {checked.stderr}"
