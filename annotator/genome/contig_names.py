"""Contig names of a file held against those of the genome: what is left out, and what the user may have meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from annotator.genome.headers import quote

_NAME_WORDS = {
    "chrom", "chr", "chromosome", "contig", "seqname", "seqnames", "seqid", "seq", "scaffold", "sequence", "reference", "name",
}  # fmt: skip
_START_WORD, _END_WORD = (
    re.compile(r"(?:chrom|tx|region)?[_. ]?(?:start|begin|from)$"),
    re.compile(r"(?:chrom|tx|region)?[_. ]?(?:end|stop|to)$"),
)
_SHOWN = 3


def is_header(fields: Sequence[str]) -> bool:
    """Whether the fields of a line are the names of columns: a contig, a start and an end, as UCSC and R write them."""
    words = [field.strip().strip('"').lstrip("#").lower() for field in fields]
    return (
        not any(word.isdigit() for word in words)
        and bool(_NAME_WORDS.intersection(words))
        and any(map(_START_WORD.match, words))
        and any(map(_END_WORD.match, words))
    )


def twin(name: str, known: Iterable[str]) -> str:
    """The known contig that naming habits (chr1 and 1, versions, case, M and MT) make the same as `name`; empty without one."""
    bare = name.lower().removeprefix("chr")
    mitochondrial = {"m": "mt", "mt": "m"}.get(bare, bare)
    candidates = {bare, mitochondrial, bare.split(".")[0]}
    for other in known:
        folded = other.lower().removeprefix("chr")
        if folded in candidates or folded.split(".")[0] in candidates:
            return other
    return ""


def listed(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(quote(name) for _, name in zip(range(_SHOWN), names, strict=False))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def none_shared(unknown: Collection[str], known: Collection[str]) -> str:
    """The complaint about a file that shares no contig with the genome: the names on both sides, and the likely cause."""
    first = next(iter(unknown))
    more = ", nor is any other of the file" if len(unknown) > 1 else ""
    said = f"contig {quote(first)} is not in the genome{more}: the file has {listed(unknown)}; the genome has {listed(known)}"
    for name in list(unknown)[:_SHOWN]:
        if meant := twin(name, known):
            return f"{said}; the genome calls {quote(name)} {quote(meant)}: rename one of the two"
    return said


def left_out(lines: int, unknown: Collection[str], known: Collection[str]) -> str:
    """The words for lines on contigs that the genome lacks, with a hint where a name is only spelt differently."""
    said = f"{lines:,} line{'s' if lines != 1 else ''} on contigs that the genome lacks left out ({listed(unknown)})"
    for name in list(unknown)[:_SHOWN]:
        if meant := twin(name, known):
            return f"{said}; does {quote(name)} mean {quote(meant)}?"
    return said
