"""What a person sees while a run trains: one line on a terminal, one log line a minute elsewhere."""

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)
LOG_EVERY_S = 60.0
SHOWN = {"loss": "loss {:.4f}", "samples_per_s": "{:.1f} samples/s", "data_wait_share": "waits {:.1%}"}


class Display:
    """Follow the steps of a run on standard error; use as a context manager."""

    def __init__(self, *, step: int, steps: int) -> None:
        console = Console(stderr=True)
        self._steps = steps
        self._logged = time.monotonic()
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=steps, completed=step, told="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def told(self, step: int, values: Mapping[str, float | None]) -> None:
        """Show a line of the log."""
        parts = [text.format(values[name]) for name, text in SHOWN.items() if values.get(name) is not None]
        if values.get("val_loss") is not None:
            parts.append(f"val loss {values['val_loss']:.4f}")
        if values.get("val_gap") is not None:
            parts.append(f"audio gap {values['val_gap']:+.4f}")
        self._progress.update(self._task, completed=step, told=", ".join(parts))
        if self._progress.disable and (time.monotonic() - self._logged >= LOG_EVERY_S or "val_loss" in values):
            self._logged = time.monotonic()
            logger.info("step %d of %d: %s", step, self._steps, ", ".join(parts))
