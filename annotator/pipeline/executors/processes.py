"""Work in local processes, each with one model on one device.

A worker is a spawned process with one pipe. In the driver two threads serve each pipe, so that neither a worker that does not
read nor one that stops in the middle of a message can hold up the run; all news arrive in one queue. A worker whose pipe closes
ends at once, so none outlives the driver, however that dies.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from annotator.errors import AnnotatorError, EnvironmentFault
from annotator.machine import usable_cpus
from annotator.pipeline.driver.schedule import Key
from annotator.pipeline.executors.events import (
    DEPTH,
    MOST_HELPERS,
    SETUP_TIMEOUT_S,
    SETUP_TRIES,
    Event,
    Failed,
    Finished,
    Lost,
    Ready,
)
from annotator.pipeline.executors.faults import make_portable, worth_replacing
from annotator.pipeline.executors.machine import Machine, this_cpu, this_process
from annotator.pipeline.worker.runner import TaskRunner
from annotator.pipeline.worker.task import AnyTask
from annotator.stopping import held_back

logger = logging.getLogger(__name__)

KILL_TIMEOUT_S = 30.0

_PROCESSES = multiprocessing.get_context("spawn")


class ProcessExecutor:
    """A fixed number of workers; each that dies is replaced."""

    replaces_workers = True
    works_here = False

    def __init__(self, workers: int, *, gpus_per_worker: float = 1.0) -> None:
        """Nothing is started yet.

        Args:
            workers: How many; 0 for as many as the machine's GPUs hold, or one without a GPU.
            gpus_per_worker: Share of a GPU that a worker takes.
        """
        self.workers, self._gpus_per_worker = workers, gpus_per_worker
        self._task: AnyTask | None = None
        self._machine = Machine("cpu")
        self._places: dict[int, _Worker | None] = {}
        self._failures: dict[int, int] = {}
        self._news: queue.Queue[tuple[_Worker, str, Any]] = queue.Queue()
        self._count = 0
        self._wanted = 0
        self._last_fault: AnnotatorError | None = None

    def machine(self, device: str) -> Machine:
        """The device as a process of its own sees it; torch stays out of this one."""
        self._machine = found = this_cpu() if device == "cpu" else _ask(this_process, device)
        if not self.workers:
            if found.kind == "cpu":  # GPUs were in sight, but torch cannot use them
                found = replace(found, threads=usable_cpus())
            self.workers = found.devices * self._workers_per_gpu if found.kind == "cuda" else 1
        return replace(found, device=found.kind)  # whichever GPU it is, a worker sees no other

    @property
    def _workers_per_gpu(self) -> int:
        return max(1, int(1 / self._gpus_per_worker))

    @property
    def starts_early(self) -> bool:
        """Where there is a CPU that no worker has."""
        return self._machine.kind != "cpu" or usable_cpus() > self.workers

    @property
    def depth(self) -> int:
        """As the device wants it."""
        return DEPTH[self._machine.kind]

    @property
    def helpers(self) -> int:
        """CPUs that no worker has."""
        taken = self.workers if self._machine.kind == "cpu" else 0
        return max(1, min(MOST_HELPERS, usable_cpus() - taken))

    def start(self, task: AnyTask) -> None:
        """Workers are started when work is there."""
        self._task = task
        self._places = dict.fromkeys(range(self.workers))

    def want(self, pieces: int) -> int:
        """Start the workers that are missing."""
        self._wanted = pieces
        empty = [place for place, worker in self._places.items() if worker is None]
        for place in empty[: max(0, pieces - (len(self._places) - len(empty)))]:
            self._places[place] = self._spawn(place)
        return sum(worker is not None for worker in self._places.values())

    def _spawn(self, place: int) -> _Worker:
        assert self._task is not None
        self._count += 1
        name = f"process {place + 1}.{self._count}"
        with held_back():  # a process that nobody knows of could not be ended
            return _Worker(name, place, self._task, self.environment(place), self._news)

    def environment(self, place: int) -> dict[str, str]:
        """Environment variables of the worker at a place: it sees one GPU."""
        if self._machine.kind != "cuda":
            return {}
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(self._machine.devices)]
        chosen = self._machine.device.partition(":")[2]
        return {"CUDA_VISIBLE_DEVICES": names[int(chosen)] if chosen else names[place // self._workers_per_gpu % len(names)]}

    def submit(self, worker: str, key: Key, work: Any) -> None:
        """Put work into a worker's pipe."""
        for running in self._places.values():
            if running is not None and running.name == worker:
                running.send((key, work))

    def wait(self, timeout_s: float) -> list[Event]:
        """News of all workers."""
        for worker in self._places.values():
            if worker is not None and not worker.ready and time.monotonic() - worker.since > SETUP_TIMEOUT_S:
                self.kill(worker.name, f"it took more than {SETUP_TIMEOUT_S:.0f} s", blame=False)
        events: list[Event] = []
        timeout: float | None = timeout_s
        while True:
            try:
                worker, what, content = self._news.get(timeout=timeout) if timeout else self._news.get_nowait()
            except queue.Empty:
                return events
            timeout = None
            events += self._understand(worker, what, content)

    def _understand(self, worker: _Worker, what: str, content: Any) -> list[Event]:
        if self._places.get(worker.place) is not worker:
            return []  # of one that was given up
        if what == "ready":
            self._failures[worker.place] = 0
            worker.ready = True
            return [Ready(worker.name)]
        if what == "finished":
            return [Finished(worker.name, *content)]
        if what == "failed":
            key, error = content
            return [Failed(worker.name, key, error, sick=worth_replacing(error))]
        if what == "no setup":
            self._last_fault = content
            self._leave(worker)
            return []
        reason = worker.cause_of_death()
        if not worker.ready:
            self._last_fault = EnvironmentFault(f"a worker ended while it loaded the model: {reason}")
        self._leave(worker)
        return [Lost(worker.name, reason, worker.blamed)] if worker.ready else []

    def _leave(self, worker: _Worker) -> None:
        """Free a place, or close it where nothing can be set up."""
        worker.stop()
        place = worker.place
        self._places[place] = None
        if not worker.ready:
            self._failures[place] = self._failures.get(place, 0) + 1
            fault = self._last_fault
            if fault is not None and not worth_replacing(fault):
                raise fault  # bad options or a bad model: another worker would find them no better
            if self._failures[place] >= SETUP_TRIES:
                del self._places[place]
                logger.warning("one worker less: %s", fault)
                if not self._places:
                    raise fault or EnvironmentFault("no worker could be started")
        self.want(self._wanted)

    def kill(self, worker: str, reason: str, *, blame: bool) -> None:
        """SIGKILL: a worker that hangs heeds nothing else."""
        for running in self._places.values():
            if running is not None and running.name == worker:
                running.kill(reason, blame=blame)

    def close(self) -> None:
        """Kill all workers; they hold nothing that is not held elsewhere."""
        workers = [worker for worker in self._places.values() if worker is not None]
        self._places = {}
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.process.join(5)


class _Worker:
    """A process, its pipe, and the two threads that serve it."""

    def __init__(self, name: str, place: int, task: AnyTask, environment: dict[str, str], news: queue.Queue[Any]) -> None:
        self.name, self.place, self.ready = name, place, False
        self.killed_for, self.blamed, self.since = "", True, time.monotonic()
        self._news = news
        self._pipe, theirs = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(target=_serve, args=(theirs, task, environment), name=name, daemon=True)
        self.process.start()
        theirs.close()
        self._outbox: queue.Queue[Any] = queue.Queue()
        for serve in (self._read, self._write):
            threading.Thread(target=serve, name=f"{name} {serve.__name__}", daemon=True).start()

    def send(self, message: Any) -> None:
        self._outbox.put(message)

    def _read(self) -> None:
        try:
            while True:
                what, content = self._pipe.recv()
                self._news.put((self, what, content))
        except Exception as error:
            if not isinstance(error, EOFError | OSError):  # what it said makes no sense, or there was no memory for it
                self.kill(f"its answer could not be read: {type(error).__name__}: {error}", blame=True)
            self.process.join(10)
            self._news.put((self, "gone", None))
        self._pipe.close()

    def _write(self) -> None:
        try:
            while (message := self._outbox.get()) is not None:
                self._pipe.send(message)
        except (OSError, ValueError):
            pass  # the reader sees the same and tells

    def kill(self, reason: str, *, blame: bool) -> None:
        """End it; where even SIGKILL is not heeded (a device driver that hangs) it is given up after a while."""
        if not self.killed_for:
            self.killed_for, self.blamed, self.killed_at = reason, blame, time.monotonic()
        elif time.monotonic() - self.killed_at > KILL_TIMEOUT_S:
            self._news.put((self, "gone", None))
        self.process.kill()

    def cause_of_death(self) -> str:
        code = self.process.exitcode
        if self.killed_for:
            return self.killed_for
        if code is None:
            return "the worker closed its pipe"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"the worker was ended by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
        return f"the worker ended with status {code}"

    def stop(self) -> None:
        self._outbox.put(None)
        self.process.kill()


def _serve(pipe: Connection, task: AnyTask, environment: dict[str, str]) -> None:
    """The worker's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(environment)
    _to_standard_error()
    inbox: queue.Queue[tuple[Key, Any]] = queue.Queue()
    loaded = threading.Event()

    def listen() -> None:
        try:
            while True:
                key, work = pipe.recv()
                if loaded.wait():
                    task.announce(work)
                inbox.put((key, work))
        except BaseException as error:  # the driver is gone, or this worker is of no more use
            os._exit(0 if isinstance(error, EOFError | OSError) else 1)

    threading.Thread(target=listen, name="listen", daemon=True).start()
    try:
        task.setup()
    except Exception as error:
        pipe.send(("no setup", make_portable(error, setup=True)))
        return
    loaded.set()
    pipe.send(("ready", None))
    runner, one_at_a_time = TaskRunner(task), threading.Lock()

    def work_on() -> None:
        while True:
            key, work = inbox.get()
            try:
                news: tuple[str, Any] = "finished", (key, *runner.run(work))
            except Exception as error:
                news = "failed", (key, make_portable(error))
            with one_at_a_time:
                pipe.send(news)

    def help_on() -> None:
        try:
            work_on()
        except BaseException:  # as in this thread, it ends the worker
            os._exit(1)

    for _ in range(task.at_once - 1):
        threading.Thread(target=help_on, name="work", daemon=True).start()
    work_on()


def _to_standard_error() -> None:
    """Warnings of workers appear beside the driver's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s worker: %(message)s", "%H:%M:%S"))
    for name in ("annotator", "annotator_kernels"):
        logging.getLogger(name).handlers[:] = [handler]
        logging.getLogger(name).setLevel(logging.WARNING)


def _ask(function: Callable[[str], Machine], argument: str) -> Machine:
    """A function's answer, from a process of its own."""
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_answer, args=(theirs, function, argument), daemon=True)
    process.start()
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(300) else EnvironmentFault("the device could not be looked at within 300 s")
    except EOFError:
        answer = EnvironmentFault("the process that looks at the device ended without an answer")
    process.kill()
    process.join()
    if isinstance(answer, Machine):
        return answer
    raise answer


def _answer(pipe: Connection, function: Callable[[str], Machine], argument: str) -> None:
    _to_standard_error()
    try:
        pipe.send(function(argument))
    except Exception as error:
        pipe.send(make_portable(error, setup=True))
