"""Workers as child processes that speak JSON lines over pipes: no Ray, no pickles, and a crash stays a child's."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import uuid

from .gpus import GpuShare
from .messages import Answer, WorkerSetup
from .pools import Event, environment
from .units import Unit


class LocalPool:
    """Children of this process."""

    def __init__(self, share: GpuShare, setup: WorkerSetup) -> None:
        self._setup = setup
        self._answers: queue.Queue[tuple[_Child, str | None]] = queue.Queue()
        gpus = [place % share.num_gpus if share.num_gpus else None for place in range(share.num_workers)]
        self._children = [self._start(gpu) for gpu in gpus]

    def idle(self) -> bool:
        """Tell whether a worker is free."""
        return any(child.unit is None for child in self._children)

    def submit(self, unit: Unit) -> str:
        """Give a unit to a free worker and return the worker's name."""
        child = next(child for child in self._children if child.unit is None)
        child.unit = unit
        child.send(unit.to_json())
        return child.name

    def wait(self, timeout_s: float) -> list[Event]:
        """Wait for events, at most this long."""
        try:
            child, line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return []
        unit, child.unit = child.unit, None
        if line is None:
            if child not in self._children:  # recycled on purpose
                return []
            self._replace(child)
            return [Event(worker=child.name, unit=unit)] if unit is not None else []
        assert unit is not None
        answer = Answer.from_json(line)
        return [Event(worker=child.name, unit=unit, done=answer.done, failed=answer.failed, fatal=answer.fatal)]

    def kill(self, worker: str) -> None:
        """Kill a worker; its end is reported by `wait`."""
        self._named(worker).process.kill()

    def recycle(self, worker: str) -> None:
        """Replace an idle worker."""
        child = self._named(worker)
        self._replace(child)
        child.stop()

    def close(self) -> None:
        """Stop all workers at once."""
        for child in self._children:
            child.stop()
        self._children = []

    def _named(self, worker: str) -> "_Child":
        return next(child for child in self._children if child.name == worker)

    def _replace(self, child: "_Child") -> None:
        self._children[self._children.index(child)] = self._start(child.gpu)

    def _start(self, gpu: int | None) -> "_Child":
        # Not the process id: parts of a job array on several hosts share the folder in which workers leave their beats.
        return _Child(f"local-{uuid.uuid4().hex[:12]}", self._setup, gpu, self._answers)


class _Child:
    """One worker process, and the thread that waits for its answers."""

    def __init__(
        self, name: str, setup: WorkerSetup, gpu: int | None, answers: "queue.Queue[tuple[_Child, str | None]]"
    ) -> None:
        self.name = name
        self.gpu = gpu
        self.unit: Unit | None = None
        theirs, ours = os.pipe(), os.pipe()
        self.process = subprocess.Popen(  # noqa: S603 - a list, no shell
            [sys.executable, "-m", "hs_data.pipeline.workers.local_worker", str(theirs[0]), str(ours[1]), name],
            # Of its own session: no terminal stops it, and Ctrl-C is for the driver alone, which then ends its workers.
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a library prints must not look like an answer
            start_new_session=True,
            pass_fds=(theirs[0], ours[1]),
            env=environment(os.environ, gpu),
        )
        os.close(theirs[0])
        os.close(ours[1])
        self._units = os.fdopen(theirs[1], "w", encoding="utf-8")
        self._replies = os.fdopen(ours[0], encoding="utf-8")
        self.send(setup.to_json())
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()

    def send(self, line: str) -> None:
        """Send one line; a child that is gone is noticed by its listener."""
        with contextlib.suppress(BrokenPipeError):
            self._units.write(line + "\n")
            self._units.flush()

    def stop(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._units.close()

    def _listen(self, answers: "queue.Queue[tuple[_Child, str | None]]") -> None:
        with self._replies as lines:
            for line in lines:
                answers.put((self, line))
        self.process.wait()
        answers.put((self, None))
