"""Work that a worker is at right now, left on disk so that its death can be explained."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..media.deadline import DecodeDeadline, deadline_fired


@dataclass(frozen=True, kw_only=True)
class CrashInfo:
    """A dead worker's last item, and the traceback it left."""

    item: str | None
    """The item it was at; None when it had not begun one."""
    timed_out: bool
    """Whether a stalled decode was killed by its deadline."""
    trace: str
    """The stack at that moment; empty when the process was killed from outside or crashed."""


class WorkerStatus:
    """One small file per worker, rewritten as it turns to another item, and one for the stack of a stalled decode."""

    def __init__(self, dataset: Path, worker: str) -> None:
        folder = dataset / "work" / "beats"
        folder.mkdir(parents=True, exist_ok=True)
        self._item = folder / f"{worker}.json"
        self.trace = folder / f"{worker}.trace"

    def turn_to(self, item: str | None) -> None:
        """Say which item comes next; None between two units."""
        self._item.write_text(json.dumps(item), encoding="utf-8")

    @contextmanager
    def deadline(self, budget_s: float) -> Iterator[DecodeDeadline]:
        """Give a deadline for decoding one item that leaves its stack here when it fires."""
        deadline = DecodeDeadline(budget_s, self.trace)
        try:
            yield deadline
        finally:
            deadline.close()

    def item(self) -> str | None:
        """Return the item that the worker is at; None between two units."""
        try:
            return json.loads(self._item.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # never written, or it is being written
            return None

    def last_words(self) -> CrashInfo:
        """Read what a dead worker left behind."""
        trace = self.trace.read_text(encoding="utf-8", errors="replace") if self.trace.is_file() else ""
        return CrashInfo(item=self.item(), timed_out=deadline_fired(self.trace), trace=trace)

    def clear(self) -> None:
        """Remove the files."""
        self._item.unlink(missing_ok=True)
        self.trace.unlink(missing_ok=True)
