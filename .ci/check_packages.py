"""Check what a built wheel and sdist hold: every file of the packages, and nothing else in the wheel.

    python .ci/check_packages.py dist/

Exit status: 0 both are whole, 1 one is not.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = (
    "annotator/browse/assets/igv.LICENSE",
    "annotator/browse/assets/igv.min.js",
    "annotator/browse/assets/page.css",
    "annotator/browse/assets/page.js",
    "annotator/example/synthetic_human.json",
    "annotator/models/bundled/compact/manifest.json",
    "annotator/models/bundled/compact/model.safetensors",
    "annotator/py.typed",
    "annotator/report/assets/report.css",
    "annotator_kernels/py.typed",
)
"""Files that are no Python, and without which the installed program does not run or is not typed."""


def source_files() -> set[str]:
    """Files of both packages, as the wheel names them."""
    return {
        path.relative_to(base).as_posix()
        for base, package in ((ROOT, "annotator"), (ROOT / "kernels", "annotator_kernels"))
        for path in (base / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def faults(folder: Path) -> list[str]:
    """What is wrong with the packages in a folder.

    Raises:
        ValueError: It does not hold one wheel and one sdist.
    """
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    in_wheel = {name for name in sizes if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2].removeprefix("kernels/") for name in archive.getnames()}
    expected = source_files()
    found = [f"{wheel.name}: lacks {name}" for name in sorted((expected | {*DATA}) - in_wheel)]
    found += [f"{wheel.name}: holds {name}" for name in sorted(in_wheel - expected)]
    found += [f"{wheel.name}: {name} is empty" for name in DATA if not name.endswith("py.typed") and not sizes.get(name)]
    also = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "benchmarks/validate_bed.py"}
    return found + [f"{sdist.name}: lacks {name}" for name in sorted((expected | {*DATA} | also) - in_sdist)]


def main(argv: list[str]) -> int:
    """Print what is wrong; returns the exit status."""
    found = faults(Path(argv[0]))
    print(*(found or ["wheel and sdist are whole"]), sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
