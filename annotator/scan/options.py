"""Sizes that the window engine works in by default; imports nothing heavy."""

from __future__ import annotations

BATCH_BP = {"cpu": 49_152, "cuda": 90 * 49_152}
"""Bases of a batch, per kind of device. The bits of a score depend on the shape of its batch, so whatever is to give the numbers
of a run takes these. Two batches of the bundled model on CUDA are one shard, so that hardly a row is there to fill up."""
