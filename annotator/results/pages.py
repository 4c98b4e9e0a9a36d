"""Pages that are made from a finished run and lie in its folder: which of them are ours, and of which run.

They are no part of the run: nothing in run.json names them, and they can be made again at any time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from html import escape
from pathlib import Path
from typing import Any, Final

from annotator.errors import UsageError
from annotator.files import write_text
from annotator.output.schema import PREDICTIONS_FILE

BROWSE_HTML: Final = "browse.html"
BROWSE_FOLDER: Final = "browse"
"""Folder of the sessions for other browsers, and of the sequence that they show."""
REPORT_HTML: Final = "report.html"
REPORT_MQC: Final = "annotator_mqc.json"
"""The report's figures for MultiQC, which finds files by this end of their names."""
SESSION_FILES: Final = ("README.txt", "config.json", "genome.2bit", "genome.chrom.sizes", "hub.txt", "igv_session.xml")
MARK: Final = "Made by genome-annotator"
"""Stands near the beginning of every page and of the file for MultiQC."""
_HEAD_BYTES: Final = 4096


def identity(run: dict[str, Any]) -> str:
    """Hash of the plan and the calls of a run, by which a page tells whether it was made from it; formats do not matter.

    Args:
        run: Contents of its run.json.
    """
    calls = run["files"].get(PREDICTIONS_FILE)
    return hashlib.sha256(json.dumps([run["plan"], calls], sort_keys=True).encode()).hexdigest()


def head(title: str, policy: str, css: str, of: str) -> str:
    """The head of a page.

    Args:
        title: Its title, any text.
        policy: Its content security policy.
        css: Its style sheet.
        of: `identity` of its run; empty for a page of several.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        f'<meta name="generator" content="{MARK}">\n<meta name="annotator-run" content="{of}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Write a page of ours, in place of an older one; bytes of a file name that are no text stand as escapes.

    Raises:
        UsageError: There is a file of that name that is not ours.
        ResourceFault: It cannot be written.
    """
    refuse_foreign_page(path)
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def refuse_foreign_page(path: Path) -> None:
    """Raise UsageError where a page's name is taken by a file, or by a folder, that is not ours."""
    if path.exists() and not _is_ours(path):
        raise UsageError(f"{path}: exists and is not ours; move it away")


def is_made_from(path: Path, run: dict[str, Any]) -> bool:
    """Whether a page is ours and was made from this run, as it is now."""
    return _is_ours(path) and identity(run).encode() in _head(path)


def remove_pages(folder: Path) -> None:
    """Remove what was made from a run that is being replaced; files that are not ours stay."""
    for name in (BROWSE_HTML, REPORT_HTML, REPORT_MQC):
        if _is_ours(folder / name):
            (folder / name).unlink()
    if (folder / BROWSE_FOLDER).is_dir() and _is_ours(folder / BROWSE_FOLDER):
        shutil.rmtree(folder / BROWSE_FOLDER)


def _is_ours(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        # Other programs leave indices there, such as genome.2bit.fai.
        return path.name == BROWSE_FOLDER and all(file.name.startswith(SESSION_FILES) for file in path.iterdir())
    return path.is_file() and MARK.encode() in _head(path)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
