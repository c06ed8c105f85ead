"""Checkpoints: a folder of safetensors and JSON for each, whole or absent, written while training goes on."""

import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..manifests.errors import DatasetError, HsDataError
from ..manifests.storage import digest, sync
from .tensor_files import DamagedError, TensorFile, check_file, load_tensors, write_tensors

logger = logging.getLogger(__name__)
SCHEMA_VERSION = 2
"""Version of `state.json` and of the files beside it; a checkpoint of another one is refused."""
NAME = re.compile(r"step-(\d{8})")
MODEL, AVERAGE, OPTIMIZER, STATE = "model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"
WEIGHTS = (MODEL, AVERAGE)
"""Files that a network is made of."""
WHOLE = (*WEIGHTS, OPTIMIZER)
"""Files that a run goes on with."""
DAMAGED = ".damaged"
"""Behind the name of a checkpoint that a run did not go on from."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A run besides its tensors. The samples that were seen are `step * batch_size`: the whole data state."""

    step: int
    """Optimizer steps done, skipped ones included."""
    batch_size: int
    recipe: str
    config: Mapping[str, Any]
    """All settings, the recipe's under `recipe`."""
    data: str
    """Fingerprint of the samples."""
    contract: Mapping[str, Any]
    """Contract of the shards: their latents and sound."""
    build: Mapping[str, Any]
    """Settings of the build that the first dataset was made with: what a video must go through to be generated."""
    audio_width: int
    """Numbers in a token of the sound."""
    num_skipped: int = 0
    """Steps without effect because a gradient was not finite."""


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """Tensors that a run goes on with."""

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
            HsDataError: the one before could not be written.
        """
        self.finish()
        copies = [_copy(part) for part in (tensors.model, tensors.average, tensors.optimizer)]
        self._pending = self._writer.submit(self._write, state, Tensors(**dict(zip(_PARTS, copies, strict=True))))

    def check(self) -> None:
        """Raise `HsDataError` as soon as it is known that the last one could not be written."""
        if self._pending is not None and self._pending.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            HsDataError: it could not be written; those before it are whole.
        """
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
        target = checkpoint_of(self.folder.parent, state.step)
        temporary = self._temporary(target)
        try:
            temporary.mkdir(parents=True)
            _write_parts(temporary, state, tensors)
            if target.exists():  # the same step, reached again after a restart
                _remove(target, self._temporary(target))
            os.replace(temporary, target)
            sync(self.folder)
            self._prune()
        except OSError as error:
            raise HsDataError(
                f"{target}: cannot be saved ({error.strerror or error}); the checkpoints before it are kept: "
                "free some space and go on with --resume"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _prune(self) -> None:
        for path in self.folder.glob(".step-*.tmp"):  # of a run that was killed while it wrote
            shutil.rmtree(path, ignore_errors=True)
        found = checkpoints(self.folder.parent)
        for path in found[: -self._keep_last]:
            if not self._keep_every or step_of(path) % self._keep_every:
                _remove(path, self._temporary(path))

    def _temporary(self, target: Path) -> Path:
        return self.folder / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"


_PARTS = ("model", "average", "optimizer")


def _write_parts(folder: Path, state: State, tensors: Tensors) -> None:
    """Write the files of a checkpoint, `state.json` last: it holds the hashes of the others, and its own."""
    files = {
        name: asdict(write_tensors(folder / name, content))
        for part, name in zip(_PARTS, WHOLE, strict=True)
        if (content := getattr(tensors, part))
    }
    table = {"schema_version": SCHEMA_VERSION, **asdict(state), "files": files}
    text = json.dumps({**table, "sha256": digest(table)}, indent=2) + "\n"
    (folder / STATE).write_text(text, encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        sync(path)


def _remove(checkpoint: Path, temporary: Path) -> None:
    """Remove a checkpoint so that it is whole or absent at every moment."""
    checkpoint.rename(temporary)
    shutil.rmtree(temporary)


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the oldest first; nothing of them is read."""
    found = (run / "checkpoints").glob("step-*")
    return sorted(path for path in found if NAME.fullmatch(path.name) and path.is_dir())


def checkpoint_of(run: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return run / "checkpoints" / f"step-{step:08}"


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint from its name."""
    match = NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def is_checkpoint(folder: Path) -> bool:
    """Tell whether a folder is a checkpoint."""
    return (folder / STATE).is_file()


def find_checkpoint(folder: Path, files: Collection[str] = WEIGHTS) -> Path:
    """Return a checkpoint whose files are what was written: the folder itself, or the newest such one of a run.

    A newer one that is damaged is warned of. Hashing takes a few seconds for each GB.

    Args:
        folder: a checkpoint, or a run.
        files: those that will be read; the others are not looked at.

    Raises:
        DatasetError: there is none, or none is whole.
    """
    if is_checkpoint(folder):
        check_checkpoint(folder, files)
        return folder
    bad: list[DamagedError] = []
    for path in reversed(checkpoints(folder)):
        try:
            check_checkpoint(path, files)
        except DamagedError as error:
            bad.append(error)
            continue
        for error in bad:
            logger.warning("%s; going on from the checkpoint of step %d", error, step_of(path))
        return path
    if bad:
        raise DatasetError(f"{bad[0]}, and no checkpoint before it is whole; restore it, or begin in another folder")
    raise DatasetError(f"{folder}: holds no checkpoint; name a run of `hs-data train` or one of its checkpoints")


def check_checkpoint(checkpoint: Path, files: Collection[str]) -> None:
    """Compare some files of a checkpoint with the hashes in its `state.json`.

    Raises:
        DamagedError: names the file.
        DatasetError: another version of hs-data wrote it.
    """
    _, known = _read_state(checkpoint)
    for name, facts in known.items():
        if name in files:
            check_file(checkpoint / name, facts)


def set_aside(run: Path, newest: Path) -> None:
    """Rename the checkpoints after the newest whole one, so that they neither count nor are gone on from again."""
    for path in checkpoints(run):
        if step_of(path) > step_of(newest):
            aside = path.with_name(path.name + DAMAGED)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            logger.warning("%s: is damaged, and called %s now; remove it when you like", path, aside.name)


def read_state(checkpoint: Path) -> State:
    """Read what a checkpoint says of its run."""
    return _read_state(checkpoint)[0]


def _read_state(checkpoint: Path) -> tuple[State, Mapping[str, TensorFile]]:
    """Read `state.json`, and what the files beside it were when they were written."""
    path = checkpoint / STATE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        known = table.pop("sha256", None)
        is_older = known is None and "schema_version" not in table  # before there were either
        if not is_older and known != digest(table):
            raise DamagedError(f"{path}: is not what was written")
        if (version := table.pop("schema_version", 1)) != SCHEMA_VERSION:
            raise DatasetError(
                f"{path}: was written by another version of hs-data (schema {version}, this one has {SCHEMA_VERSION}); "
                "train again in another folder, or use that version"
            )
        files = {name: TensorFile(**value) for name, value in table.pop("files").items()}
        return State(**table), files
    except FileNotFoundError as error:
        raise DamagedError(f"{path}: is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: cannot be read as the state of a run ({error})") from error


def read_tensors(checkpoint: Path) -> Tensors:
    """Read all tensors of a checkpoint to the CPU."""
    return Tensors(
        model=_read(checkpoint, MODEL), average=_read(checkpoint, AVERAGE), optimizer=_read(checkpoint, OPTIMIZER)
    )


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read the weights that a checkpoint ships: averaged, where it has an average. The optimizer is left alone."""
    return {**_read(checkpoint, MODEL), **_read(checkpoint, AVERAGE)}


def _read(checkpoint: Path, name: str) -> dict[str, torch.Tensor]:
    path = checkpoint / name
    if path.is_file():
        return load_tensors(path)
    if name == MODEL:
        raise DamagedError(f"{path}: is missing")
    return {}


def _copy(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
