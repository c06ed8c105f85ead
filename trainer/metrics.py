"""Metrics of a run: measured between two lines of `metrics.jsonl`, written there and to trackers, and shown."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..manifests.errors import ConfigError, HsDataError, how_to_install
from ..manifests.remaining import Remaining
from ..manifests.storage import write_bytes
from .config import TrainRunConfig
from .validation import LEVELS
from .world import World


class Watch:
    """Measurements between two lines of the log: losses, gradient, time, memory."""

    def __init__(self, world: World, num_timesteps: int) -> None:
        self._world = world
        self._num_timesteps = num_timesteps
        self.floor_s = 0.0
        """Seconds that a step would take at the device's peak; 0: not known."""
        self.clear()

    def clear(self) -> None:
        """Forget what was seen, and begin to count anew."""
        self._since = time.perf_counter()
        self._waited_s = 0.0
        self._steps = 0
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as time in which data were waited for."""
        start = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - start

    def saw(self, timestep: torch.Tensor, per_sample: torch.Tensor, norm: torch.Tensor) -> None:
        """Take the timesteps [B] and losses [B] of a step, and its gradient's length."""
        self._steps += 1
        self._seen.append((timestep, per_sample, norm))

    @property
    def losses(self) -> torch.Tensor:
        """The losses of the samples since the last line."""
        return torch.cat([seen[1] for seen in self._seen])

    def values(self, batch_size: int) -> dict[str, float | None]:
        """Return the means since the last call: of this process's samples, its time and its memory."""
        seconds = time.perf_counter() - self._since
        timestep = torch.cat([seen[0] for seen in self._seen])
        losses = self.losses
        s_per_step = seconds / self._steps
        line: dict[str, float | None] = {
            "loss": losses.mean().item(),
            "grad_norm": torch.stack([seen[2] for seen in self._seen]).mean().item(),
            "s_per_step": s_per_step,
            "samples_per_s": self._steps * batch_size / seconds,
            "data_wait_share": self._waited_s / seconds,
        }
        if self.floor_s:
            line["mfu"] = self.floor_s / s_per_step
        level = timestep * LEVELS // self._num_timesteps
        for number in range(LEVELS):
            inside = losses[level == number]
            line[f"loss_level{number}"] = inside.mean().item() if len(inside) else None
        if self._world.device.type == "cuda":
            line["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self.clear()
        return line


logger = logging.getLogger(__name__)
LOG_EVERY_S = 60.0
FIRST_STEPS = 3
"""Steps after which the time that is left is told for the first time; the first one loads and compiles."""
SHOWN = {"loss": "loss {:.4f}", "samples_per_s": "{:.1f} samples/s", "data_wait_share": "waits {:.1%}"}


class TrainProgress:
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

    def __enter__(self) -> "TrainProgress":
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


logger = logging.getLogger(__name__)
Values = Mapping[str, float | int | None]
"""Measured values by name, which recipes add to; None: not measured."""


@dataclass(frozen=True, kw_only=True)
class MetricsLine:
    """A line of `metrics.jsonl`."""

    step: int
    values: Values

    def to_json(self) -> dict[str, float | int | None]:
        """Return one flat table."""
        return {"step": self.step, **self.values}


class Metrics:
    """Write what is measured; use as a context manager.

    Args:
        run: the run's folder.
        config: which trackers.
        step: the step that training goes on from; later lines of an earlier try are cut off.
    """

    def __init__(self, run: Path, config: TrainRunConfig, *, step: int) -> None:
        self._path = run / "metrics.jsonl"
        _forget_after(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _tensorboard(run) if config.tensorboard else None
        self._wandb = _wandb(run, config.wandb) if config.wandb else None
        self._display = TrainProgress(step=step, steps=config.steps)

    def __enter__(self) -> "Metrics":
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.__exit__(kind, error, trace)
        with suppress(OSError) if kind else nullcontext():  # what could not be written has been told already
            self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def stepped(self, step: int) -> None:
        """Show that a step is done."""
        self._display.stepped(step)

    def write(self, step: int, values: Values) -> None:
        """Add a line; None stands for what was not measured.

        Raises:
            HsDataError: the disk is full, or cannot be written.
        """
        try:
            self._file.write(json.dumps(MetricsLine(step=step, values=values).to_json()) + "\n")
            self._file.flush()
        except OSError as error:
            raise HsDataError(
                f"{self._path}: cannot be written ({error.strerror or error}); free some space and go on with --resume"
            ) from error
        self._display.told(step, values)
        numbers = {name: value for name, value in values.items() if value is not None}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)


def read_metrics(run: Path) -> list[MetricsLine]:
    """Return the lines of a run; one that was cut short by a crash, or holds no step, is told and left out."""
    lines = []
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            lines.append(MetricsLine(step=values.pop("step"), values=values))
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.warning("%s: a damaged line is left out", run / "metrics.jsonl")
    return lines


def _forget_after(path: Path, step: int) -> None:
    """Drop lines of steps that are about to be done again."""
    if path.is_file():
        kept = [line for line in read_metrics(path.parent) if line.step <= step]
        write_bytes(path, "".join(json.dumps(line.to_json()) + "\n" for line in kept).encode())


def _tensorboard(run: Path) -> Any:  # noqa: ANN401 - of a package that may be absent
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(f"run.tensorboard: is not installed; {how_to_install('tensorboard')}") from error
    return SummaryWriter(str(run / "tensorboard"))


def _wandb(run: Path, project: str) -> Any:  # noqa: ANN401 - of a package that may be absent
    try:
        import wandb  # type: ignore[import-not-found]  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(f"run.wandb: is not installed; {how_to_install('wandb')}") from error
    return wandb.init(project=project, dir=str(run), name=run.name, resume="allow", id=run.name)
