"""Row F05 of the fault matrix: calls that must not be in the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("annotator", "kernels") for path in (ROOT / folder).rglob("*.py"))
FORBIDDEN = {
    r"\bpickle\.loads?\b": "pickle.load(file)",
    r"\bfrom pickle import\b": "from pickle import load",
    r"\btrust_remote_code\s*=\s*True\b": "AutoModel.from_pretrained(name, trust_remote_code = True)",
    r"(?<![.\w])(eval|exec)\(": "x = eval(text)",
    r"\bshell\s*=\s*True\b": "run(command, shell=True)",
    r"\byaml\.(load|unsafe_load|full_load)\(": "yaml.load(text)",
    r"\bos\.(system|popen)\(": "os.system(command)",
}


def loads_of_torch(text: str) -> list[ast.Call]:
    """Every call of torch.load."""
    return [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.serialization.load")
    ]


@pytest.mark.parametrize(("pattern", "sample"), FORBIDDEN.items(), ids=FORBIDDEN.values())
def test_F05_forbidden_calls(pattern: str, sample: str) -> None:
    assert re.search(pattern, sample), "the pattern no longer finds what it forbids"
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


@pytest.mark.parametrize("harmless", ["net.eval()", "model.eval(", "retrieval(x)", "yaml.safe_load(text)", "torch.load(file)"])
def test_F05_patterns_leave_harmless_calls_alone(harmless: str) -> None:
    assert not [pattern for pattern in FORBIDDEN if re.search(pattern, harmless)]


def test_F05_torch_load_is_in_the_converter_only_and_reads_weights_only() -> None:
    calls = {path.relative_to(ROOT).as_posix(): loads_of_torch(path.read_text()) for path in SOURCES}
    files = [name for name, found in calls.items() if found]
    assert len(files) <= 1
    assert all("convert" in name for name in files)
    for found in calls.values():
        for call in found:
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert options.get("weights_only") == "True"
            assert options.get("map_location") in ("'cpu'", "torch.device('cpu')")


def test_F05_torch_load_under_another_name_is_not_imported() -> None:
    found = [
        path.name for path in SOURCES if re.search(r"^\s*from torch(\.serialization)? import .*\bload\b", path.read_text(), re.M)
    ]
    assert found == []
    assert len(loads_of_torch("torch.load(f)\nx.load(f)\ntorch.load(f, weights_only=True)")) == 2
