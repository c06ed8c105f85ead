"""What a person sees while a build runs: one line per phase on a terminal, one log line a minute elsewhere."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .units import Item, Phase, Unit
from .work import Done

logger = logging.getLogger(__name__)
LOG_EVERY_S = 60.0
MAX_REASONS = 3


class Display:
    """Follow the phases of a build; everything goes to the console that is given, which should be standard error."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<7}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[drops]}", style="yellow"),
            console=console,
            disable=not console.is_terminal,
        )
        self._drops: Counter[str] = Counter()
        self._phase = ""
        self._began = self._logged = 0.0
        self._seconds = 0.0
        self._num_done = self._num_items = 0

    @contextmanager
    def phase(self, phase: Phase, items: Sequence[Item], num_done: int) -> Iterator[None]:
        """Show a phase while it lasts, however it ends: all its items, and how many were done before."""
        self._begin(phase, items, num_done)
        try:
            yield
        finally:
            self._end()

    def _begin(self, phase: Phase, items: Sequence[Item], num_done: int) -> None:
        self._phase, self._num_items, self._num_done = phase, len(items), num_done
        self._drops, self._seconds = Counter(), 0.0
        self._began = self._logged = time.monotonic()
        self._progress.start()
        self._task = self._progress.add_task(phase, total=len(items), completed=num_done, rate="", drops="")

    def advance(self, unit: Unit, done: Done | None) -> None:
        """Count a unit that is committed, or (with None) an item that was set aside."""
        outcomes = {"set aside": len(unit.items)} if done is None else done.outcomes
        self._drops.update({name: number for name, number in outcomes.items() if name != "ok"})
        self._seconds += unit.seconds
        self._num_done += len(unit.items)
        self._progress.update(self._task, advance=len(unit.items), rate=self._rate(), drops=self._reasons())
        if self._progress.disable and time.monotonic() - self._logged > LOG_EVERY_S:
            self._log()

    def wait(self, oldest_s: float) -> None:
        """Show life while nothing finishes: the age of the unit that has run longest, once a minute where no bar is."""
        if self._progress.disable and time.monotonic() - self._logged > LOG_EVERY_S:
            self._log(f"oldest unit runs for {oldest_s:.0f} s")

    def _end(self) -> None:
        self._progress.stop()
        if self._progress.disable:
            self._log()

    def _log(self, *more: str) -> None:
        self._logged = time.monotonic()
        words = [f"{self._phase}: {self._num_done}/{self._num_items}", self._rate(), self._reasons(), *more]
        logger.info("  ".join(word for word in words if word))

    def _rate(self) -> str:
        elapsed_s = max(time.monotonic() - self._began, 1e-3)
        return f"{self._seconds / elapsed_s:.1f} video-h/h" if self._seconds else ""

    def _reasons(self) -> str:
        return ", ".join(f"{reason} {number}" for reason, number in self._drops.most_common(MAX_REASONS))
