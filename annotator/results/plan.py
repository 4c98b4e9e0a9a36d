"""The plan of a run: everything that decides its calls, as plain values. Two runs with equal plans write equal calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

PLAN_VERSION: Final = 3
"""Plans of another version are not compared with those of this program."""

CHOSEN: Final = ("batch_bp", "device", "precision", "shard_bp", "threads")
"""Values that the program chooses where the user does not; equally named in a plan and in `AnnotateOptions`."""

GIVEN: Final = "given"
"""Key of the list of those values that the user gave."""

COMMAND: Final = "command_sha256"
"""Key of the hash of what the user asked for, apart from those values; it tells the same command from another."""

LADDER: Final = "fdr_ladder"
"""Key of what decoys said of each threshold; the thresholds themselves are among the values."""

_NOTES = (GIVEN, COMMAND, LADDER)

_NAMED_ALIKE = ("bound", "clade", "fdr", "gaps_as_n", "mask_chars", "model", "motifs", "tasks", "thresholds", "tracks")
OPTION_OF: Final = {name: name for name in (*CHOSEN, *_NAMED_ALIKE)} | {
    "duplicate_names": "dup_names", "regions_sha256": "regions",
}  # fmt: skip
"""The option behind a value of the plan."""


@dataclass(frozen=True)
class RunPlan:
    """The plan of one assembly.

    Attributes:
        values: Everything that decides the calls, ready for JSON.
        given: Those values of CHOSEN that the user gave; the others follow a run that is already in the folder.
        command_sha256: Hash of what the user asked for; no part of what decides the calls.
        ladder: By kind of call, what decoys said of each threshold; None where they were not asked.
    """

    values: dict[str, Any]
    given: frozenset[str] = frozenset()
    command_sha256: str = ""
    ladder: dict[str, Any] | None = None

    @cached_property
    def sha256(self) -> str:
        """Hash of the values in canonical JSON; who chose them does not matter."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The plan as it stands in plan.json and run.json."""
        notes = {GIVEN: sorted(self.given), COMMAND: self.command_sha256}
        return self.values | notes | ({} if self.ladder is None else {LADDER: self.ladder})

    def with_thresholds(self, thresholds: Mapping[Any, float], ladder: dict[str, Any]) -> RunPlan:
        """The plan with thresholds that decoys gave, and what they said of others."""
        return replace(self, values=self.values | {"thresholds": dict(thresholds)}, ladder=ladder)

    def is_same(self, recorded: dict[str, Any]) -> bool:
        """Whether a recorded plan has the same values, those that the program chose included."""
        return RunPlan({name: value for name, value in recorded.items() if name not in _NOTES}).sha256 == self.sha256

    def differences(self, recorded: dict[str, Any], *, strict: bool = False) -> Iterator[tuple[str, Any, Any]]:
        """Values in which a recorded plan differs from what is asked for now.

        Args:
            recorded: Contents of a plan.json, or the plan of a run.json.
            strict: Look at what the program chose too. Without it such values are passed over, and so are the versions of
                libraries that only one of the two needs, because it runs on another device.

        Yields:
            (name, recorded value, value now).
        """
        for name in sorted((set(recorded) | set(self.values)).difference(_NOTES)):
            before, now = recorded.get(name), self.values.get(name)
            if name in CHOSEN and name not in self.given and not strict:
                continue
            if name == "libraries" and not strict and isinstance(before, dict) and isinstance(now, dict):
                before, now = ({key: side[key] for key in before.keys() & now.keys()} for side in (before, now))
            if before != now:
                yield name, before, now
