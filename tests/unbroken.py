"""Builds in this process whose workers can be disturbed, for tests of outages, crashes and late attempts."""

import hashlib
import io
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hs_data.pipeline.run import build
from hs_data.pipeline.run.beat import Beat
from hs_data.pipeline.run.command import make_request
from hs_data.pipeline.run.pools import Event
from hs_data.pipeline.run.progress import Display
from hs_data.pipeline.run.units import Unit
from hs_data.pipeline.run.work import Setup, Worker

SETTINGS = ("select.sync_rules=never", "run.unit_s=60", "run.shard_mb=20")
Around = Callable[[Unit], AbstractContextManager[object]]


class KilledError(Exception):
    """Stands for a worker that dies."""


class InlinePool:
    """One worker in this process; `around` is entered around each unit."""

    def __init__(self, setup: dict[str, Any], around: Around) -> None:
        self._setup = setup
        self._around = around
        self._events: deque[Event] = deque()
        self._number = 0
        self._start()

    def _start(self) -> None:
        self._number += 1
        self._worker = Worker(Setup(**self._setup), f"w{self._number}")

    def idle(self) -> bool:
        return not self._events

    def submit(self, unit: Unit) -> str:
        name = f"w{self._number}"
        try:
            with self._around(unit):
                done = self._worker.run(Unit.from_table(unit.to_table()))
            self._events.append(Event(worker=name, unit=unit, done=done))
        except KilledError:
            self._events.append(Event(worker=name, unit=unit))
            self._start()
        return name

    def wait(self, timeout_s: float) -> list[Event]:
        assert timeout_s > 0
        return [self._events.popleft()] if self._events else []

    def kill(self, worker: str) -> None:
        raise AssertionError(worker)

    def recycle(self, worker: str) -> None:
        self._start()

    def close(self) -> None:
        pass


def run(
    videos: Path, output: Path, around: Around = lambda unit: nullcontext(), settings: tuple[str, ...] = SETTINGS
) -> build.Outcome:
    """Build a folder in this process."""
    request = make_request(
        source="folder",
        output=output,
        input_dir=videos,
        preset="embedded",
        config_file=None,
        assignments=list(settings),
        executor="local",
        num_workers=1,
        limit=None,
        shard=None,
    )
    with pytest.MonkeyPatch.context() as patch:
        # The timer that kills stalled decodes is the process's own, and here the process is pytest's.
        patch.setattr(Beat, "deadline", lambda beat, budget_s: nullcontext(nullcontext()))
        patch.setattr(build, "make_pool", lambda executor, num_workers, setup: InlinePool(setup, around))
        return build.Build(request, Display(Console(file=io.StringIO()))).run()


def contents(dataset: Path) -> dict[str, str]:
    """Return the hash of every file that makes a dataset."""
    paths = [*dataset.glob("*.parquet"), *dataset.glob("shards/*"), dataset / "dataset.json"]
    return {p.relative_to(dataset).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def times(folder: Path) -> dict[str, int]:
    """Return when each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}
