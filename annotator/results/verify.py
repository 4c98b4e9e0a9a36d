"""Results held against what their run.json says of them."""

from __future__ import annotations

from pathlib import Path

from annotator.errors import InputError, UsageError
from annotator.files import file_sha256
from annotator.results.batch import SUMMARY, samples_of
from annotator.results.workspace import RUN_JSON, read_record


def verify(folder: Path) -> tuple[int, list[str]]:
    """Check every file of a results folder, or of every sample's in the folder of a batch.

    Args:
        folder: The results folder of `annotate`.

    Returns:
        How many files were checked; one line for each that is missing, has another size or another sha256, and for each run
        or sample that is incomplete.

    Raises:
        UsageError: There is no such folder, or no finished run in it.
        InputError: run.json or batch.json is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    if not (folder / RUN_JSON).exists() and not (folder / SUMMARY).exists():
        raise UsageError(f"{folder}: neither {RUN_JSON} nor {SUMMARY}: no finished run of annotator annotate")
    checked, faults = _verify_run(folder) if (folder / RUN_JSON).exists() else (0, [])
    summary = folder / SUMMARY
    for name, status in samples_of(read_record(summary), summary) if summary.exists() else ():
        if not (folder / name / RUN_JSON).exists():
            faults.append(f"{folder / name}: not finished (status {status})")
            continue
        files, more = _verify_run(folder / name)
        checked, faults = checked + files, faults + more
    return checked, faults


def _verify_run(folder: Path) -> tuple[int, list[str]]:
    path = folder / RUN_JSON
    run = read_record(path)
    faults = []
    try:
        entries = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in run["files"].items()}
        status = int(run["exit_status"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path}: is not a run.json of this program") from None
    for name, (size, sha256) in entries.items():
        file = folder / name
        if Path(name).name != name:
            raise InputError(f"{path}: field files: {name!r} is not a name in this folder")
        if not file.is_file():
            faults.append(f"{file}: missing")
        elif file.stat().st_size != size:
            faults.append(f"{file}: {file.stat().st_size} bytes, not {size}")
        elif (found := file_sha256(file)) != sha256:
            faults.append(f"{file}: sha256 {found[:12]}... is not {sha256[:12]}...")
    if status:
        faults.append(f"{folder}: {run.get('failed_contigs', {}).get('count', 'some')} contigs failed and are missing")
    return len(entries), faults
