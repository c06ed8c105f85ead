"""Workers as Ray actors; the only file that imports Ray. Ray restarts and retries nothing: the run decides on both."""

import logging
import os
import uuid
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from ...manifests.errors import HsDataError
from .gpus import GpuShare
from .pools import WORKER_VARIABLES, Event
from .units import Unit
from .work import Done, Setup, Worker


class RayPool:
    """Actors on the Ray cluster that `RAY_ADDRESS` names, or on one started here for the run.

    The output folder and the source folder must be reachable under the same paths from every node.
    """

    def __init__(self, share: GpuShare, setup: dict[str, Any]) -> None:
        num_workers = share.num_workers
        self._started = not ray.is_initialized()
        if self._started:
            # "local" is said aloud: without an address Ray joins any cluster that it finds running on this machine.
            address = os.environ.get("RAY_ADDRESS") or "local"
            own: dict[str, Any] = {"num_cpus": num_workers, "include_dashboard": False} if address == "local" else {}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        self._setup = setup
        self._actor_class: Any = ray.remote(
            num_cpus=1,
            num_gpus=share.per_worker,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": WORKER_VARIABLES},
        )(Worker)
        self._actors = dict(self._start() for _ in range(num_workers))
        self._running: dict[Any, tuple[str, Unit]] = {}

    def idle(self) -> bool:
        """Tell whether a worker is free."""
        return len(self._running) < len(self._actors)

    def submit(self, unit: Unit) -> str:
        """Give a unit to a free worker and return the worker's name."""
        busy = {worker for worker, _ in self._running.values()}
        worker = next(name for name in self._actors if name not in busy)
        reference = self._actors[worker].run.remote(unit)
        self._running[reference] = (worker, unit)
        return worker

    def wait(self, timeout_s: float) -> list[Event]:
        """Wait for events, at most this long."""
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        return [self._event(reference) for reference in ready]

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
        name, actor = self._start()
        self._actors[name] = actor

    def _start(self) -> tuple[str, Any]:
        name = f"ray-{uuid.uuid4().hex[:8]}"
        return name, self._actor_class.remote(Setup(**self._setup), name)


def try_ray() -> str:
    """Start Ray, run one task and stop it again; return what was found, or raise what Ray raises."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return f"ray {ray.get(ray.remote(lambda: ray.__version__).remote())}: a task ran"
    finally:
        ray.shutdown()
