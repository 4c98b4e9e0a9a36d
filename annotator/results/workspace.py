"""The results folder: lock, plan, journal of finished shards, and the final files.

While a run is unfinished its state lies in `<out>/.annotator/`: `plan.json` (what was asked), `journal.jsonl` (one line per
finished shard), `parts/` (one immutable Parquet file per shard, with its profiles). The final files appear together at the end,
`run.json` last; then the state is removed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator.errors import InputError, ResourceFault, UsageError
from annotator.files import FolderLock, file_sha256, sweep_temporaries, write_faults, write_json
from annotator.output.parts import PartInfo, count_rows
from annotator.output.schema import PREDICTIONS_FILE
from annotator.output.track_files import MAXIMA_FILE
from annotator.output.track_parts import tracks_path
from annotator.results.pages import remove_pages
from annotator.results.plan import LADDER, OPTION_OF, PLAN_VERSION, RunPlan

STATE = ".annotator"
RUN_JSON = "run.json"
RUN_JSON_VERSION = 3
PLAN_JSON = "plan.json"
CONTIGS_TSV = "contigs.tsv"
PROFILES_JSON = "profiles.json"

INSTEAD = "overwrite it or choose another folder"
"""What to do where a folder cannot be gone on with."""
BESIDE_CALLS = (CONTIGS_TSV, PROFILES_JSON)
"""Files of a finished run that hold no calls."""
FORMATS, CONVERTED, WRITING, TRACKS, CALLED_FROM = "formats", "converted", "writing", "tracks", "called_from"
"""Keys of run.json: the formats that annotate was asked for, those that were added later, names of files that are being written
in other formats, the tracks, and the folder whose tracks the calls are of."""
_FILES_JSON = "files.json"
_TRACKS_SHA256 = "tracks_sha256"
_INDICES = (".csi", ".tbi")


@dataclass(frozen=True)
class FinishedShard:
    """A line of the journal."""

    shard: int
    rows: int
    sha256: str
    counts: dict[str, int]
    tracks_sha256: str = ""

    @property
    def info(self) -> PartInfo:
        """Rows and hashes of its part."""
        return PartInfo(self.rows, self.sha256, self.tracks_sha256)


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
        if not (self.state / PLAN_JSON).exists():
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
        """The run.json of a complete run whose calls are all there, or None; files in other formats can be made from those."""
        if not (self.out_dir / RUN_JSON).exists():
            return None
        run = self.read_run()
        if run.get("exit_status") != 0:
            return None  # what failed then is tried again
        return run if _are_there(self.out_dir, run, lasting_files(run)) else None

    def are_there(self, run: dict[str, Any], names: Iterable[str]) -> bool:
        """Whether files of a finished run are there, with the size that its run.json tells."""
        return _are_there(self.out_dir, run, names)

    def read_run(self) -> dict[str, Any]:
        """The run.json of the folder.

        Raises:
            UsageError: It is not one of this program.
        """
        path = self.out_dir / RUN_JSON
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            if all(isinstance(entry["bytes"], int) for entry in run["files"].values()) and isinstance(run["plan"], dict):
                return dict(run)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise UsageError(f"{path}: is not a run.json of this program; choose another folder")

    def _recorded(self) -> list[tuple[dict[str, Any], bool]]:
        """The plans that the folder holds, each with whether its run is unfinished."""
        recorded = [(self.read_run()["plan"], False)] if (self.out_dir / RUN_JSON).exists() else []
        if (self.state / PLAN_JSON).exists():
            recorded.append((self._read_plan(), True))  # its shards and those to come must be of one kind
        return recorded

    def refuse_other_plan(self, plan: RunPlan, passing: Collection[str] = ()) -> None:
        """See that what the folder holds is a run with this plan, but for values that the program chose.

        Args:
            plan: What is asked for now.
            passing: Values that may differ, because they are not settled yet.

        Raises:
            UsageError: It holds another run; the message names the option.
        """
        for old, unfinished in self._recorded():
            if old.get("plan_version") != PLAN_VERSION:
                raise UsageError(f"{self.out_dir}: holds a run of another version of this program; {INSTEAD}")
            differences = [*plan.differences(old), *(plan.differences(old, strict=True) if unfinished else ())]
            for name, before, now in differences:  # what the user asked for comes first
                if name in passing:
                    continue
                instead = f"leave it out, {INSTEAD}" if name in plan.given else INSTEAD
                raise UsageError(
                    f"{self.out_dir}: holds another run, with {name} {_short(before)}, not {_short(now)}; {instead}",
                    OPTION_OF.get(name, ""),
                )

    def settled_thresholds(self, plan: RunPlan, *, begun_only: bool) -> RunPlan | None:
        """The plan with the thresholds that decoys gave an earlier run of the same plan here; None where there is none.

        Args:
            plan: What is asked for now, with the model's thresholds.
            begun_only: Pass over a run that is finished.
        """
        try:
            recorded = self._recorded()
        except UsageError:  # damaged: that is refused, or overwritten, later
            return None
        for old, unfinished in recorded:
            differing = {name for name, *_ in plan.differences(old, strict=unfinished)}
            thresholds, ladder = old.get("thresholds"), old.get(LADDER)
            if differing - {"thresholds"} or (begun_only and not unfinished):
                continue
            if isinstance(thresholds, dict) and isinstance(ladder, dict):
                return plan.with_thresholds(thresholds, ladder)
        return None

    def _read_plan(self) -> dict[str, Any]:
        path = self.state / PLAN_JSON
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            plan = None
        if not isinstance(plan, dict):
            raise UsageError(f"{path}: damaged; {INSTEAD}")
        return plan

    def refuse_foreign_files(self, names: list[str]) -> None:
        """Raise UsageError where a final file's name is taken by a file that no run of ours wrote."""
        if (self.state / PLAN_JSON).exists():
            return  # a run of ours was cut short here, perhaps between two renames
        ours = self._named()
        for name in names:
            if name not in ours and (self.out_dir / name).exists():
                raise UsageError(f"{self.out_dir / name}: exists and is not ours; choose another folder")

    def _named(self) -> set[str]:
        """Names of the files that the folder's run wrote, or was about to write."""
        names: set[str] = set()
        if (self.out_dir / RUN_JSON).exists():
            run = self.read_run()
            names = {RUN_JSON, *run["files"], *map(str, run.get(WRITING) or ())}
        with suppress(OSError, ValueError, TypeError):
            names.update(map(str, json.loads((self.state / _FILES_JSON).read_text(encoding="utf-8"))))
        return names

    def note_names(self, names: Iterable[str]) -> None:
        """Note names of files before they are written: a run cut short between two of them does not forget the others."""
        write_json(self.state / _FILES_JSON, sorted({*names, *self._named()} - {RUN_JSON}))

    def remove_files(self, names: Iterable[str]) -> None:
        """Remove files of the folder that are there.

        Raises:
            ResourceFault: One cannot be removed.
        """
        for name in names:
            if Path(name).name == name and os.path.isfile(self.out_dir / name):  # never outside, whatever a record says
                with write_faults(self.out_dir / name):
                    (self.out_dir / name).unlink()

    def remove_all_but(self, names: Iterable[str]) -> None:
        """Remove the files that a run of this folder wrote before, but for those of these names and run.json."""
        self.remove_files(self._named() - {RUN_JSON, *names})

    def clear(self) -> None:
        """Remove the files named in run.json, run.json itself, pages made of them, and the state of an unfinished run."""
        remove_pages(self.out_dir)
        self.remove_all_but(())
        (self.out_dir / RUN_JSON).unlink(missing_ok=True)
        for old in (PLAN_JSON, "journal.jsonl", _FILES_JSON):
            (self.state / old).unlink(missing_ok=True)
        for part in self.parts.iterdir():
            part.unlink()

    def is_unfinished(self, plan: RunPlan) -> bool:
        """Whether a run with this very plan was cut short here before its final files."""
        if (self.out_dir / RUN_JSON).exists() or not (self.state / PLAN_JSON).exists():
            return False
        try:
            return plan.is_same(self._read_plan())
        except UsageError:  # damaged
            return False

    def begin(self, plan: RunPlan) -> None:
        """Record the plan: from here on there is something to resume."""
        if not (self.state / PLAN_JSON).exists():
            write_json(self.state / PLAN_JSON, plan.as_json())
        self._end_last_line()

    def finished_shards(self, plan: RunPlan) -> dict[int, FinishedShard]:
        """The shards that are done, each part checked against the hash and the rows of its line."""
        done = {}
        for entry in self._journal(plan.sha256):
            part = self.part(entry.shard)
            if not (os.path.isfile(part) and file_sha256(part) == entry.sha256 and count_rows(part) == entry.rows):
                continue
            tracks = tracks_path(part)
            if entry.tracks_sha256 and not (os.path.isfile(tracks) and file_sha256(tracks) == entry.tracks_sha256):
                continue
            done[entry.shard] = entry
        return done

    def part(self, shard: int) -> Path:
        """Path of a shard's part."""
        return self.parts / f"{shard:07d}.parquet"

    def record(self, plan: RunPlan, entry: FinishedShard) -> None:
        """Append a finished shard to the journal; its part is already published.

        Where a process is killed, whatever the system was given stands in the file. A machine that stops may take the lines of
        the last half minute with it; to wait for the disk after every shard would cost more than to compute those again.
        """
        line = {"shard": entry.shard, "rows": entry.rows, "sha256": entry.sha256, "counts": entry.counts, "plan": plan.sha256}
        if entry.tracks_sha256:
            line[_TRACKS_SHA256] = entry.tracks_sha256
        try:
            with (self.state / "journal.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, sort_keys=True) + "\n")
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
                entry = FinishedShard(
                    int(row["shard"]), int(row["rows"]), str(row["sha256"]), dict(row["counts"]), str(row.get(_TRACKS_SHA256, ""))
                )
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue  # a line cut short by a kill: its shard is simply computed again
            if row.get("plan") == wanted:
                entries.append(entry)
        return entries


def recorded_plan(out_dir: Path, *, begun_only: bool = False) -> dict[str, Any] | None:
    """The plan of a run in a results folder that has shards to do, looked up without a lock; None where there is none.

    What is damaged counts as absent here: `Workspace` says so when its turn comes.

    Args:
        out_dir: The results folder.
        begun_only: Pass over a folder that already has the files of a run.
    """
    if begun_only and (out_dir / RUN_JSON).exists():
        return None
    try:
        if (unfinished := out_dir / STATE / PLAN_JSON).exists():
            plan = json.loads(unfinished.read_text(encoding="utf-8"))
        else:
            run = json.loads((out_dir / RUN_JSON).read_text(encoding="utf-8"))
            plan = None if run["exit_status"] == 0 and _are_there(out_dir, run, lasting_files(run)) else run["plan"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return plan if isinstance(plan, dict) else None


def can_be_gone_on_with(out_dir: Path) -> bool:
    """Whether the plan of an unfinished run is one of this version of the program."""
    recorded = recorded_plan(out_dir) or {}
    version = importlib.metadata.version("genome-annotator")
    return (recorded.get("plan_version"), recorded.get("program")) == (PLAN_VERSION, version)


def lasting_files(run: dict[str, Any]) -> tuple[str, ...]:
    """Names of the files of a run that only a scan can make; the others are made from them.

    Args:
        run: Contents of run.json.
    """
    profiles = () if run.get(CALLED_FROM) else (PROFILES_JSON,)
    return (PREDICTIONS_FILE, CONTIGS_TSV, *profiles, *_track_names(run))


def _track_names(run: dict[str, Any]) -> tuple[str, ...]:
    """Names of the files of a run's tracks."""
    tracks = run.get(TRACKS) or {}
    return (*tracks, MAXIMA_FILE) if tracks else ()


def _are_there(folder: Path, run: dict[str, Any], names: Iterable[str]) -> bool:
    """Whether files of a finished run are there, with the size that its run.json tells."""
    for name in names:
        path = folder / name
        if name not in run["files"] or not os.path.isfile(path):  # False for any name, where Path may raise
            return False
        if path.stat().st_size != run["files"][name]["bytes"]:
            return False
    return True


def read_record(path: Path) -> dict[str, Any]:
    """Contents of a run.json or batch.json: any JSON object.

    Raises:
        UsageError: It cannot be read.
        InputError: It is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: damaged") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged")
    return content


def rows_of_files(run: dict[str, Any]) -> dict[str, int]:
    """Calls in each file of a finished run that holds calls, by name.

    Args:
        run: Contents of run.json.
    """
    others = {*BESIDE_CALLS, *_track_names(run)}
    return {name: entry["rows"] for name, entry in run["files"].items() if name not in others and not name.endswith(_INDICES)}


def total_counts(entries: list[FinishedShard]) -> Counter[str]:
    """Sum of the shards' counts."""
    total: Counter[str] = Counter()
    for entry in entries:
        total.update(entry.counts)
    return total


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else text[:57] + "..."
