"""Who works on what: order, depth, retries, blame, deadlines."""

from __future__ import annotations

import random

import pytest

from annotator.pipeline.driver.schedule import DEADLINE_FACTOR, FIRST_DEADLINE_S, LEAST_DEADLINE_S, MOST_LOSSES, GivenUp, Schedule


def schedule_of(bases: list[int], workers: int = 1, **options: float) -> Schedule:
    schedule = Schedule(**options)  # type: ignore[arg-type]
    for shard, count in enumerate(bases):
        schedule.add((0, shard), count)
    for worker in range(workers):
        schedule.join(f"w{worker}")
    return schedule


def given(schedule: Schedule, now: float = 0.0) -> list[tuple[str, int]]:
    return [(worker, shard) for worker, (_, shard) in schedule.assign(now)]


def test_in_genome_order_and_one_more_at_hand() -> None:
    schedule = schedule_of([5, 9, 7, 1, 1, 1, 1, 1], workers=2)
    assert given(schedule) == [("w0", 0), ("w1", 1), ("w0", 2), ("w1", 3)]
    assert given(schedule) == []
    assert schedule.finished("w0", (0, 0), 1.0)
    assert given(schedule) == [("w0", 4)]


def test_at_the_end_nothing_waits_behind_a_busy_worker() -> None:
    schedule = schedule_of([1, 1, 1], workers=2)
    assert given(schedule) == [("w0", 0), ("w1", 1)]
    assert schedule.waiting == 1 and schedule.in_flight == 2
    schedule.finished("w1", (0, 1), 1.0)
    assert given(schedule) == [("w1", 2)]


def test_many_at_hand_while_there_is_plenty_and_one_at_the_end() -> None:
    schedule = schedule_of([1] * 60, workers=3, depth=8)
    held: dict[str, list[int]] = {"w0": [], "w1": [], "w2": []}
    most = 0
    for turn in range(60):
        for worker, shard in given(schedule):
            held[worker].append(shard)
        most = max(most, *map(len, held.values()))
        if not schedule.waiting:
            assert all(len(shards) <= 2 for shards in held.values())
        worker = f"w{turn % 3}"
        assert schedule.finished(worker, (0, held[worker].pop(0)), float(turn))
    assert most == 8 and schedule.waiting == schedule.in_flight == 0


def test_workers_that_are_still_starting_are_left_something() -> None:
    schedule = schedule_of([1, 1, 1, 1], workers=1)
    schedule.expected = 4
    assert given(schedule) == [("w0", 0)]


def test_what_a_dead_worker_held_is_tried_again_alone() -> None:
    schedule = schedule_of([9, 8, 1, 1, 1], workers=1)
    assert given(schedule) == [("w0", 0), ("w0", 1)]
    assert schedule.lost("w0", "killed", blame=True) == []
    schedule.join("w1")
    assert given(schedule) == [("w1", 0)]  # alone, though there is plenty
    schedule.finished("w1", (0, 0), 1.0)
    assert given(schedule) == [("w1", 1)]
    schedule.finished("w1", (0, 1), 2.0)
    assert len(given(schedule)) == 2


def test_a_shard_that_kills_its_workers_is_given_up_and_its_neighbour_is_not() -> None:
    schedule = schedule_of([9, 8, 1, 1], workers=1)
    deaths = 0
    verdicts: list[GivenUp] = []
    finished = set()
    worker = "w0"
    for _ in range(50):
        held = list(schedule.assign(0.0))
        if not held and not schedule.in_flight:
            break
        holding = {lease.key[1] for lease in schedule._held[worker]}
        if 0 in holding:
            deaths += 1
            verdicts += schedule.lost(worker, f"death {deaths}", blame=True)
            worker = f"w{deaths}"
            schedule.join(worker)
        else:
            for shard in holding:
                assert schedule.finished(worker, (0, shard), 0.0)
                finished.add(shard)
    assert deaths == 4 and verdicts == [GivenUp((0, 0), "death 4")] and finished == {1, 2, 3}


def test_a_lost_node_is_nobodys_fault_until_it_happens_too_often() -> None:
    schedule = schedule_of([9], workers=1)
    for loss in range(MOST_LOSSES):
        worker = f"w{loss}"
        assert given(schedule) == [(worker, 0)]
        given_up = schedule.lost(worker, "node gone", blame=False)
        assert given_up == ([GivenUp((0, 0), "node gone")] if loss == MOST_LOSSES - 1 else [])
        schedule.join(f"w{loss + 1}")


def test_small_shards_do_not_spoil_the_deadline() -> None:
    schedule = schedule_of([10_000, 10], workers=1, least_bases=1000)
    list(schedule.assign(0.0))
    schedule.finished("w0", (0, 0), 1.0)  # the large one
    list(schedule.assign(1.0))
    schedule.finished("w0", (0, 1), 4.0)  # 3 s for 10 bases are 3 s for a batch
    assert schedule.allowed_s(10_000) == pytest.approx(DEADLINE_FACTOR * 3.0 * 10)


def test_a_failure_without_a_second_try() -> None:
    schedule = schedule_of([9], workers=1)
    given(schedule)
    assert schedule.failed("w0", (0, 0), "bad window", 0.0, again=False) == GivenUp((0, 0), "bad window")
    assert schedule.waiting == schedule.in_flight == 0


def test_results_that_nobody_waits_for() -> None:
    schedule = schedule_of([9, 8, 7, 6], workers=1)
    schedule.add((1, 0), 1)
    given(schedule)
    schedule.withdraw(0)
    assert schedule.waiting == 1
    assert not schedule.finished("w0", (0, 0), 1.0)
    assert schedule.failed("w0", (0, 1), "late", 1.0) is None
    assert not schedule.finished("w0", (0, 1), 1.0) and not schedule.finished("stranger", (0, 1), 1.0)
    assert [key for _, key in schedule.assign(1.0)] == [(1, 0)]
    assert schedule.lost("stranger", "who", blame=True) == []


def test_deadlines_follow_the_rate_seen() -> None:
    schedule = schedule_of([100, 100, 100, 100], workers=1)
    given(schedule, now=0.0)
    assert schedule.overdue(FIRST_DEADLINE_S) == [] and schedule.overdue(FIRST_DEADLINE_S + 1)[0][:2] == ("w0", (0, 0))
    schedule.finished("w0", (0, 0), 100.0)  # 1 s a base; the second began only now
    given(schedule, now=100.0)
    assert schedule.overdue(100.0 + DEADLINE_FACTOR * 100 - 1) == []
    assert [key for _, key, _ in schedule.overdue(100.0 + DEADLINE_FACTOR * 100 + 1)] == [(0, 1)]
    fast = schedule_of([100, 100, 100], workers=1)
    given(fast, now=0.0)
    fast.finished("w0", (0, 0), 0.1)
    assert fast.allowed_s(100) == LEAST_DEADLINE_S
    assert schedule_of([1], deadline_s=5).allowed_s(10**9) == 5


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_losses_and_failures_ends_with_every_shard_done_once_or_given_up(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 40)
    schedule = schedule_of([rng.randint(1, 9) for _ in range(count)], workers=rng.randint(1, 5))
    deadly = {shard for shard in range(count) if rng.random() < 0.1}
    done, lost = [], []
    names = iter(f"n{i}" for i in range(10_000))
    for step in range(5000):
        list(schedule.assign(step))
        if not schedule.in_flight:
            break
        worker = rng.choice([name for name, held in schedule._held.items() if held])
        shard = schedule._held[worker][0].key[1]
        chance = rng.random()
        if shard in deadly or chance < 0.05:
            lost += schedule.lost(worker, "dead", blame=shard in deadly)
            schedule.join(next(names))
        elif chance < 0.1:
            verdict = schedule.failed(worker, (0, shard), "hiccup", step)
            lost += [verdict] if verdict else []
        elif schedule.finished(worker, (0, shard), step):
            done.append(shard)
    given_up = [verdict.key[1] for verdict in lost]
    assert sorted(done + given_up) == list(range(count))
    assert deadly <= set(given_up)
