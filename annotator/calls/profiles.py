"""Composition profiles: which bases stand around the calls of a run, counted where the bases are at hand.

Offsets run in reading direction of the call's strand: offset 0 is the base at the call's `position`, negative ones lie upstream.
On the minus strand the complement is counted. Bases beyond the contig count as nothing.

Counts are whole numbers that are added up, so a profile does not depend on how the genome was cut or in which order shards ended.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.errors import InputError
from annotator.genome.plan import Span
from annotator.genome.shard_input import CONTEXT_BP, ShardInput
from annotator.kinds import KINDS, Kind
from annotator.scan.block import Block

LETTERS: Final = "ACGTN"
OFFSETS: Final = np.arange(-50, 51)
PAIRS: Final = tuple(first + second for first in "ACGT" for second in "ACGT")
PAIRED: Final = (Kind.PROMOTER,)
"""Kinds around whose calls pairs of neighbouring bases are counted too."""
_CALLS_AT_ONCE: Final = 1 << 15
"""Calls whose surroundings are held in memory together: about 30 MB."""

_CODES: Final = np.full((2, 256), LETTERS.index("N"), np.uint8)
"""Index into LETTERS of an ASCII base, and of its complement."""
for _plus, _minus in zip("ACGT", "TGCA", strict=True):
    _CODES[:, ord(_plus)] = LETTERS.index(_plus), LETTERS.index(_minus)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The bases of a shard and of at least CONTEXT_BP on either side of each of its spans, end to end.

    Attributes:
        bases: ASCII, uint8, [n].
        start: Contig position of the first base held for each span, int64; below 0 where padding stands before the contig.
        offset: Index in `bases` of that first base, int64.
    """

    bases: NDArray[np.uint8]
    start: NDArray[np.int64]
    offset: NDArray[np.int64]


def surroundings(shard: ShardInput, block: Block, halo_bp: int) -> Surroundings:
    """The surroundings of a shard's calls: those of its block, or read anew where its windows see less than CONTEXT_BP.

    Args:
        shard: The shard.
        block: Its bases with the context of its windows.
        halo_bp: Context of a window on either side.

    Raises:
        InputError: The FASTA changed under the run.
    """
    if halo_bp >= CONTEXT_BP:
        return Surroundings(block.bases, block.windows.stretch_start, block.windows.stretch_offset[:-1])
    return read_surroundings(shard)


def read_surroundings(shard: ShardInput) -> Surroundings:
    """The surroundings of a shard's calls, read from its genome.

    Raises:
        InputError: The FASTA changed under the run.
    """
    start = np.array([max(0, span.start - CONTEXT_BP) for span in shard.spans], np.int64)
    end = [min(int(shard.lengths[span.contig]), span.end + CONTEXT_BP) for span in shard.spans]
    pieces = [shard.bases.read(span.contig, *ends) for span, *ends in zip(shard.spans, start.tolist(), end, strict=True)]
    sizes = np.array([len(piece) for piece in pieces], np.int64)
    return Surroundings(np.concatenate(pieces), start, np.cumsum(sizes) - sizes)


@dataclass(eq=False)
class Profile:
    """Bases around the calls of one kind, or of one kind and name.

    Attributes:
        kind: Kind of the calls.
        name: Name of the user's own track; None for kinds that are not told apart by name.
        calls: How many calls were counted.
        counts: Bases by offset and letter, int64, [101, 5]: rows follow OFFSETS, columns LETTERS. A row sums up to less than
            `calls` where contigs end.
        pairs: Pairs of neighbouring bases by the offset of the first, int64, [100, 16]: columns PAIRS. Those with N count as
            nothing. None for kinds that are not `PAIRED`.
    """

    kind: Kind
    name: str | None
    calls: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(OFFSETS), len(LETTERS)), np.int64))
    pairs: NDArray[np.int64] | None = None

    def add(self, calls: int, counts: NDArray[np.int64], pairs: NDArray[np.int64] | None = None) -> None:
        """Count further calls."""
        self.calls += calls
        self.counts += counts
        if pairs is not None:
            self.pairs = pairs.copy() if self.pairs is None else self.pairs + pairs

    def as_json(self) -> dict[str, Any]:
        """The profile as plain values."""
        pairs = {} if self.pairs is None else {"pairs": self.pairs.tolist()}
        return {"kind": self.kind, "name": self.name, "calls": self.calls, "counts": self.counts.tolist()} | pairs


@dataclass(frozen=True, eq=False)
class PartProfile:
    """What one part of a run adds to a profile.

    Only the first and the last contig of a shard can go on in another shard, which may fail: what was counted on them stands
    apart, so that it can be left out with its contig. The contigs between fail or succeed with their one shard.

    Attributes:
        contig: Name of the contig; None for all contigs between the first and the last.
        profile: The counts.
    """

    contig: str | None
    profile: Profile


def count_profiles(
    calls: Calls, shard: ShardInput, around: Surroundings, labels: Sequence[tuple[str | None, str]]
) -> list[PartProfile]:
    """Count the bases around the calls of a shard.

    Args:
        calls: The calls; the position of each lies in a span of the shard.
        shard: The shard.
        around: Its bases.
        labels: (matrix id, name) of the run's motifs and (None, name) of its features; `calls.motif` indexes them.

    Returns:
        One for each kind (and name) with calls on each group of contigs, in a fixed order.
    """
    if not len(calls):
        return []
    span = span_of(calls, shard.spans, shard.lengths)
    index = around.offset[span] + calls.position - around.start[span]
    first, last = shard.spans[0].contig, shard.spans[-1].contig
    group = np.where(calls.contig == first, 0, np.where(calls.contig == last, 2, 1))
    contigs = (shard.names[first], None, shard.names[last])
    label = np.where(calls.kind == Kind.FEATURE.code, calls.motif, -1)
    keys, inverse = np.unique(np.stack([group, calls.kind, label]), axis=1, return_inverse=True)
    found = []
    for number, (where, kind, name) in enumerate(keys.T.tolist()):
        rows = np.flatnonzero(inverse.ravel() == number)
        profile = Profile(KINDS[kind], labels[name][1] if name >= 0 else None)
        for begin in range(0, len(rows), _CALLS_AT_ONCE):
            some = rows[begin : begin + _CALLS_AT_ONCE]
            length = shard.lengths[calls.contig[some]]
            codes = _codes(around.bases, index[some], calls.position[some], calls.strand[some], length)
            profile.add(len(some), _counts(codes), _pairs(codes) if profile.kind in PAIRED else None)
        found.append(PartProfile(contigs[where], profile))
    return found


def span_of(calls: Calls, spans: Sequence[Span], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the span in which each call's position lies, int64, [n]."""
    before = np.cumsum(lengths) - lengths  # contigs end to end: one number line for all of them
    starts = np.array([before[span.contig] + span.start for span in spans], np.int64)
    found: NDArray[np.int64] = np.searchsorted(starts, before[calls.contig] + calls.position, side="right") - 1
    return found


def _codes(
    bases: NDArray[np.uint8], index: NDArray[np.int64], position: NDArray[np.int64], strand: NDArray[np.int8],
    length: NDArray[np.int64],
) -> NDArray[np.uint8]:  # fmt: skip
    """Letters around calls at `index` of `bases` and `position` of their contigs, [n, 101]; len(LETTERS) beyond a contig."""
    steps = OFFSETS[None, :] * strand[:, None].astype(np.int64)
    on_contig = (position[:, None] + steps >= 0) & (position[:, None] + steps < length[:, None])
    letters = bases[np.where(on_contig, index[:, None] + steps, index[:, None])]
    codes: NDArray[np.uint8] = np.where(strand[:, None] > 0, _CODES[0][letters], _CODES[1][letters])
    codes[~on_contig] = len(LETTERS)
    return codes


def _counts(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bases by offset and letter, int64, [101, 5]."""
    return np.stack([(codes == code).sum(0) for code in range(len(LETTERS))], axis=1).astype(np.int64)


def _pairs(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pairs of neighbouring bases by offset, int64, [100, 16]."""
    first, second = codes[:, :-1].astype(np.int64), codes[:, 1:].astype(np.int64)
    known = (first < 4) & (second < 4)
    places = np.arange(len(OFFSETS) - 1) * len(PAIRS) + 4 * first + second
    counted: NDArray[np.int64] = np.bincount(places[known], minlength=(len(OFFSETS) - 1) * len(PAIRS)).astype(np.int64)
    return counted.reshape(-1, len(PAIRS))


def profiles_to_text(profiles: Iterable[PartProfile]) -> str:
    """The profiles of a part as text that is kept inside the part, and is no longer than it has to be."""
    rows = []
    for each in profiles:
        profile = each.profile
        numbers = [text for counts in (profile.counts, profile.pairs) if counts is not None for text in _as_text(counts)]
        rows.append([each.contig, profile.kind, profile.name, profile.calls, *numbers])
    return json.dumps(rows)


def profiles_from_text(text: str, source: str) -> list[PartProfile]:
    """The profiles of a part.

    Args:
        text: A result of `profiles_to_text`.
        source: Where it stood, for the message.

    Raises:
        InputError: It is something else.
    """
    try:
        return [
            PartProfile(contig, Profile(Kind(kind), name, calls, _shaped(_from_text(*numbers[:2])), _paired(*numbers[2:])))
            for contig, kind, name, calls, *numbers in json.loads(text)
        ]
    except (ValueError, TypeError):
        raise InputError(f"{source}: its profiles are damaged") from None


def sum_profiles(
    parts: Iterable[Iterable[PartProfile]], kinds: Collection[Kind], features: Sequence[str], leave_out: Collection[str]
) -> list[Profile]:
    """The profiles of a run.

    Args:
        parts: The profiles of each part, in any order.
        kinds: Kinds that the run reports.
        features: Names of the user's own tracks; each has a profile of its own in place of one for the kind `feature`.
        leave_out: Contigs whose calls the run does not report.

    Returns:
        One profile for every kind, or kind and name, in order of their names, without calls too.
    """
    names = [(kind, name) for kind in sorted(kinds) for name in (features if kind is Kind.FEATURE else (None,))]
    total = {key: _empty(*key) for key in sorted(names, key=lambda key: (key[0], key[1] or ""))}
    for part in parts:
        for each in part:
            if each.contig is None or each.contig not in leave_out:
                total[each.profile.kind, each.profile.name].add(each.profile.calls, each.profile.counts, each.profile.pairs)
    return list(total.values())


def _empty(kind: Kind, name: str | None) -> Profile:
    """A profile that nothing is counted in."""
    return Profile(kind, name, pairs=np.zeros((len(OFFSETS) - 1, len(PAIRS)), np.int64) if kind in PAIRED else None)


def profiles_json(profiles: Iterable[Profile]) -> str:
    """The text of profiles.json."""
    content = {
        "profiles_json_version": 1, "letters": LETTERS, "first_offset": int(OFFSETS[0]), "last_offset": int(OFFSETS[-1]),
        "profiles": [profile.as_json() for profile in profiles],
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":")) + "\n"


def read_profiles(text: str, source: str) -> list[Profile]:
    """The profiles of a profiles.json.

    Args:
        text: A result of `profiles_json`.
        source: Where it stood, for the message.

    Raises:
        InputError: It is something else.
    """
    try:
        content = json.loads(text)
        if content["letters"] == LETTERS and content["first_offset"] == OFFSETS[0]:
            return [_profile(row) for row in content["profiles"]]
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{source}: is not a profiles.json of this program")


def _profile(row: dict[str, Any]) -> Profile:
    """The profile of `Profile.as_json`."""
    name = None if row["name"] is None else str(row["name"])
    pairs = _paired_shape(np.array(row["pairs"])) if "pairs" in row else None
    return Profile(Kind(row["kind"]), name, int(row["calls"]), _shaped(np.array(row["counts"])), pairs)


def _as_text(counts: NDArray[np.int64]) -> tuple[str, str]:
    """Kind of number and numbers of an array, as short as can be."""
    kind_of_number = np.min_scalar_type(int(counts.max(initial=0))).newbyteorder("<")
    return kind_of_number.str, base64.b64encode(counts.astype(kind_of_number).tobytes()).decode()


def _from_text(number: str, counts: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(counts), number)


def _paired(*numbers: str) -> NDArray[np.int64] | None:
    return _paired_shape(_from_text(*numbers)) if numbers else None


def _paired_shape(pairs: NDArray[Any]) -> NDArray[np.int64]:
    """Pairs by offset, int64, [100, 16]; ValueError where their number is another."""
    return pairs.astype(np.int64).reshape(len(OFFSETS) - 1, len(PAIRS))


def _shaped(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Counts by offset and letter, int64, [101, 5]; ValueError where their number is another."""
    return counts.astype(np.int64).reshape(len(OFFSETS), len(LETTERS))
