"""What a person sees while a run trains: one line on a terminal, one log line a minute elsewhere."""

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

logger = logging.getLogger(__name__)
LOG_EVERY_S = 60.0
FIRST_STEPS = 3
"""Steps after which the time that is left is first told. The first one is not counted: it warms up and compiles."""
SHOWN = {"loss": "loss {:.4f}", "samples_per_s": "{:.1f} samples/s", "data_wait_share": "waits {:.1%}"}


class Display:
    """Follow the steps of a run on standard error; use as a context manager."""

    def __init__(self, *, step: int, steps: int) -> None:
        console = Console(stderr=True)
        self._begun, self._steps = step, steps
        self._logged = time.monotonic()
        self._warm: float | None = None
        self._told: list[str] = []
        self._left = ""
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TextColumn("{task.fields[left]}"),
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
        """Show that a step is done, and from the third on how long the others will take."""
        now, done = time.monotonic(), step - self._begun
        if self._warm is None:
            self._warm = now
        elif done >= FIRST_STEPS:
            self._left = f"{as_duration((now - self._warm) / (done - 1) * (self._steps - step))} left"
        self._progress.update(self._task, completed=step, left=self._left)
        if self._progress.disable and (done == FIRST_STEPS or now - self._logged >= LOG_EVERY_S):
            self._log(step)

    def told(self, step: int, values: Mapping[str, float | None]) -> None:
        """Show a line of the log."""
        parts = [text.format(values[name]) for name, text in SHOWN.items() if values.get(name) is not None]
        if values.get("val_loss") is not None:
            parts.append(f"val loss {values['val_loss']:.4f}")
        if values.get("val_gap") is not None:
            parts.append(f"audio gap {values['val_gap']:+.4f}")
        self._told = parts
        self._progress.update(self._task, completed=step, told=", ".join(parts))
        if self._progress.disable and "val_loss" in values:
            self._log(step)

    def _log(self, step: int) -> None:
        self._logged = time.monotonic()
        told = ", ".join(filter(None, [*self._told, self._left]))
        logger.info("step %d of %d%s", step, self._steps, f": {told}" if told else "")


def as_duration(seconds: float) -> str:
    """Write a time as a person says it: `40 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    for unit, below in ((1, 90), (60, 90 * 60)):
        if seconds < below:
            return f"{round(seconds / unit)} {'s' if unit == 1 else 'min'}"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
