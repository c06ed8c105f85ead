"""Checkpoints: a folder of safetensors and JSON for each, whole or absent, written while training goes on."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..manifests.errors import DatasetError
from ..manifests.storage import read_json, sync

NAME = re.compile(r"step-(\d{8})")
MODEL, AVERAGE, OPTIMIZER, STATE = "model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class State:
    """What a run is besides its tensors. The samples that were seen are `step * batch_size`: the whole data state."""

    step: int
    """Optimizer steps done, skipped ones included."""
    batch_size: int
    recipe: str
    config: Mapping[str, Any]
    """All settings, the recipe's under `recipe`."""
    data: str
    """Fingerprint of the samples."""
    contract: Mapping[str, Any]
    """What the shards say of latents and sound."""
    build: Mapping[str, Any]
    """Settings of the build that the first dataset was made with: what a video must go through to be generated."""
    audio_width: int
    """Numbers in a token of the sound."""
    num_skipped: int = 0
    """Steps without effect because a gradient was not finite."""


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """What a run goes on with."""

    model: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    """Empty without one."""
    optimizer: dict[str, torch.Tensor]
    """`name.field`, such as `denoiser.conv_in.weight.exp_avg`."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: the run's folder; checkpoints lie in `checkpoints/step-00001000`.
        keep_last: how many are kept.
        keep_every: one at a multiple of this many steps is kept for ever; 0: none.
    """

    def __init__(self, run: Path, *, keep_last: int, keep_every: int) -> None:
        self.folder = run / "checkpoints"
        self._keep_last, self._keep_every = keep_last, keep_every
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, state: State, tensors: Tensors) -> None:
        """Copy the tensors to memory of the CPU now, and write them while training goes on.

        Raises:
            OSError: the one before could not be written.
        """
        self.finish()
        copies = [_copy(part) for part in (tensors.model, tensors.average, tensors.optimizer)]
        self._pending = self._writer.submit(self._write, state, Tensors(**dict(zip(_PARTS, copies, strict=True))))

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.finish()
        finally:
            self._writer.shutdown()

    def _write(self, state: State, tensors: Tensors) -> None:
        target = self.folder / f"step-{state.step:08}"
        temporary = self.folder / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
        temporary.mkdir(parents=True)
        try:
            for part, name in zip(_PARTS, (MODEL, AVERAGE, OPTIMIZER), strict=True):
                if content := getattr(tensors, part):
                    save_file(content, temporary / name)
            (temporary / STATE).write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
            for path in (*temporary.iterdir(), temporary):
                sync(path)
            if target.exists():  # the same step, reached again after a restart
                shutil.rmtree(target)
            os.replace(temporary, target)
            sync(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune()

    def _prune(self) -> None:
        for path in self.folder.glob(".step-*.tmp"):  # of a run that was killed while it wrote
            shutil.rmtree(path, ignore_errors=True)
        found = checkpoints(self.folder.parent)
        for path in found[: -self._keep_last]:
            if not self._keep_every or step_of(path) % self._keep_every:
                shutil.rmtree(path)


_PARTS = ("model", "average", "optimizer")


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the oldest first."""
    found = [path for path in (run / "checkpoints").glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(path for path in found if (path / STATE).is_file())


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint from its name."""
    match = NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def is_checkpoint(place: Path) -> bool:
    """Tell whether a folder is a checkpoint."""
    return (place / STATE).is_file()


def find_checkpoint(place: Path) -> Path:
    """Return a checkpoint: the folder itself, or the newest one of a run.

    Raises:
        DatasetError: there is none.
    """
    if is_checkpoint(place):
        return place
    found = checkpoints(place)
    if not found:
        raise DatasetError(f"{place}: holds no checkpoint; name a run of `hs-data train` or one of its checkpoints")
    return found[-1]


def read_state(checkpoint: Path) -> State:
    """Read what a checkpoint says of its run."""
    return State(**read_json(checkpoint / STATE))


def read_tensors(checkpoint: Path) -> Tensors:
    """Read the tensors of a checkpoint to the CPU."""
    parts = {}
    for part, name in zip(_PARTS, (MODEL, AVERAGE, OPTIMIZER), strict=True):
        path = checkpoint / name
        parts[part] = load_file(path) if path.is_file() else {}
    if not parts["model"]:
        raise DatasetError(f"{checkpoint / MODEL}: is missing; use another checkpoint")
    return Tensors(**parts)


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read the weights that a checkpoint ships: averaged, where it has an average."""
    tensors = read_tensors(checkpoint)
    return {**tensors.model, **tensors.average}


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    """Return an optimizer's state as named tensors; `names` are the parameters' in the optimizer's order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{name}.{field}": torch.as_tensor(value)
        for name, parameter in zip(names, parameters, strict=True)
        for field, value in optimizer.state[parameter].items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, torch.Tensor]) -> None:
    """Put named tensors back into an optimizer."""
    if not tensors:
        return
    places = {name: place for place, name in enumerate(names)}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        name, _, field = key.rpartition(".")
        state.setdefault(places[name], {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _copy(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
