"""The results folder: lock, plan, journal of finished shards, and the final files.

While a run is unfinished its state lies in `<out>/.annotator/`: `plan.json` (what was asked), `journal.jsonl` (one line per
finished shard), `parts/` (one immutable Parquet file per shard). The final files appear together at the end, `run.json` last;
then the state is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator.errors import ResourceFault, UsageError
from annotator.files import FolderLock, file_sha256, sweep_temporaries, write_json
from annotator.output.parts import count_rows

STATE = ".annotator"
RUN_JSON = "run.json"


@dataclass(frozen=True)
class FinishedShard:
    """A line of the journal."""

    shard: int
    rows: int
    sha256: str
    counts: dict[str, int]


class Workspace:
    """A results folder held by this process alone."""

    def __init__(self, out_dir: Path) -> None:
        """Create the folder where needed and lock it.

        Raises:
            UsageError: The path is no folder, or another run holds it.
            ResourceFault: It cannot be created or written.
        """
        self.out_dir, self.state = out_dir, out_dir / STATE
        self.parts, self.spool = self.state / "parts", self.state / "spool"
        self._created = [path for path in (out_dir, *out_dir.absolute().parents) if not path.exists()]
        if out_dir.exists() and not out_dir.is_dir():
            raise UsageError(f"{out_dir}: is not a folder")
        try:
            for folder in (self.parts, self.spool):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.state / "lock", out_dir)
        except OSError as error:
            raise ResourceFault(f"cannot write {out_dir}: {error.strerror}") from None
        for folder in (out_dir, self.state, self.parts, self.spool):
            sweep_temporaries(folder)

    def abandon(self) -> None:
        """Leave as little behind as there was: for a run that failed before its first shard. Harmless a second time."""
        if self._lock.closed:
            return
        if not (self.state / "plan.json").exists():
            shutil.rmtree(self.state, ignore_errors=True)
            for path in self._created:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
        self._lock.close()

    def close(self) -> None:
        """Release the lock, keeping what is needed to resume."""
        self._lock.close()

    def finish(self, *, keep_state: bool = False) -> None:
        """Release the lock of a finished run, and remove its state unless something of it is to be tried again."""
        shutil.rmtree(self.spool if keep_state else self.state, ignore_errors=True)
        self._lock.close()

    def finished_run(self) -> dict[str, Any] | None:
        """The run.json of a complete run whose files are all there, or None."""
        if not (self.out_dir / RUN_JSON).exists():
            return None
        run = self._read_run()
        if run.get("exit_status") != 0:
            return None  # what failed then is tried again
        for name, entry in run["files"].items():
            path = self.out_dir / name
            if not os.path.isfile(path) or path.stat().st_size != entry["bytes"]:  # False for any name, where Path may raise
                return None
        return run

    def _read_run(self) -> dict[str, Any]:
        path = self.out_dir / RUN_JSON
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            if all(isinstance(entry["bytes"], int) for entry in run["files"].values()) and isinstance(run["plan"], dict):
                return dict(run)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise UsageError(f"{path}: is not a run.json of this program; choose another folder")

    def refuse_other_plan(self, plan: dict[str, Any]) -> None:
        """Raise UsageError, naming the field, where the folder holds a run with another plan."""
        plans = [self._read_run()["plan"]] if (self.out_dir / RUN_JSON).exists() else []
        if (self.state / "plan.json").exists():
            plans.append(self._read_plan())
        for old in plans:
            for name in sorted(set(old) | set(plan)):
                if old.get(name) != plan.get(name):
                    before, now = _short(old.get(name)), _short(plan.get(name))
                    same = f"give -t {before} as before, " if name == "threads" else ""
                    raise UsageError(
                        f"{self.out_dir}: holds another run, with {name} {before}, not {now}; "
                        f"{same}use --overwrite or another folder"
                    )

    def _read_plan(self) -> dict[str, Any]:
        path = self.state / "plan.json"
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            plan = None
        if not isinstance(plan, dict):
            raise UsageError(f"{path}: damaged; use --overwrite or another folder")
        return plan

    def refuse_foreign_files(self, names: list[str]) -> None:
        """Raise UsageError where a final file's name is taken by a file that no run of ours wrote."""
        if (self.state / "plan.json").exists():
            return  # a run of ours was cut short here, perhaps between two renames
        ours = {RUN_JSON, *self._read_run()["files"]} if (self.out_dir / RUN_JSON).exists() else set()
        for name in names:
            if name not in ours and (self.out_dir / name).exists():
                raise UsageError(f"{self.out_dir / name}: exists and is not ours; choose another folder")

    def clear(self) -> None:
        """Remove the files named in run.json, run.json itself and the state of an unfinished run; nothing else."""
        path = self.out_dir / RUN_JSON
        if path.exists():
            for name in self._read_run()["files"]:
                if Path(name).name == name and os.path.isfile(self.out_dir / name):  # never outside, whatever the file says
                    (self.out_dir / name).unlink()
            path.unlink()
        for old in ("plan.json", "journal.jsonl"):
            (self.state / old).unlink(missing_ok=True)
        for part in self.parts.iterdir():
            part.unlink()

    def is_unfinished(self, plan: dict[str, Any]) -> bool:
        """Whether a run with this very plan was cut short here before its final files."""
        if (self.out_dir / RUN_JSON).exists() or not (self.state / "plan.json").exists():
            return False
        try:
            return plan_hash(self._read_plan()) == plan_hash(plan)
        except UsageError:  # damaged
            return False

    def begin(self, plan: dict[str, Any]) -> None:
        """Record the plan: from here on there is something to resume."""
        if not (self.state / "plan.json").exists():
            write_json(self.state / "plan.json", plan)
        self._end_last_line()

    def finished_shards(self, plan: dict[str, Any]) -> dict[int, FinishedShard]:
        """The shards that are done, each part checked against the hash and the rows of its line."""
        done = {}
        for entry in self._journal(plan_hash(plan)):
            part = self.part(entry.shard)
            if os.path.isfile(part) and file_sha256(part) == entry.sha256 and count_rows(part) == entry.rows:
                done[entry.shard] = entry
        return done

    def part(self, shard: int) -> Path:
        """Path of a shard's part."""
        return self.parts / f"{shard:07d}.parquet"

    def record(self, plan: dict[str, Any], entry: FinishedShard) -> None:
        """Append a finished shard to the journal, durably; its part is already published."""
        line = {"shard": entry.shard, "rows": entry.rows, "sha256": entry.sha256, "counts": entry.counts, "plan": plan_hash(plan)}
        try:
            with (self.state / "journal.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, sort_keys=True) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResourceFault(f"cannot write {self.state / 'journal.jsonl'}: {error.strerror}") from None

    def _end_last_line(self) -> None:
        """A line cut short by a kill must not swallow the one that follows it."""
        path = self.state / "journal.jsonl"
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")

    def _journal(self, wanted: str) -> list[FinishedShard]:
        path = self.state / "journal.jsonl"
        if not path.exists():
            return []
        entries = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                entry = FinishedShard(int(row["shard"]), int(row["rows"]), str(row["sha256"]), dict(row["counts"]))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue  # a line cut short by a kill: its shard is simply computed again
            if row.get("plan") == wanted:
                entries.append(entry)
        return entries


def plan_hash(plan: dict[str, Any]) -> str:
    """sha256 of a plan in canonical JSON."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def total_counts(entries: list[FinishedShard]) -> Counter[str]:
    """Sum of the shards' counts."""
    total: Counter[str] = Counter()
    for entry in entries:
        total.update(entry.counts)
    return total


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else text[:57] + "..."
