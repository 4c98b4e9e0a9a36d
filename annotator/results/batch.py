"""The results folder of several assemblies: a folder for each, and a summary of what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annotator.errors import InputError, ResourceFault, UsageError
from annotator.files import FolderLock, sweep_temporaries, write_json
from annotator.results.workspace import STATE

SUMMARY = "batch.json"


def samples_of(summary: dict[str, Any], path: Path) -> list[tuple[str, int]]:
    """Name and exit code of every sample of a batch.

    Args:
        summary: Contents of batch.json.
        path: Where it lies, for the message.

    Raises:
        InputError: It is something else, or a name is not that of a folder beside it.
    """
    try:
        samples = [(str(entry["sample"]), int(entry["exit_status"])) for entry in summary["samples"]]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: is not a {SUMMARY} of this program") from None
    if wrong := [name for name, _ in samples if Path(name).name != name]:
        raise InputError(f"{path}: field samples: {wrong[0]!r} is not a name in this folder")
    return samples


class BatchFolder:
    """The folder above the samples' own, held by this run."""

    def __init__(self, out_dir: Path) -> None:
        """Make and lock it.

        Raises:
            UsageError: It is no folder, or another run holds it.
            ResourceFault: It cannot be written.
        """
        if out_dir.exists() and not out_dir.is_dir():
            raise UsageError(f"{out_dir}: is not a folder")
        self.out_dir, self._state = out_dir, out_dir / STATE
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self._state / "lock", out_dir)
        except OSError as error:
            raise ResourceFault(f"cannot write {out_dir}: {error.strerror}") from None
        sweep_temporaries(out_dir)

    def summarise(self, entries: list[dict[str, Any]]) -> None:
        """Write batch.json: one entry per sample.

        Raises:
            ResourceFault: It cannot be written.
        """
        write_json(self.out_dir / SUMMARY, {"batch_json_version": 1, "samples": entries})

    def close(self) -> None:
        """Let the folder go; nothing of ours stays but results."""
        try:
            (self._state / "lock").unlink()
            self._state.rmdir()
            self.out_dir.rmdir()
        except OSError:
            pass  # a run over one assembly has its state there, or there are results
        self._lock.close()
