"""Files in other formats of a finished run, and its run.json that names them: kept in step, wherever the writing is cut short."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from annotator.files import write_json
from annotator.output.parts import PartInfo
from annotator.results.workspace import RUN_JSON, WRITING, Workspace


def files_json(out_dir: Path, files: Mapping[str, PartInfo]) -> dict[str, Any]:
    """The entries of run.json about files.

    Args:
        out_dir: The results folder, where they lie.
        files: Rows and sha256 of each, by name.
    """
    return {
        name: {"bytes": (out_dir / name).stat().st_size, "sha256": info.sha256, "rows": info.rows}
        for name, info in sorted(files.items())
    }


def formats_json(formats: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of run.json about file formats: the options of each, which are dataclasses."""
    return {name: asdict(options) for name, options in formats.items()}


def rewrite_files(
    workspace: Workspace,
    run: Mapping[str, Any],
    names: Collection[str],
    write: Callable[[], Mapping[str, PartInfo]],
    *,
    keep: Collection[str],
    meanwhile: Mapping[str, Any],
    afterwards: Mapping[str, Any],
) -> dict[str, Any]:
    """Write files of a finished run, remove those that it is to have no more, and say so in run.json.

    Args:
        workspace: The results folder, held by this process.
        run: Contents of its run.json.
        names: Names of the files that `write` writes.
        write: Writes them all together, or none; returns rows and sha256 of each.
        keep: Names of those files of the run that stay beside them.
        meanwhile: Entries of run.json until the files are there.
        afterwards: Its entries from then on.

    Returns:
        The new contents of run.json.

    Raises:
        ResourceFault: A file cannot be written or removed; the same call again makes the folder whole.
    """
    out_dir = workspace.out_dir
    # Cut short after this, a later command knows which files are ours.
    write_json(out_dir / RUN_JSON, {**run, **meanwhile, WRITING: sorted({*names, *(run.get(WRITING) or ())})})
    written = files_json(out_dir, write())
    workspace.remove_all_but({*keep, *written})
    kept = {name: entry for name, entry in run["files"].items() if name in keep and name not in written}
    new = {key: value for key, value in run.items() if key != WRITING}
    new |= {**afterwards, "files": dict(sorted((kept | written).items()))}
    write_json(out_dir / RUN_JSON, new)
    return new
