"""What a person sees while a run trains: one line on a terminal, one log line a minute elsewhere."""

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..manifests.remaining import Remaining

logger = logging.getLogger(__name__)
LOG_EVERY_S = 60.0
FIRST_STEPS = 3
"""Steps after which the time that is left is told for the first time; the first one loads and compiles."""
SHOWN = {"loss": "loss {:.4f}", "samples_per_s": "{:.1f} samples/s", "data_wait_share": "waits {:.1%}"}


class Display:
    """Follow the steps of a run on standard error; use as a context manager."""

    def __init__(self, *, step: int, steps: int) -> None:
        console = Console(stderr=True)
        self._steps = steps
        self._first = step + FIRST_STEPS
        self._is_warm = False
        self._parts = ""
        self._remaining = Remaining(steps, step)
        self._logged = time.monotonic()
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TextColumn("{task.fields[left]}", style="cyan"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=steps, completed=step, told="", left="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stepped(self, step: int) -> None:
        """Count a step."""
        self._remaining.reached(step)
        if not self._is_warm:
            self._is_warm = True
            self._remaining.begin()
        self._progress.update(self._task, completed=step, left=self._remaining.text())
        if self._progress.disable and (step == self._first or time.monotonic() - self._logged >= LOG_EVERY_S):
            self._log(step)

    def told(self, step: int, values: Mapping[str, float | None]) -> None:
        """Show a line of the log."""
        parts = [text.format(values[name]) for name, text in SHOWN.items() if values.get(name) is not None]
        if values.get("val_loss") is not None:
            parts.append(f"val loss {values['val_loss']:.4f}")
        if values.get("val_gap") is not None:
            parts.append(f"audio gap {values['val_gap']:+.4f}")
        self._parts = ", ".join(parts)
        self._progress.update(self._task, completed=step, told=self._parts)
        if self._progress.disable and "val_loss" in values:
            self._log(step)

    def _log(self, step: int) -> None:
        self._logged = time.monotonic()
        words = [self._parts, self._remaining.text() if step < self._steps else ""]
        told = ", ".join(word for word in words if word)
        logger.info("step %d of %d%s%s", step, self._steps, told and ": ", told)
