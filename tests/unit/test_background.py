"""Tasks beside the main loop: how many at a time, their errors, and their early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from annotator.errors import InputError
from annotator.pipeline.driver.background import Background, Stopped

Tick = Callable[[], None]


def collect(background: Background, count: int) -> list[tuple[object, BaseException | None]]:
    ended: list[tuple[object, BaseException | None]] = []
    deadline = time.monotonic() + 20
    while len(ended) < count and time.monotonic() < deadline:
        background.wait(0.5)
        ended += background.done()
    return ended


def test_here_is_this_thread_and_elsewhere_is_another() -> None:
    background, seen = Background(), []
    for here in (True, False):
        background.run(here, lambda tick: seen.append(threading.current_thread()), here=here)
        assert collect(background, 1) == [(here, None)]
    assert seen[0] is threading.main_thread() and seen[1] is not threading.main_thread()
    background.stop()


def test_errors_come_back_with_the_label_and_the_next_task_runs() -> None:
    background = Background()

    def fails(tick: Tick) -> None:
        raise InputError("bad")

    background.run("a", fails, here=False)
    background.run("b", lambda tick: None, here=False)
    (a, error), (b, none) = collect(background, 2)
    assert (a, str(error), b, none) == ("a", "bad", "b", None) and not background.busy
    background.run("c", fails, here=True)
    assert [str(error) for _, error in background.done()] == ["bad"]
    with pytest.raises(KeyboardInterrupt):
        background.run("d", interrupted, here=True)
    background.stop()


def interrupted(tick: Tick) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_no_more_tasks_at_a_time_than_threads(threads: int) -> None:
    background = Background(threads)
    lock, now, most = threading.Lock(), 0, 0

    def task(tick: Tick) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1

    for number in range(12):
        assert background.has_room == (number < threads) or number >= threads
        background.run(number, task, here=False)
    assert not background.has_room
    ended = collect(background, 12)
    assert sorted(label for label, _ in ended) == list(range(12)) and most == threads and background.has_room
    background.stop()


def test_stopping_ends_what_runs_at_its_next_tick_and_drops_the_rest() -> None:
    background, seen = Background(2), []

    def endless(tick: Tick) -> None:
        try:
            while True:
                tick()
                time.sleep(0.01)
        except Stopped:
            seen.append("stopped")
            raise

    before = threading.active_count()
    for label in range(4):
        background.run(label, endless, here=False)
    time.sleep(0.1)
    background.stop()
    assert seen == ["stopped", "stopped"] and threading.active_count() == before
