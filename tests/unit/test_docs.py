"""The documents: links lead somewhere, named paths exist, and the table of rooms is the order that the layer test holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.test_layers import LAYERS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks/README.md"])
NAMED = re.compile(r"(?<![\w./-])(?:annotator|kernels/annotator_kernels|benchmarks|simulations|tests|recipes)/[\w./-]*[\w/]")


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, part = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists() and path.is_relative_to(ROOT), f"{target}: there is no such file"
        if part:
            headings = {anchor(line.lstrip("#")) for line in path.read_text().splitlines() if line.startswith("#")}
            assert part in headings, f"{target}: there is no such heading"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=page_id)
def test_named_paths_exist(page: Path) -> None:
    for name in NAMED.findall(page.read_text()):
        assert "NAME" in name or (ROOT / name).exists(), f"{name}: there is no such file"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_rooms_of_the_architecture_page_stand_in_the_order_of_the_layers() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.split("<!-- rooms: begin -->")[1].split("<!-- rooms: end -->")[0]
    rooms = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    there = {path.stem for path in (ROOT / "annotator").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms == [layer for layer in LAYERS if layer in there - {"__init__"}]


def test_citation_names_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version and citation["version"] == version[1]
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= set(citation)


def test_workflow_and_hooks_call_what_is_there() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["everything"]["steps"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["id"] for repo in hooks for hook in repo["hooks"]] == ["ruff", "ruff-format", "mypy"]
