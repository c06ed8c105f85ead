"""What a run tells: a line of `metrics.jsonl` every few steps, and TensorBoard or Weights & Biases on request."""

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..manifests.errors import ConfigError, HsDataError, how_to_install
from ..manifests.storage import write_bytes
from .config import RunConfig
from .progress import Display

logger = logging.getLogger(__name__)
Values = Mapping[str, float | int | None]


class Metrics:
    """Write what is measured; use as a context manager.

    Args:
        run: the run's folder.
        config: which trackers.
        step: the step that training goes on from; later lines of an earlier try are cut off.
    """

    def __init__(self, run: Path, config: RunConfig, *, step: int) -> None:
        self._path = run / "metrics.jsonl"
        _forget_after(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _tensorboard(run) if config.tensorboard else None
        self._wandb = _wandb(run, config.wandb) if config.wandb else None
        self._display = Display(step=step, steps=config.steps)

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
            self._file.write(json.dumps({"step": step, **values}) + "\n")
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


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run; a last one that was cut short by a crash is left out."""
    lines = []
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            logger.warning("%s: a damaged line is left out", run / "metrics.jsonl")
    return lines


def _forget_after(path: Path, step: int) -> None:
    """Drop lines of steps that are about to be done again."""
    if path.is_file():
        kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
        write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


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
