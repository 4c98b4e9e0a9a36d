"""The benchmark of launching beside shards that are finished: what it finishes are shards, and both go on together."""

from __future__ import annotations

import pytest

from benchmarks import interpreter_lock


def test_launching_beside_shards_that_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter_lock, "LAUNCHES", 2000)
    monkeypatch.setattr(interpreter_lock, "SHARD_BP", 100_000)
    data, info = interpreter_lock.finishing(500)()
    assert 40 <= info.rows <= 50 and data.startswith(b"PAR1")
    seconds, shards_per_s = interpreter_lock.beside("threads", 1, 500)
    assert seconds > 0 and shards_per_s >= 0
