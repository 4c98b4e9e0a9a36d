"""Contig names that occur twice: refused, or renamed on request."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.headers import quote
from annotator.genome.warning_log import WarningLog

_LISTED = 10


def refuse_duplicates(label: str, names: list[str], lines: NDArray[np.int64]) -> None:
    """Raise where a name occurs twice.

    Args:
        label: The file's name for the message.
        names: Contig names in file order.
        lines: Line of each header, 1-based, int64, [contigs].

    Raises:
        InputError: A name occurs twice; the message lists the first ten such names with their lines.
    """
    if len(set(names)) == len(names):
        return
    where: dict[str, list[int]] = {name: [] for name, count in Counter(names).items() if count > 1}
    for name, line in zip(names, lines.tolist(), strict=True):
        if name in where:
            where[name].append(line)
    listed = [f"{quote(name)} (lines {_join(at)})" for name, at in list(where.items())[:_LISTED]]
    more = f" and {len(where) - _LISTED} more" if len(where) > _LISTED else ""
    raise InputError(f'{label}: duplicate contig names: {", ".join(listed)}{more}; `dup_names="suffix"` renames them')


def rename_duplicates(names: list[str], warnings: WarningLog) -> list[str]:
    """Names made unique: the second `a` becomes a_2, the third a_3; a suffix that is taken is passed over.

    Args:
        names: Contig names in file order.
        warnings: Gets one line for each renamed contig.

    Returns:
        Unique names, in the same order; the first of each name keeps it.
    """
    taken = set(names)
    if len(taken) == len(names):
        return names
    seen: Counter[str] = Counter()
    result: list[str] = []
    for name in names:
        seen[name] += 1
        unique = name
        if seen[name] > 1:
            while unique in taken:
                unique = f"{name}_{seen[name]}"
                seen[name] += unique in taken
            taken.add(unique)
            warnings.add("renamed duplicates", f"duplicate contig name {quote(name)} renamed to {quote(unique)}")
        result.append(unique)
    return result


def _join(lines: list[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:3])
    return shown + (", ..." if len(lines) > 3 else "")
