"""Get units done whatever their workers do: split what dies, set aside what kills twice, go on with the rest."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...manifests.errors import HsDataError
from ...manifests.storage import read_json, write_json
from .messages import Done
from .pools import Event, Pool
from .units import Item, Phase, Unit
from .worker_status import CrashInfo, WorkerStatus

logger = logging.getLogger(__name__)

MAX_DEATHS = 2
"""An item that is alone in its unit and kills its worker this often is set aside."""
GRACE_S = 120.0
"""A unit may take this much longer than the deadlines of all its items: loading models, slow disks."""
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a unit is overdue and a worker has grown too large."""

    recycle_mb: float

    def deadline_s(self, unit: Unit) -> float:
        """Return how long a unit may take before its worker is killed; a stalled decode kills itself earlier."""
        return GRACE_S + sum(item["timeout_s"] + item.get("compute_s", 0.0) for item in unit.items)


@dataclass(frozen=True, kw_only=True)
class QuarantineEntry:
    """An item that was set aside, and why; its fields are those of its JSON file."""

    id: str
    path: str
    reason: str
    detail: str
    trace: str
    fingerprint: str
    """Identity of the settings that it was tried with."""


class Quarantine:
    """Items that were set aside, one file each under `work/quarantine`; without its file an item is tried again."""

    def __init__(self, dataset: Path) -> None:
        self._folder = dataset / "work" / "quarantine"

    def add(self, unit: Unit, item: Item, *, reason: str, detail: str, trace: str) -> None:
        """Set an item of a unit aside, under the settings it was tried with."""
        path = self._folder / unit.phase / f"{item['id']}.json"
        told = f"{detail}; remove {path.relative_to(self._folder.parents[1])} to try again"
        entry = QuarantineEntry(
            id=item["id"],
            path=item["path"],
            reason=reason,
            detail=told,
            trace=trace,
            fingerprint=unit.fingerprint,
        )
        write_json(path, asdict(entry))

    def load(self, phase: Phase, fingerprint: str) -> dict[str, QuarantineEntry]:
        """Return what was set aside in a phase under these settings, by item id."""
        entries = [QuarantineEntry(**read_json(path)) for path in sorted((self._folder / phase).glob("*.json"))]
        return {entry.id: entry for entry in entries if entry.fingerprint == fingerprint}


class Supervisor:
    """Drive one phase's units through a pool."""

    def __init__(
        self,
        pool: Pool,
        dataset: Path,
        *,
        limits: Limits,
        finished: Callable[[Unit, Done | None], None],
        waiting: Callable[[float, Sequence[Sequence[Item]]], None] = lambda oldest_s, through: None,
    ) -> None:
        self._pool = pool
        self._dataset = dataset
        self._limits = limits
        self._finished = finished
        self._waiting = waiting
        self._quarantine = Quarantine(dataset)
        self._queue: deque[Unit] = deque()
        self._running: dict[str, tuple[Unit, float]] = {}
        self._deaths: Counter[str] = Counter()
        self._told = 0.0

    def run(self, units: Sequence[Unit]) -> None:
        """Return when every item is committed or set aside.

        Raises:
            HsDataError: nothing can go on: a model is missing, the disk is full, workers do not start.
        """
        self._queue.extend(units)
        while self._queue or self._running:
            while self._queue and self._pool.idle():
                unit = self._queue.popleft()
                worker = self._pool.submit(unit)
                self._running[worker] = (unit, time.monotonic())
            for event in self._pool.wait(POLL_S):
                self._take(event)
            self._kill_overdue()
            self._tell()

    def _tell(self) -> None:
        """Tell what runs; not at every event, for the workers' files may lie on a slow share."""
        now = time.monotonic()
        if now - self._told >= POLL_S:
            self._told = now
            oldest_s = max((now - began for _, began in self._running.values()), default=0.0)
            self._waiting(oldest_s, [self._through(worker, unit) for worker, (unit, _) in self._running.items()])

    def _through(self, worker: str, unit: Unit) -> tuple[Item, ...]:
        """Return the items that a worker is through with; they count only when their unit is committed."""
        at = WorkerStatus(self._dataset, worker).item()
        return unit.items[: next((place for place, item in enumerate(unit.items) if item["id"] == at), 0)]

    def _take(self, event: Event) -> None:
        self._running.pop(event.worker, None)
        beat = WorkerStatus(self._dataset, event.worker)
        if event.done is not None:
            self._finished(event.unit, event.done)
            if event.done.memory_mb > self._limits.recycle_mb:
                self._pool.recycle(event.worker)
            return
        if event.fatal:
            raise HsDataError(f"{event.unit.phase}: {event.failed}")
        words = beat.last_words()
        if event.failed is not None:
            words = CrashInfo(item=words.item, timed_out=False, trace=event.failed)
        beat.clear()
        self._bury(event.unit, words)

    def _bury(self, unit: Unit, words: CrashInfo) -> None:
        """Decide what becomes of a unit whose worker died over it."""
        suspect = next((item for item in unit.items if item["id"] == words.item), None)
        if suspect is None:
            self._deaths[unit.unit_id] += 1
            if self._deaths[unit.unit_id] > MAX_DEATHS:
                cause = words.trace.strip() or "no trace; see the log, try --executor local"
                raise HsDataError(f"{unit.phase}: workers fail before they begin: {cause}")
            self._queue.appendleft(unit)
            return
        logger.warning("%s: the worker died %s", suspect["path"], "in a stalled decode" if words.timed_out else "")
        self._deaths[suspect["id"]] += 1
        rest = [item for item in unit.items if item is not suspect]
        # An encode decodes clips together, so the one that was waited for may be innocent until it is alone.
        if words.timed_out and (not rest or unit.phase != "encode"):
            detail = f"decoding took more than {suspect['timeout_s']:.0f} s"
            self._set_aside(unit, suspect, "decode_timeout", detail, words.trace)
        elif not rest and self._deaths[suspect["id"]] >= MAX_DEATHS:
            detail = f"killed its worker {MAX_DEATHS} times"
            self._set_aside(unit, suspect, "internal_error", detail, words.trace)
        else:
            self._queue.append(unit.of_some([suspect]))
        if rest:
            self._queue.append(unit.of_some(rest))

    def _set_aside(self, unit: Unit, item: Item, reason: str, detail: str, trace: str) -> None:
        self._quarantine.add(unit, item, reason=reason, detail=detail, trace=trace)
        self._finished(unit.of_some([item]), None)

    def _kill_overdue(self) -> None:
        for worker, (unit, began) in list(self._running.items()):
            if time.monotonic() - began > self._limits.deadline_s(unit):
                logger.warning("unit %s is overdue: its worker is killed", unit.unit_id)
                self._running[worker] = (unit, time.monotonic())  # its end will be reported; it is killed once
                self._pool.kill(worker)
