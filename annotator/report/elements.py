"""The pieces of a report: tables, figures that have one, and sections. All text is escaped here, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from annotator.kinds import Kind

Cell = str | int | float | None
MOST_ROWS: Final = 200
"""Rows of a table; how many more there are is said below it."""
_PRINTED_ROWS: Final = 25
"""Tables of pictures with so many rows or fewer are printed with them."""


def colour(kind: Kind) -> str:
    """Colour of a kind, as CSS writes it; black would not be seen on a dark page."""
    return "var(--ink)" if kind.row.colour == (0, 0, 0) else kind.hex_colour


@dataclass(frozen=True)
class Table:
    """A table; numbers stand to the right, None is a dash.

    Attributes:
        caption: What it holds.
        head: Names of the columns.
        rows: Its rows.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def html(self) -> str:
        """The table, in a box that scrolls where it is long."""
        numeric = [all(row[at] is None or isinstance(row[at], int | float) for row in self.rows) for at in range(len(self.head))]
        kinds = [' class="number"' if number else "" for number in numeric]
        head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(self.head, kinds, strict=True))
        body = "".join(_row(row, kinds) for row in self.rows[:MOST_ROWS])
        more = len(self.rows) - MOST_ROWS
        note = f"<p>{more:,} more rows are not listed.</p>" if more > 0 else ""
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(self.caption)}"><table>'
            f"<caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
        )


@dataclass(frozen=True)
class Figure:
    """A picture with its figures.

    Attributes:
        title: What it shows.
        svg: The picture, and its key.
        table: The same as numbers.
        note: A sentence below it.
    """

    title: str
    svg: str
    table: Table
    note: str = ""

    def html(self) -> str:
        """The figure; its table opens below it."""
        short = ' class="short"' if len(self.table.rows) <= _PRINTED_ROWS else ""
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return (
            f"<figure><figcaption>{escape(self.title)}</figcaption>{self.svg}{note}"
            f"<details{short}><summary>Table: {escape(self.title)}</summary>{self.table.html()}</details></figure>"
        )


@dataclass(frozen=True)
class Section:
    """A part of a report under a heading.

    Attributes:
        name: Letters that links use.
        title: Its heading.
        parts: Figures, tables, and sentences.
    """

    name: str
    title: str
    parts: Sequence[Figure | Table | str]

    def html(self) -> str:
        """The section."""
        parts = "".join(f"<p>{escape(part)}</p>\n" if isinstance(part, str) else part.html() + "\n" for part in self.parts)
        return f'<section aria-labelledby="{self.name}"><h2 id="{self.name}">{escape(self.title)}</h2>\n{parts}</section>\n'


def _row(row: Sequence[Cell], kinds: Sequence[str]) -> str:
    cells = [f"<td{kind}>{escape(_shown(cell))}</td>" for cell, kind in zip(row, kinds, strict=True)]
    return f"<tr>{''.join(cells)}</tr>"


def _shown(cell: Cell) -> str:
    match cell:
        case None:
            return "–"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
        case _:
            return cell
