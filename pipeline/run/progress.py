"""What a person sees while a build runs: one line per phase on a terminal, one log line a minute elsewhere."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ...manifests.remaining import Remaining
from ..workers.messages import Done
from ..workers.units import Item, Phase, Unit

logger = logging.getLogger(__name__)
LOG_EVERY_S = 60.0
MAX_REASONS = 3


class BuildProgress:
    """Follow the phases of a build; everything goes to the console that is given, which should be standard error."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def phase(self, phase: Phase, items: Sequence[Item], num_done: int, done_s: float = 0.0) -> Iterator[None]:
        """Show a phase while it lasts, however it ends: all its items, and how many of what length were done before."""
        self._phase, self._num_items, self._num_done = phase, len(items), num_done
        self._drops: Counter[str] = Counter()
        self._seconds = 0.0
        self._began = self._logged = time.monotonic()
        length_s = sum(item["seconds"] for item in items)
        # A file is as good as another where nobody knows yet how long it is.
        self._by_length = length_s > 0
        self._done = done_s if self._by_length else num_done
        self._remaining = Remaining(length_s if self._by_length else len(items), self._done)
        with self._bar() as self._progress:  # one for each phase, so that its line is printed once
            self._task = self._progress.add_task(
                phase, total=len(items), completed=num_done, rate="", left="", drops=""
            )
            yield
        if self._progress.disable:
            self._log()

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<7}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[left]}", style="cyan"),
            TextColumn("{task.fields[drops]}", style="yellow"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def advance(self, unit: Unit, done: Done | None) -> None:
        """Count a unit that is committed, or (with None) an item that was set aside."""
        outcomes = {"set aside": len(unit.items)} if done is None else done.outcomes
        self._drops.update({name: number for name, number in outcomes.items() if name != "ok"})
        self._seconds += unit.seconds
        self._num_done += len(unit.items)
        self._done += self._size(unit.items)
        self._show([])

    def wait(self, oldest_s: float, begun: Sequence[Sequence[Item]]) -> None:
        """Show life between units: the items that running ones are through with, and the age of the oldest unit."""
        self._show([item for items in begun for item in items], f"oldest unit runs for {oldest_s:.0f} s")

    def _show(self, through: Sequence[Item], *more: str) -> None:
        self._remaining.reached(self._done + self._size(through))
        num_done = self._num_done + len(through)
        if not self._progress.disable:
            left = self._remaining.text()
            self._progress.update(self._task, completed=num_done, rate=self._rate(), left=left, drops=self._reasons())
        elif time.monotonic() - self._logged > LOG_EVERY_S:
            self._log(len(through), *more)

    def _log(self, num_through: int = 0, *more: str) -> None:
        self._logged = time.monotonic()
        num_done = self._num_done + num_through
        left = self._remaining.text() if num_done < self._num_items else ""
        words = [f"{self._phase}: {num_done}/{self._num_items}", self._rate(), left, self._reasons(), *more]
        logger.info("  ".join(word for word in words if word))

    def _size(self, items: Sequence[Item]) -> float:
        return sum(item["seconds"] for item in items) if self._by_length else len(items)

    def _rate(self) -> str:
        elapsed_s = max(time.monotonic() - self._began, 1e-3)
        return f"{self._seconds / elapsed_s:.1f} video-h/h" if self._seconds else ""

    def _reasons(self) -> str:
        return ", ".join(f"{reason} {number}" for reason, number in self._drops.most_common(MAX_REASONS))
