"""Workers as Ray actors; the only file that imports Ray. Ray restarts and retries nothing: the run decides on both."""

import logging
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from ...manifests.errors import HsDataError
from .gpus import share_gpus
from .messages import Done, WorkerSetup
from .pools import WORKER_VARIABLES, Event, num_cores
from .ray_worker import RayWorker
from .units import Unit

logger = logging.getLogger(__name__)
MAX_FAILED_STARTS = 3
"""Workers that may die one after the other before one has answered."""
PATIENCE_S = 60.0
"""How long no worker may have answered before the log says so."""


class RayPool:
    """Actors on the Ray cluster that `RAY_ADDRESS` names, or on one started here for the run.

    Units are given only to actors that have answered: one that the cluster has no room for may wait for ever, and a
    unit with it. The output folder and the source folder must be reachable under the same paths from every node.

    Args:
        num_workers: 0 is one for each CPU of the cluster.
        setup: what workers get.
        own: whether Ray is started here, on the loopback alone.
    """

    def __init__(self, num_workers: int, setup: WorkerSetup, *, own: bool) -> None:
        self._started = not ray.is_initialized()
        if self._started:
            _start_ray(num_workers or num_cores() if own else None)
        there = ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        share = share_gpus(setup, num_workers or max(1, cpus), None if own else gpus or None)
        self._setup = setup
        self._actor_class: Any = ray.remote(
            num_cpus=1,
            num_gpus=share.per_worker,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": WORKER_VARIABLES},
        )(RayWorker)
        self._actors: dict[str, Any] = {}
        self._starting: dict[Any, str] = {}
        self._running: dict[Any, tuple[str, Unit]] = {}
        self._failed_starts = 0
        self._silent_since = time.monotonic()
        for _ in range(share.num_workers):
            self._start()

    def idle(self) -> bool:
        """Tell whether a worker is free."""
        return bool(self._free())

    def submit(self, unit: Unit) -> str:
        """Give a unit to a free worker and return the worker's name."""
        worker = self._free()[0]
        reference = self._actors[worker].run.remote(unit)
        self._running[reference] = (worker, unit)
        return worker

    def wait(self, timeout_s: float) -> list[Event]:
        """Wait for events, at most this long.

        Raises:
            HsDataError: workers die before they answer.
        """
        ready, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=timeout_s)
        self._complain()
        events = [self._event(reference) for reference in ready if reference in self._running]
        for reference in ready:
            if reference in self._starting:
                self._take_answer(reference)
        return events

    def kill(self, worker: str) -> None:
        """Kill a worker; its end is reported by `wait`."""
        ray.kill(self._actors[worker], no_restart=True)

    def recycle(self, worker: str) -> None:
        """Replace an idle worker."""
        self.kill(worker)
        self._replace(worker)

    def close(self) -> None:
        """Stop all workers at once, and Ray when this pool started it."""
        for worker in self._actors:
            self.kill(worker)
        self._actors = {}
        if self._started:
            ray.shutdown()

    def _free(self) -> list[str]:
        taken = {*self._starting.values(), *(worker for worker, _ in self._running.values())}
        return [name for name in self._actors if name not in taken]

    def _take_answer(self, reference: ray.ObjectRef) -> None:
        worker = self._starting.pop(reference)
        try:
            ray.get(reference)
            self._failed_starts = 0
        except (RayActorError, RayTaskError) as error:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                why = str(error).strip().splitlines()[-1]
                raise HsDataError(f"Ray: workers do not start: {why}; try --executor local") from error
            self._replace(worker)

    def _complain(self) -> None:
        if len(self._starting) < len(self._actors):
            self._silent_since = time.monotonic()
        elif time.monotonic() - self._silent_since > PATIENCE_S:
            self._silent_since = time.monotonic()
            free = int(ray.available_resources().get("CPU", 0))
            logger.warning("Ray: no worker has answered for %.0f s; %d CPUs of the cluster are free", PATIENCE_S, free)

    def _event(self, reference: ray.ObjectRef) -> Event:
        worker, unit = self._running.pop(reference)
        try:
            done: Done = ray.get(reference)
            return Event(worker=worker, unit=unit, done=done)
        except RayActorError:
            self._replace(worker)
            return Event(worker=worker, unit=unit)
        except RayTaskError as error:
            cause = error.cause
            text = str(cause) if isinstance(cause, HsDataError) else f"{type(cause).__name__}: {cause}"
            return Event(worker=worker, unit=unit, failed=text, fatal=isinstance(cause, HsDataError | OSError))

    def _replace(self, worker: str) -> None:
        del self._actors[worker]
        self._start()

    def _start(self) -> None:
        name = f"ray-{uuid.uuid4().hex[:8]}"
        self._actors[name] = actor = self._actor_class.remote(self._setup, name)
        self._starting[actor.answer.remote()] = name


def _start_ray(num_cpus: int | None) -> None:
    """Start a Ray of our own with so many CPUs, or with None join the cluster that `RAY_ADDRESS` names."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _own_signals():
        if num_cpus is None:
            ray.init(**quiet)
        else:
            # "local" is said aloud: without an address Ray joins any cluster that it finds running on this machine.
            ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **quiet)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does on SIGTERM; Ray puts a handler of its own into its place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def try_ray() -> str:
    """Start Ray, run one task and stop it again; return what was found, or raise what Ray raises."""
    _start_ray(1)
    try:
        return f"ray {ray.get(ray.remote(lambda: ray.__version__).remote())}: a task ran"
    finally:
        ray.shutdown()
