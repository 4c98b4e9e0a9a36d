"""Work in Ray actors, each with one model on one device; the only module that imports Ray.

A call that ends in an error comes back as a value, so that nothing but plain errors crosses. Actors are never restarted by Ray
and calls never repeated by it: a lost shard goes back to the schedule, which knows more.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from annotator.errors import AnnotatorError, EnvironmentFault, ResourceFault, UsageError
from annotator.machine import usable_cpus
from annotator.pipeline.driver.schedule import Key
from annotator.pipeline.executors.cluster import (
    PrivateFolder,
    RayEnvironment,
    answers,
    first_line,
    forget_token,
    look_at,
    resource_table,
    workers_that_fit,
)
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
from annotator.pipeline.options import RAY_AUTO, RAY_LOCAL, SHARED, AnnotateOptions, ExecutionOptions
from annotator.pipeline.worker.runner import TaskRunner
from annotator.pipeline.worker.task import AnyTask
from annotator.stopping import Terminated, held_back

logger = logging.getLogger(__name__)

OLDEST = (2, 54)
"""Before it the dashboard let anyone delete jobs (CVE-2026-27482)."""

OBJECT_STORE_BYTES = 200 << 20
"""Object store of a private start: leases, results and, with bases sent through Ray, two blocks per worker pass through it."""

LOOK_EVERY_S = 5.0
"""How often the cluster's nodes are looked at; a new one is used after this and the model's loading."""


class RayWorker:
    """The actor."""

    def __init__(self, task: AnyTask) -> None:
        """Nothing is loaded yet."""
        self._task = task
        self._runner: TaskRunner | None = None

    def hello(self) -> tuple[str, Any]:
        """The actor has a place: ("placed", id of the node)."""
        import ray

        return "placed", ray.get_runtime_context().get_node_id()

    def setup(self) -> tuple[str, Any]:
        """Load the model; ("ready", None) or ("failed", error)."""
        try:
            self._task.setup()
        except Exception as error:
            return "failed", make_portable(error, setup=True)
        self._runner = TaskRunner(self._task)
        return "ready", None

    def process(self, work: Any) -> tuple[str, Any]:
        """Do a piece of work; while other calls compute, its bases may be read."""
        assert self._runner is not None, "setup comes first"
        self._task.announce(work)
        try:
            return "finished", self._runner.run(work)
        except Exception as error:
            return "failed", make_portable(error)


HEAD_LOST_S = 20.0
MENDED_S = 60.0
"""A place where workers cannot be set up is tried again after this."""


@dataclass
class _Actor:
    name: str
    handle: Any
    since: float
    node: str = ""
    """Empty while it waits for a place."""
    ready: bool = False
    calls: dict[Any, Key | None] = field(default_factory=dict)
    """What is awaited: a key per call, None for what comes before the first."""
    killed_for: str = ""
    blamed: bool = True


class RayExecutor:
    """Actors: as many as are asked for, or as the cluster holds."""

    replaces_workers = True
    works_here = False

    def __init__(self, options: AnnotateOptions, execution: ExecutionOptions) -> None:
        """Look whether Ray is there.

        Raises:
            EnvironmentFault: It is absent, or too old.
            UsageError: An address that is none.
        """
        self._execution = execution
        self._threads = options.threads or 1
        named = os.environ.get("RAY_ADDRESS", "") if execution.ray == RAY_AUTO else execution.ray
        self._private = named in ("", RAY_LOCAL)
        self._address = named
        if named.startswith("ray://"):
            raise UsageError("Ray's client protocol is not supported; give the head's own address, HOST:6379", "ray", named)
        self._folder: PrivateFolder | None = None
        self._environment = RayEnvironment(private=self._private)
        self._ray = _import_ray()
        self._machine = Machine("cpu")
        self._task: AnyTask | None = None
        self._actors: dict[str, _Actor] = {}
        self._count = self._failures = self._wanted = 0
        self._looked = self._no_spawn_before = 0.0
        self._room = 0
        self._head = ""
        self._head_lost: float | None = None
        self._alone_since: float | None = None
        self._ever_ready = self._warned_of_pending = False
        self._last_fault: AnnotatorError | None = None

    # -- start and stop

    def machine(self, device: str) -> Machine:
        """Join the cluster, or start one, and see what its workers compute on."""
        self._connect()
        if device.startswith("cuda:"):
            raise UsageError("Ray chooses the GPU; say cuda", "device", device)
        if device == "auto":
            device = "cuda" if self._ray.cluster_resources().get("GPU", 0) else "cpu"
            logger.info("device: %s (chosen automatically: the cluster has %s)", device, "no GPU" if device == "cpu" else "GPUs")
        self._machine = self._ask_a_gpu_node() if device == "cuda" else this_cpu()
        return self._machine

    @property
    def starts_early(self) -> bool:
        """Ray starts machines for work that is known."""
        return False

    @property
    def depth(self) -> int:
        """As the device wants it; blocks that travel through the object store, which is small, need not be read ahead."""
        return DEPTH["cpu" if self._execution.bases_via != SHARED else self._machine.kind]

    @property
    def helpers(self) -> int:
        """CPUs of this machine, less those of a private start's workers."""
        if self._private and self._machine.kind == "cpu":
            taken = self._execution.workers * self._threads or usable_cpus()
        else:
            taken = 0
        return max(1, min(MOST_HELPERS, usable_cpus() - taken))

    def _connect(self) -> None:
        ray, execution = self._ray, self._execution
        began = time.monotonic()
        handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        forget_token(ray)
        try:
            if self._private:
                self._folder = PrivateFolder()
                # at least one worker fits, even with the threads of an earlier run on a machine with more CPUs
                cpus = max(execution.workers * self._threads or usable_cpus(), self._threads)
                ray.init(
                    address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
                    log_to_driver=False, logging_level="ERROR", _temp_dir=str(self._folder.path),
                )  # fmt: skip
            else:
                look_at(self._address)
                ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
        except AnnotatorError:
            raise
        except SystemExit:  # Ray's own handler of SIGTERM, in force while it starts
            raise Terminated(signal.SIGTERM) from None
        except Exception as error:  # whatever Ray finds wrong, it is the environment
            where = "start" if self._private else f"join the cluster at {self._address}"
            raise EnvironmentFault(f"Ray cannot {where}: {first_line(error)}", "ray", execution.ray) from None
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
        self._head = ray.get_runtime_context().gcs_address
        logger.info("Ray %s %s in %.1f s", ray.__version__, "started" if self._private else "joined", time.monotonic() - began)

    def _ask_a_gpu_node(self) -> Machine:
        task = self._ray.remote(num_cpus=0, num_gpus=self._execution.gpus_per_worker, max_retries=0)(_look)
        answer, deadline, answered = task.remote("cuda"), time.monotonic() + self._patience_s, False
        while not answered and time.monotonic() < deadline:
            with held_back():
                answered = bool(self._ray.wait([answer], timeout=0.5)[0])
        if not answered:
            self._machine = Machine("cuda")
            self._ray.cancel(answer, force=True)
            raise self._cannot_be_placed()
        try:
            what, found = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            raise EnvironmentFault(f"no worker of the cluster could look at its GPU: {first_line(error)}") from None
        if what == "failed":
            raise found
        assert isinstance(found, Machine)
        return found

    def start(self, task: AnyTask) -> None:
        """Actors are made when work is there."""
        self._task = task
        self._alone_since = time.monotonic()

    def close(self) -> None:
        """Kill the actors and leave the cluster; a private one ends."""
        with held_back():
            actors, self._actors = self._actors, {}
            for actor in actors.values() if self._head_lost is None else ():
                self._kill(actor)
            self._ray.shutdown()  # also of a start that was broken off
            if self._folder is not None:
                self._folder.close()
            self._environment.restore()
            forget_token(self._ray)

    # -- workers

    def want(self, pieces: int) -> int:
        """Make the actors that are missing; a named number of them may wait for nodes that are still to come."""
        with held_back():
            self._want(pieces)
        return sum(bool(actor.node) for actor in self._actors.values())

    def _want(self, pieces: int) -> None:
        self._wanted = pieces
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY_S:
            self._looked = now
            if self._head_answers():
                self._room = workers_that_fit(self._needs(), self._ray.nodes())
        most = self._execution.workers or max(1, self._room)  # one that waits is what an autoscaler sees
        while time.monotonic() > self._no_spawn_before and len(self._actors) < min(most, pieces):
            self._spawn()

    def _head_answers(self) -> bool:
        """Whether the cluster's head is there; without it Ray's calls block, and Ray ends this process after a minute.

        Raises:
            ResourceFault: It has been away for too long.
        """
        if answers(self._head):
            self._head_lost = None
            return True
        now = time.monotonic()
        self._head_lost = self._head_lost or now
        if now - self._head_lost > HEAD_LOST_S:
            raise ResourceFault("the head of the cluster is lost; what is finished is kept, give the same command again")
        return False

    def _needs(self) -> dict[str, float]:
        gpus = self._execution.gpus_per_worker if self._machine.kind == "cuda" else 0
        return {"num_cpus": self._threads, "num_gpus": gpus}

    def _spawn(self) -> None:
        self._count += 1
        actor_class = self._ray.remote(RayWorker).options(
            **self._needs(), max_restarts=0, max_task_retries=0, max_concurrency=self.depth, scheduling_strategy="SPREAD"
        )
        actor = _Actor(f"actor {self._count}", actor_class.remote(self._task), time.monotonic())
        actor.calls[actor.handle.hello.remote()] = None
        self._actors[actor.name] = actor

    def submit(self, worker: str, key: Key, work: Any) -> None:
        """Call an actor."""
        if (actor := self._actors.get(worker)) is not None:
            with held_back():
                actor.calls[actor.handle.process.remote(work)] = key

    def wait(self, timeout_s: float) -> list[Event]:
        """What the actors have answered."""
        with held_back():  # an exception that a signal raises inside Ray comes out as another one, or breaks it
            return self._wait(timeout_s)

    def _wait(self, timeout_s: float) -> list[Event]:
        owners = {ref: actor for actor in self._actors.values() for ref in actor.calls}
        if not owners:
            time.sleep(timeout_s)
        else:
            first, _ = self._ray.wait(list(owners), num_returns=1, timeout=timeout_s)
            answered, _ = self._ray.wait(list(owners), num_returns=len(owners), timeout=0) if first else ([], [])
        events: list[Event] = []
        for ref in answered if owners else ():
            events += self._understand(owners[ref], ref)
        self._check_for_workers()
        return events

    def _understand(self, actor: _Actor, ref: Any) -> list[Event]:
        if self._actors.get(actor.name) is not actor:
            return []  # died with another of its calls
        key = actor.calls.pop(ref)
        try:
            what, content = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._bury(actor, error)
        if key is None:
            return self._welcome(actor, what, content)
        if what == "failed":
            return [Failed(actor.name, key, content, sick=worth_replacing(content))]
        return [Finished(actor.name, key, *content)]

    def _welcome(self, actor: _Actor, what: str, content: Any) -> list[Event]:
        if what == "placed":
            actor.node, actor.since = content, time.monotonic()
            actor.calls[actor.handle.setup.remote()] = None
            return []
        if what == "ready":
            actor.ready = True
            self._failures, self._ever_ready = 0, True
            return [Ready(actor.name)]
        self._kill(actor)
        del self._actors[actor.name]
        self._setup_failed(content)
        return []

    def _setup_failed(self, fault: AnnotatorError) -> None:
        self._last_fault = fault
        self._failures += 1
        enough = not worth_replacing(fault) or self._failures % SETUP_TRIES == 0
        if any(actor.ready for actor in self._actors.values()):  # others work: it is this place that is not right
            if enough:
                logger.warning("one worker less: %s", fault)
                self._no_spawn_before = time.monotonic() + MENDED_S
        elif enough:
            raise fault

    def _bury(self, actor: _Actor, error: Any) -> list[Event]:
        del self._actors[actor.name]
        self._kill(actor)  # one that is merely unreachable must not come back
        text = first_line(error)
        if not actor.ready:
            if not self._node_is_gone(actor, error):
                self._setup_failed(EnvironmentFault(f"a worker ended while it loaded the model: {text}"))
            return []
        if actor.killed_for:
            return [Lost(actor.name, actor.killed_for, actor.blamed)]
        if self._node_is_gone(actor, error):
            return [Lost(actor.name, f"node {actor.node[:8]} is gone", blame=False)]
        return [Lost(actor.name, f"the worker ended: {text}")]

    def _node_is_gone(self, actor: _Actor, error: Any) -> bool:
        if isinstance(error, self._ray.exceptions.ActorUnavailableError) or "node has died" in str(error):
            return True
        if not self._head_answers():
            return True
        return any(node["NodeID"] == actor.node and not node["Alive"] for node in self._ray.nodes())

    def kill(self, worker: str, reason: str, *, blame: bool) -> None:
        """At once; its calls then end with an error."""
        if (actor := self._actors.get(worker)) is not None:
            actor.killed_for, actor.blamed = reason, blame
            self._kill(actor)

    def _kill(self, actor: _Actor) -> None:
        try:
            self._ray.kill(actor.handle)
        except Exception as error:  # it is dead, or the cluster is
            logger.debug("%s: %s", actor.name, error)

    # -- want of workers

    def _check_for_workers(self) -> None:
        """Do not wait for ever where there is no worker.

        Raises:
            EnvironmentFault: None could ever be placed.
            ResourceFault: All are lost and none came back.
        """
        now = time.monotonic()
        for actor in [actor for actor in self._actors.values() if actor.node and not actor.ready]:
            if now - actor.since > SETUP_TIMEOUT_S:
                self._kill(actor)
                del self._actors[actor.name]
                self._setup_failed(EnvironmentFault(f"a worker could not load the model within {SETUP_TIMEOUT_S:.0f} s"))
        if any(actor.node for actor in self._actors.values()):
            self._alone_since = None
            late = [actor for actor in self._actors.values() if not actor.node and now - actor.since > self._patience_s]
            if late and not self._warned_of_pending:
                self._warned_of_pending = True
                logger.warning("%d workers still wait for a place: %s", len(late), self._table())
            return
        if not self._wanted:
            return
        if self._alone_since is None:
            self._alone_since = now
        if now - self._alone_since > self._patience_s:
            if not self._ever_ready:
                raise self._last_fault or self._cannot_be_placed()
            raise ResourceFault(
                f"all workers are lost and none came back within {self._patience_s:.0f} s (`node_timeout_s`); what is finished "
                "is kept, give the same command again"
            )

    @property
    def _patience_s(self) -> float:
        return self._execution.node_timeout_s

    def _cannot_be_placed(self) -> EnvironmentFault:
        return EnvironmentFault(f"no worker could be placed within {self._patience_s:.0f} s (`node_timeout_s`): {self._table()}")

    def _table(self) -> str:
        return resource_table(self._needs(), self._ray.nodes(), self._ray.available_resources())


def _look(device: str) -> tuple[str, Any]:
    try:
        return "found", this_process(device)
    except Exception as error:
        return "failed", make_portable(error, setup=True)


def _import_ray() -> Any:
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise EnvironmentFault(f'Ray cannot be imported ({error}); `ray="off"` works without', "ray") from None
    found = tuple(int(number) for number in re.findall(r"\d+", ray.__version__)[:2])
    if found < OLDEST:
        raise EnvironmentFault(f"Ray {ray.__version__} is too old, {'.'.join(map(str, OLDEST))} or newer is needed", "ray")
    worker = importlib.import_module("ray._private.worker")
    if hasattr(worker, "print_to_stdstream"):  # messages of the raylet, on standard output: every loss is told by us already
        setattr(worker, "print_to_stdstream", lambda *_, **__: None)  # noqa: B010
    return ray
