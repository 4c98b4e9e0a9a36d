"""The files that make a package, an image and a CI run out of the source."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, argument) of the Dockerfile, continuation lines joined, comments dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            found.append((word, rest.strip()))
    return found


# --- package


def test_kernels_is_a_source_root_and_no_package() -> None:
    assert not (ROOT / "kernels/__init__.py").exists()
    assert (ROOT / "kernels/annotator_kernels/__init__.py").read_text() == ""
    assert [path.name for path in (ROOT / "kernels").iterdir() if path.is_dir() and path.name != "__pycache__"] == [
        "annotator_kernels"
    ]


def test_wheel_holds_both_packages(project: dict[str, Any]) -> None:
    assert project["project"]["name"] == "genome-annotator"
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["annotator", "kernels/annotator_kernels"]
    assert (ROOT / "annotator/py.typed").exists()
    assert (ROOT / "kernels/annotator_kernels/py.typed").exists()


def test_command_exists(project: dict[str, Any]) -> None:
    module, _, function = project["project"]["scripts"]["annotator"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(("name", "floor"), [("torch", (2, 10)), ("transformers", (5, 3)), ("ray", (2, 54))])
def test_floors_are_above_known_holes(project: dict[str, Any], name: str, floor: tuple[int, ...]) -> None:
    (requirement,) = [text for text in project["project"]["dependencies"] if re.match(rf"{name}\b", text)]
    lowest = re.search(r">=([\d.]+)", requirement)
    assert lowest is not None
    assert tuple(int(part) for part in lowest[1].split(".")) >= floor


def test_test_folders_shadow_no_library() -> None:
    assert not {"kernels", "ray", "triton", "polars", "tokenizers"} & {path.name for path in (ROOT / "tests").iterdir()}


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


# --- what git and docker leave out


def hidden_by(patterns: list[str], path: str) -> list[str]:
    """Patterns (of the few forms used here) that match a path or a folder above it."""
    parents = [path, *(parent.as_posix() for parent in Path(path).parents if parent.as_posix() != ".")]
    hits = []
    for pattern in patterns:
        anchored, core = "/" in pattern.strip("/") or pattern.startswith("/"), pattern.strip("/").removeprefix("**/")
        names = parents if anchored and not pattern.startswith("**/") else [Path(parent).name for parent in parents]
        if any(fnmatch(name, core) for name in names):
            hits.append(pattern)
    return hits


@pytest.mark.parametrize("file", [".gitignore", ".dockerignore"])
@pytest.mark.parametrize(
    "path",
    [
        "annotator/output/formats/bed.py",
        "annotator/models/bundled/model.safetensors",
        "annotator/calls/batch.py",
        "pyproject.toml",
    ],
)
def test_ignore_files_hide_no_source(file: str, path: str) -> None:
    patterns = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    assert hidden_by(patterns, path) == []


def test_results_are_ignored() -> None:
    patterns = (ROOT / ".gitignore").read_text().splitlines()
    assert hidden_by(patterns, "output/predictions.bed.gz") == ["/output/"]
    assert hidden_by(patterns, "annotator/calls/__pycache__/batch.pyc") == ["__pycache__/"]
    assert hidden_by(["output/"], "annotator/output/formats/bed.py") == ["output/"], (
        "the check itself must see an unanchored pattern"
    )


# --- container image


def test_image_bases_are_pinned(instructions: list[tuple[str, str]]) -> None:
    stages: set[str] = set()
    for image in (rest for word, rest in instructions if word == "FROM"):
        name, _, stage = image.partition(" AS ")
        assert name in ("${FLAVOUR}", *stages) or re.fullmatch(r"[\w./-]+:[\w.-]+", name), f"{name}: no tag"
        assert not name.endswith(":latest")
        stages.add(stage)
    assert {"cuda", "cpu"} <= stages
    assert ("ARG", "FLAVOUR=cuda") in instructions


def test_image_runs_the_command_as_an_ordinary_user(instructions: list[tuple[str, str]]) -> None:
    users = [rest for word, rest in instructions if word == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert ("ENTRYPOINT", '["annotator"]') in instructions
    last_user = max(i for i, (word, _) in enumerate(instructions) if word == "USER")
    assert not [rest for word, rest in instructions[last_user:] if word == "RUN"]


def test_image_settings(instructions: list[tuple[str, str]]) -> None:
    settings = dict(pair.split("=", 1) for word, rest in instructions if word == "ENV" for pair in rest.split())
    assert settings["HF_HUB_OFFLINE"] == "1"
    for name in ("RAY_TMPDIR", "MPLCONFIGDIR", "TRITON_CACHE_DIR", "HOME"):
        assert settings[name].startswith("/tmp"), f"{name} must be writable for any user"


def test_image_has_bash_and_ps_in_each_flavour(instructions: list[tuple[str, str]]) -> None:
    installs = [rest for word, rest in instructions if word == "RUN" and "apt-get install" in rest]
    assert len(installs) == 2
    for line in installs:
        assert {"bash", "procps"} <= set(line.split())
        assert "rm -rf /var/lib/apt/lists/*" in line


def test_image_copies_what_exists_and_is_sent(instructions: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [source for word, rest in instructions if word == "COPY" for source in rest.split()[:-1]]
    assert {"pyproject.toml", "annotator", "kernels"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert hidden_by(ignored, source) == []


# --- CI


def test_ci_script_stops_at_the_first_failure() -> None:
    script = ROOT / ".ci/run"
    text = script.read_text()
    assert os.access(script, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


EXAMPLE = "annotator example && annotator annotate example.fa.gz -o results/"
TESTS = 'python -m pip install ".[test]" && python -m pytest -q'


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
    ci = (ROOT / ".ci/run").read_text().splitlines()
    assert f"python -m pip install . && {EXAMPLE}" in readme and TESTS in readme
    assert "python -m pip install ." in ci and f"{EXAMPLE} || exit 1" in ci and f"{TESTS} || exit 1" in ci
    slow = ci[ci.index(f"{TESTS} || exit 1") + 1]
    assert slow.startswith("python -m pytest -q -m slow -n 0 || exit 1"), "what the default leaves out"


def test_ci_installs_the_programs_that_tests_skip_without() -> None:
    ci = (ROOT / ".ci/run").read_text()
    packages = re.search(r"apt-get install [^;]*", ci)
    assert packages is not None
    assert {"bedtools", "genometools", "igv", "xauth", "xvfb"} <= set(packages[0].split())
    assert ci.index("-m slow") < ci.index(".[browsers]") < ci.index("tests/integration/test_bed_readers.py")


def build_packages(folder: Path, leave_out: str = "") -> None:
    """A wheel and an sdist with the files of the source, but for the one left out of each."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "x-1-py3-none-any.whl", "w") as wheel, tarfile.open(folder / "x-1.tar.gz", "w:gz") as sdist:
        for base, inside in ((ROOT / "annotator", "annotator"), (ROOT / "kernels/annotator_kernels", "annotator_kernels")):
            for path in base.rglob("*"):
                name = f"{inside}/{path.relative_to(base).as_posix()}"
                if path.is_file() and path.suffix != ".pyc" and name != leave_out:
                    wheel.write(path, name)
                    sdist.add(path, f"x-1/{path.relative_to(ROOT).as_posix()}")
        for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "benchmarks/validate_bed.py"):
            sdist.add(ROOT / name, f"x-1/{name}")


@pytest.mark.parametrize("name", ["", "annotator/py.typed", "annotator/models/bundled/compact/model.safetensors"])
def test_the_check_of_built_packages_finds_what_is_missing(tmp_path: Path, name: str) -> None:
    build_packages(tmp_path / "dist", leave_out=name)
    command = [sys.executable, str(ROOT / ".ci/check_packages.py"), str(tmp_path / "dist")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == bool(name), done.stdout + done.stderr
    if name:
        assert f"x-1-py3-none-any.whl: lacks {name}" in done.stdout and f"x-1.tar.gz: lacks {name}" in done.stdout
