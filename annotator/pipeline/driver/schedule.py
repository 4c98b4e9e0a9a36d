"""The assignment of shards to workers: bookkeeping without I/O and without a clock of its own, so that it can be simulated.

A worker holds up to `depth` shards: it works on the first and has others at hand. Shards go out in genome order, so that what
is finished can be merged, and those of the assembly that was given first come first. When a worker dies, what it held goes back
and is tried again alone, so that a shard which kills its workers is told from its neighbours; a shard that was tried too often is
given up.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

Key = tuple[int, int]
"""(assembly, shard)."""

FIRST_DEADLINE_S = 3600.0
LEAST_DEADLINE_S = 120.0
DEADLINE_FACTOR = 10.0
MOST_LOSSES = 20
"""A shard with which so many workers were lost is given up even where nodes seem to be to blame: it may be what ends them."""


@dataclass
class Lease:
    """A shard on its way.

    Attributes:
        key: Assembly and shard.
        bases: Bases that the shard owns.
        attempts: Workers that failed on it.
        losses: Workers that were lost with it, whoever was to blame.
        began: When a worker began to work on it, seconds; None while it waits behind another.
    """

    key: Key
    bases: int
    attempts: int = 0
    losses: int = 0
    began: float | None = None


@dataclass(frozen=True)
class GivenUp:
    """A shard that was tried too often."""

    key: Key
    reason: str


@dataclass
class Schedule:
    """The shards of a run that are not done.

    Attributes:
        depth: Shards a worker may hold.
        most_attempts: A shard that failed so often is given up.
        deadline_s: Seconds a worker may take for a shard; 0 for 10 times the slowest rate seen, at least two minutes.
        expected: Workers that are ready or about to be; told by whoever starts them.
        least_bases: A shard of fewer takes as long as one of so many: a batch, which is filled up.
    """

    depth: int = 2
    most_attempts: int = 4
    deadline_s: float = 0.0
    least_bases: int = 1
    expected: int = 0
    _waiting: list[tuple[Key, Lease]] = field(default_factory=list)
    _suspects: list[Lease] = field(default_factory=list)
    _held: dict[str, list[Lease]] = field(default_factory=dict)
    _alone: set[str] = field(default_factory=set)
    _slowest: float = 0.0

    def add(self, key: Key, bases: int) -> None:
        """A shard to be done."""
        heapq.heappush(self._waiting, (key, Lease(key, bases)))

    def join(self, worker: str) -> None:
        """A worker is ready."""
        self._held[worker] = []

    def withdraw(self, assembly: int) -> None:
        """Forget the shards of an assembly that wait; what workers hold is ignored when it comes back."""
        self._waiting = [entry for entry in self._waiting if entry[0][0] != assembly]
        heapq.heapify(self._waiting)
        self._suspects = [lease for lease in self._suspects if lease.key[0] != assembly]
        for leases in self._held.values():
            for lease in leases:
                if lease.key[0] == assembly:
                    lease.attempts = -1  # whatever becomes of it

    @property
    def workers(self) -> int:
        """Workers that are ready."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Shards that no worker holds."""
        return len(self._waiting) + len(self._suspects)

    @property
    def in_flight(self) -> int:
        """Shards that workers hold."""
        return sum(map(len, self._held.values()))

    def assign(self, now: float) -> Iterator[tuple[str, Key]]:
        """Hand out shards to the workers that can take one.

        Yields:
            (worker, shard), until nobody can take another.
        """
        for room in range(self.depth):
            for worker, leases in list(self._held.items()):
                if len(leases) == room and (lease := self._next_for(worker, leases)) is not None:
                    lease.began = None if leases else now
                    leases.append(lease)
                    yield worker, lease.key

    def _next_for(self, worker: str, leases: list[Lease]) -> Lease | None:
        if worker in self._alone:
            return None
        if not leases and self._suspects:
            self._alone.add(worker)
            return self._suspects.pop(0)
        # Another one only while there are as many for every worker, since at the end it would wait behind the first while another
        # worker is idle; and not while a suspect waits for a worker that holds nothing.
        plenty = len(self._waiting) > len(leases) * max(self.expected, len(self._held))
        if not self._waiting or (leases and (self._suspects or not plenty)):
            return None
        return heapq.heappop(self._waiting)[1]

    def finished(self, worker: str, key: Key, now: float) -> bool:
        """A worker has done a shard; False where nobody waits for it any more."""
        lease = self._take_back(worker, key, now)
        if lease is None or lease.attempts < 0:
            return False
        if lease.began is not None:
            self._slowest = max(self._slowest, (now - lease.began) / max(self.least_bases, lease.bases))
        return True

    def failed(self, worker: str, key: Key, reason: str, now: float, *, again: bool = True) -> GivenUp | None:
        """A worker could not do a shard, and lives on; without `again` the shard is given up at once."""
        lease = self._take_back(worker, key, now)
        if lease is not None and not again and lease.attempts >= 0:
            return GivenUp(key, reason)
        return None if lease is None else self._try_again(lease, reason, blame=True)

    def lost(self, worker: str, reason: str, *, blame: bool) -> list[GivenUp]:
        """A worker is gone; with `blame`, one of the shards it held may have been the cause."""
        self._alone.discard(worker)
        verdicts = [self._try_again(lease, reason, blame=blame) for lease in self._held.pop(worker, [])]
        return [verdict for verdict in verdicts if verdict is not None]

    def _take_back(self, worker: str, key: Key, now: float) -> Lease | None:
        leases = self._held.get(worker, [])
        for lease in leases:
            if lease.key == key:
                leases.remove(lease)
                self._alone.discard(worker)
                if leases and leases[0].began is None:
                    leases[0].began = now
                return lease
        return None

    def _try_again(self, lease: Lease, reason: str, *, blame: bool) -> GivenUp | None:
        if lease.attempts < 0:
            return None
        lease.attempts, lease.losses, lease.began = lease.attempts + blame, lease.losses + 1, None
        if lease.attempts >= self.most_attempts or lease.losses >= MOST_LOSSES:
            return GivenUp(lease.key, reason)
        if lease.attempts:
            self._suspects.append(lease)
        else:
            heapq.heappush(self._waiting, (lease.key, lease))
        return None

    def overdue(self, now: float) -> list[tuple[str, Key, float]]:
        """(worker, shard, seconds allowed) of every worker that takes too long."""
        late = []
        for worker, leases in self._held.items():
            if leases and leases[0].began is not None:
                allowed = self.allowed_s(leases[0].bases)
                if now - leases[0].began > allowed:
                    late.append((worker, leases[0].key, allowed))
        return late

    def allowed_s(self, bases: int) -> float:
        """Seconds a worker may take for a shard of so many bases."""
        if self.deadline_s:
            return self.deadline_s
        slowest_s = self._slowest * max(self.least_bases, bases)
        return max(LEAST_DEADLINE_S, DEADLINE_FACTOR * slowest_s) if self._slowest else FIRST_DEADLINE_S
