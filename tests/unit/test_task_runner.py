"""Two halves of a piece of work: whose turn it is, how many go on together, faults of either half."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from annotator.pipeline.worker.order import WorkerReport
from annotator.pipeline.worker.runner import TaskRunner


class Halves:
    """A task that notes who is at work; a piece is (its number, the half in which it fails)."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._lock = threading.Lock()
        self.beginning = self.in_work = self.most_beginning = self.most_in_work = 0
        self.order: list[str] = []

    def setup(self) -> None: ...

    def announce(self, work: object) -> None: ...

    def report(self) -> WorkerReport:
        return WorkerReport(batch_bp=7)

    def begin(self, work: tuple[int, str]) -> Callable[[], int]:
        number, fails = work
        with self._lock:
            self.beginning += 1
            self.in_work += 1
            self.most_beginning = max(self.most_beginning, self.beginning)
            self.most_in_work = max(self.most_in_work, self.in_work)
            self.order.append(f"begin {number}")
        time.sleep(0.01)
        with self._lock:
            self.beginning -= 1
            self.in_work -= fails == "first"
        if fails == "first":
            raise ValueError(f"first half of {number}")

        def finish() -> int:
            time.sleep(0.04)
            with self._lock:
                self.in_work -= 1
                self.order.append(f"end {number}")
            if fails:
                raise ValueError(f"second half of {number}")
            return 10 * number

        return finish


def test_one_is_begun_at_a_time_and_the_others_are_finished_beside_it() -> None:
    task = Halves(at_once=3)
    runner = TaskRunner(task)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(runner.run, [(number, "") for number in range(9)]))
    assert done == [(10 * number, WorkerReport(batch_bp=7)) for number in range(9)]
    assert task.most_beginning == 1 and task.most_in_work == 3
    assert task.order.index("begin 1") < task.order.index("end 0")


def test_in_order_whoever_asks() -> None:
    task = Halves(at_once=1)
    runner = TaskRunner(task)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(runner.run, [(number, "") for number in range(4)]))
    assert [entry.split()[0] for entry in task.order] == ["begin", "end"] * 4


@pytest.mark.parametrize("half", ["first", "second"])
def test_a_fault_of_either_half_is_that_of_its_piece_and_the_others_go_on(half: str) -> None:
    task = Halves(at_once=2)
    runner = TaskRunner(task)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(runner.run, (number, half if number in (1, 2) else "")) for number in range(6)]
        for number, run in enumerate(runs):
            if number in (1, 2):
                with pytest.raises(ValueError, match=f"{half} half of {number}"):
                    run.result(10)
            else:
                assert run.result(10)[0] == 10 * number
    assert task.in_work == 0
