"""Warnings about an input file, bounded however many records share the same oddity."""

from __future__ import annotations

LINES_PER_KIND = 20


class WarningLog:
    """Collects warning lines by kind, keeps the first of each kind and counts the rest."""

    def __init__(self) -> None:
        """Start without warnings."""
        self._lines: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, line: str) -> None:
        """Note one warning.

        Args:
            kind: The oddity that such lines report, in words that follow a count ("empty records").
            line: The line itself; dropped (but counted) once its kind has LINES_PER_KIND lines.
        """
        self._counts[kind] = self._counts.get(kind, 0) + 1
        lines = self._lines.setdefault(kind, [])
        if len(lines) < LINES_PER_KIND:
            lines.append(line)

    def lines(self) -> list[str]:
        """All kept lines, grouped by kind, with one counting line for each kind that had more."""
        result: list[str] = []
        for kind, lines in self._lines.items():
            result.extend(lines)
            if self._counts[kind] > len(lines):
                result.append(f"{kind}: {self._counts[kind]} in all, the first {len(lines)} are listed")
        return result
