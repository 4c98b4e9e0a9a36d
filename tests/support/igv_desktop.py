"""IGV desktop on a virtual screen, driven by its batch language."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def program(name: str) -> str:
    """Path of a program, in this virtual environment or on PATH; skips where there is none."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def igv(folder: Path, fasta: Path, *commands: str) -> str:
    """Let IGV desktop carry out batch commands on a virtual screen.

    Args:
        folder: Where IGV keeps its state.
        fasta: The genome to begin with, indexed.
        commands: Lines of IGV's batch language.

    Returns:
        IGV's log.
    """
    xvfb, browser = program("xvfb-run"), program("igv")
    home = folder / "igv"
    home.mkdir()
    # Without a genome of its own IGV asks for one on the network, and waits for ever where there is none.
    (home / "prefs.properties").write_text(f"DEFAULT_GENOME_KEY={fasta}\nSHOW_GENOME_SERVER_WARNING=FALSE\nPORT_ENABLED=false\n")
    (folder / "batch.txt").write_text("\n".join(["new", f"genome {fasta}", *commands, "exit", ""]))
    done = subprocess.run(
        # `timeout` ends the whole group, the virtual screen included.
        ["timeout", "180", xvfb, "-a", "-s", "-screen 0 1200x800x24", browser, "--igvDirectory", str(home),
         "-g", str(fasta), "-b", str(folder / "batch.txt")],
        env={**os.environ, "HOME": str(folder)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def drawn(picture: Path, colour: str) -> dict[int, int]:
    """Height in pixels of what has this colour, by pixel column."""
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed").imread(picture)
    rows, columns = np.nonzero((np.rint(image[:, :, :3] * 255) == [int(part) for part in colour.split(",")]).all(axis=2))
    return {int(column): int(np.ptp(rows[columns == column])) + 1 for column in np.unique(columns)}
