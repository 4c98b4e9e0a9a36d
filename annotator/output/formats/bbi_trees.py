"""The two trees of a bigBed or bigWig: from names of contigs to their numbers, and from stretches of contigs to blocks.

Coordinates: 0-based half-open, 32 bits. Source: as of `annotator/output/formats/bbi.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_TREE_MAGIC: Final = 0x78CA8C91
_INDEX_MAGIC: Final = 0x2468ACE0
_FANOUT: Final = 256
"""Children of a node."""
_MASK: Final = (1 << 32) - 1
LEAF: Final = np.dtype(
    [("contig", "<u4"), ("start", "<u4"), ("last_contig", "<u4"), ("end", "<u4"), ("offset", "<u8"), ("size", "<u8")]
)
"""A block, as an index has it: where it begins and ends, and where it lies in the file."""


def contig_tree(names: Sequence[str], lengths: Sequence[int], at: int) -> bytes:
    """The B+ tree from the name of a contig to its number and length.

    Args:
        names: Contigs in the order of their numbers.
        lengths: Their lengths in bp.
        at: Byte of the file at which it stands.
    """
    texts = [name.encode() for name in names]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    width = max(map(len, texts), default=1)
    keys = [texts[number].ljust(width, b"\0") for number in order]
    leaves = [key + struct.pack("<II", number, lengths[number]) for key, number in zip(keys, order, strict=True)]
    levels = []
    while len(keys) > _FANOUT:
        keys = keys[::_FANOUT]
        levels.append(keys)
    head = struct.pack("<4IQQ", _TREE_MAGIC, _FANOUT, width, 8, len(texts), 0)
    return head + _nodes(leaves, levels, at + len(head))


def block_index(leaves: NDArray[np.void], at: int, end_of_data: int, items: int) -> bytes:
    """The R tree from stretches of contigs to blocks.

    Args:
        leaves: The blocks in order, `LEAF`, [n].
        at: Byte of the file at which it stands.
        end_of_data: Byte at which the blocks end.
        items: Rows of a block at the most.
    """
    low = leaves["contig"].astype(np.int64) << 32 | leaves["start"]
    high = leaves["last_contig"].astype(np.int64) << 32 | leaves["end"]
    levels = []
    while len(low) > _FANOUT:
        first = np.arange(0, len(low), _FANOUT)
        low, high = low[first], np.maximum.reduceat(high, first)
        levels.append(_bounds(low, high))
    whole = _bounds(low[:1], high.max(keepdims=True))[0] if len(low) else bytes(16)
    head = struct.pack("<IIQ", _INDEX_MAGIC, _FANOUT, len(leaves)) + whole + struct.pack("<QII", end_of_data, items, 0)
    return head + _nodes([leaf.tobytes() for leaf in leaves], levels, at + len(head))


def _bounds(low: NDArray[np.int64], high: NDArray[np.int64]) -> list[bytes]:
    """First contig and base, last contig and end of some nodes, as an index has them."""
    return [struct.pack("<4I", a >> 32, a & _MASK, b >> 32, b & _MASK) for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def _nodes(leaves: list[bytes], keys: list[list[bytes]], at: int) -> bytes:
    """The nodes of a tree, the root first, then level by level; only the last of a level may have fewer items than it holds.

    Args:
        leaves: Items of the lowest level.
        keys: For each level above, from the lowest up: what stands before the place of each child.
        at: Byte of the file at which the root stands.
    """
    levels = [leaves, *keys]
    sizes = [len(leaves[0]) if leaves else 0, *(len(level[0]) + 8 for level in keys)]
    places, end = [0] * len(levels), at
    for level in range(len(levels) - 1, -1, -1):
        places[level] = end
        end += 4 * max(1, -(-len(levels[level]) // _FANOUT)) + len(levels[level]) * sizes[level]
    pieces = []
    for level in range(len(levels) - 1, -1, -1):
        items = levels[level]
        if level:
            child_bytes = 4 + _FANOUT * sizes[level - 1]
            items = [key + struct.pack("<Q", places[level - 1] + child * child_bytes) for child, key in enumerate(items)]
        for first in range(0, max(1, len(items)), _FANOUT):
            mine = items[first : first + _FANOUT]
            pieces += [struct.pack("<BBH", level == 0, 0, len(mine)), *mine]
    return b"".join(pieces)
