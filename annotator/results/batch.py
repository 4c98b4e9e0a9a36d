"""The results folder of several assemblies: a folder for each, and a summary of what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annotator.errors import ResourceFault, UsageError
from annotator.files import FolderLock, sweep_temporaries, write_json
from annotator.results.workspace import STATE

SUMMARY = "batch.json"


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
