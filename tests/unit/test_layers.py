"""The order of the layers, and what may be imported where."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = [
    "errors", "checks", "stopping", "machine", "kinds", "files", "example", "tokens", "motifs", "genome", "preflight", "models",
    "labels",
    "doctor", "scan", "calls", "evaluation", "output", "variants", "training", "results", "report", "browse", "pipeline", "cli",
    "plots", "api",
]  # fmt: skip
"""The rooms from the ground up: each imports only from rooms before it."""
RANK = {layer: rank for rank, layer in enumerate(LAYERS)}
LIGHT = ("genome", "tokens", "motifs", "models", "labels", "scan", "calls", "training")
BLOCKED = ("ray", "polars", "pysam", "typer", "rich", "pydantic")


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names a file imports anywhere, `from a import b` as a.b, `import_module("a")` as a."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            found |= {part.value for part in node.args if isinstance(part, ast.Constant)}
    return found


def importers(package: str, *folders: str) -> set[str]:
    """Files that import a package."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in modules(*folders)
        if any(name.partition(".")[0] == package for name in imports(path))
    }


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT / "annotator").parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path",
    [p for p in modules("annotator") if p != ROOT / "annotator/__init__.py"],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_imports_point_one_way(path: Path) -> None:
    layer = layer_of(path)
    assert layer in RANK, f"{layer} belongs to no layer"
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "annotator":
            target = rest.partition(".")[0]
            assert target in RANK, f"import of {name}"
            assert target == layer or RANK[target] < RANK[layer], f"{layer} imports {name}"


@pytest.mark.parametrize("path", modules("annotator/training"), ids=lambda p: p.name)
def test_training_needs_no_output_and_no_pipeline(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith(("annotator.output", "annotator.pipeline"))}


def test_kernels_import_nothing_of_annotator() -> None:
    assert importers("annotator", "kernels") == set()


def test_ray_is_imported_in_one_module_at_most() -> None:
    assert len(importers("ray", "annotator", "kernels")) <= 1


def test_triton_is_imported_in_kernel_files_only() -> None:
    found = importers("triton", "annotator", "kernels")
    assert "kernels/annotator_kernels/kmer/tokenize_kernel.py" in found
    assert all(re.fullmatch(r"kernels/annotator_kernels/\w+/(\w*kernel|words)\.py", name) for name in found)


def test_transformers_is_imported_in_models_only() -> None:
    assert all(name.startswith("annotator/models/") for name in importers("transformers", "annotator", "kernels"))


def test_polars_is_imported_in_output_pipeline_and_evaluation_only() -> None:
    allowed = ("annotator/output/", "annotator/pipeline/", "annotator/evaluation", "annotator/labels", "annotator/results")
    allowed += ("annotator/browse/", "annotator/plots", "annotator/report/", "annotator/scan/predict.py")
    assert {name for name in importers("polars", "annotator", "kernels") if not name.startswith(allowed)} == set()


@pytest.mark.parametrize("path", modules("annotator", "kernels"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_package_init_files_are_empty_and_options_load_no_torch(path: Path) -> None:
    if path.name == "__init__.py" and path != ROOT / "annotator/__init__.py":
        assert path.read_text() == ""
    if path.name == "options.py":
        assert "torch" not in {name.partition(".")[0] for name in imports(path)}


def run_python(script: str) -> str:
    """Standard output of a fresh interpreter that sees this checkout."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("torch", "triton", "ray", "transformers", "polars", "numpy")


def test_the_command_line_starts_light() -> None:
    assert run_python(f"import sys, annotator.cli.app; print(sorted(sys.modules.keys() & {set(HEAVY)}))") == "[]\n"


def test_the_library_is_loaded_when_it_is_used() -> None:
    script = (
        f"import sys, annotator\nprint(sorted(sys.modules.keys() & {set(HEAVY)}), bool(annotator.__version__))\n"
        "print(set(annotator.__all__) <= set(dir(annotator)))\n"
        "annotator.annotate, annotator.open_results, annotator.read_calls\nprint('torch' in sys.modules)\n"
        "annotator.load_model\nprint('torch' in sys.modules)\n"
        "try:\n    annotator.no_such_name\nexcept AttributeError as error:\n    print(error)"
    )
    expected = ["[] True", "True", "False", "True", "module 'annotator' has no attribute 'no_such_name'"]
    assert run_python(script).splitlines() == expected


BLOCK = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
"""


def dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def test_kernels_to_training_import_without_the_heavy_libraries() -> None:
    names = [dotted(path, ROOT) for layer in LIGHT for path in modules(f"annotator/{layer}")]
    names += [dotted(path, ROOT / "kernels") for path in modules("kernels")]
    if find_spec("triton") is None:
        names = [name for name in names if importers("triton", "kernels").isdisjoint({f"kernels/{name.replace('.', '/')}.py"})]
    script = BLOCK.format(blocked=BLOCKED) + "".join(f"importlib.import_module({name!r})\n" for name in names) + "print('done')"
    assert run_python(script) == "done\n"


def test_kernels_work_with_torch_alone() -> None:
    blocked = (*BLOCKED, "triton", "transformers", "annotator")
    script = BLOCK.format(blocked=blocked) + (
        "import torch\n"
        "from annotator_kernels.backends import chosen_backends\n"
        "from annotator_kernels.kmer.op import kmer_tokenize\n"
        "from annotator_kernels.kmer.scheme import KmerScheme\n"
        "table = torch.full((256,), 4, dtype=torch.uint8)\n"
        "table[list(b'ATCG')] = torch.arange(4, dtype=torch.uint8)\n"
        "block = torch.tensor(list(b'ACGTAC'), dtype=torch.uint8)\n"
        "ids = kmer_tokenize(block, torch.tensor([0]), torch.tensor([False]), KmerScheme(6, 1, table, table, 5, 1), tokens=1)\n"
        "print(ids.tolist(), chosen_backends())"
    )
    assert run_python(script) == "[[727]] {'kmer_tokenize/cpu': 'torch (no CUDA tensor)'}\n"
