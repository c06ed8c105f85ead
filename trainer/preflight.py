"""Before the first step: does everything fit, and what will the run cost?"""

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..manifests.dataset import Dataset
from ..manifests.errors import DatasetError, HsDataError
from .checkpoint import Checkpoints, checkpoints
from .loop import Training
from .prepare import prepare
from .setup import TrainSetup
from .world import join_world

TRIED_STEPS = 2
OVERFIT_SAMPLES = 32
OVERFIT_STEPS = 200
OVERFIT_SHARE = 0.7
"""Share of the first loss that may be left: a network that learns nothing stays at 1."""


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """Findings of two steps."""

    parameters: int
    trained_parameters: int
    clips: int
    """Clips of the training split."""
    held_out_clips: int
    """Clips that the run is judged on."""
    s_per_step: float
    hours: float
    """Duration of the whole run at that pace, checkpoints and validation not counted."""
    peak_memory_gb: float | None
    """Peak memory of the GPU; None on a CPU."""
    checkpoint_gb: float
    disk_gb: float
    """Size of all checkpoints that are kept."""
    free_disk_gb: float
    refused: str | None
    """Sentence that says why it would not fit, or None."""


def check_shards(dataset: Dataset) -> None:
    """Compare the shards' sizes with what the index says: quick, and finds a copy that was cut short.

    Raises:
        DatasetError: a shard is missing or has another size.
    """
    for entry in dataset.index.shards:
        path = dataset.shard_path(entry.path)
        found = path.stat().st_size if path.is_file() else None
        if found != entry.bytes:
            what = "is missing" if found is None else f"has {found} bytes instead of {entry.bytes}"
            raise DatasetError(f"{path}: {what}; copy the dataset again, or run `hs-data verify`")


def try_out(setup: TrainSetup) -> TrialRun:
    """Train two steps in this process in a folder that is thrown away, and say what the whole run would take."""
    with tempfile.TemporaryDirectory(prefix="hs-data-train-") as folder:
        trial = replace(setup, run=folder, resume=False)
        with join_world(setup.config.run.device) as world:
            training = prepare(trial, world)
            config = training.config
            steps = replace(config, run=replace(config.run, steps=TRIED_STEPS, save_every=TRIED_STEPS))
            training.config = steps
            if world.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            held_out = training.validation.num_clips if training.validation else 0
            training.validation = None
            saved = Checkpoints(Path(folder), keep_last=1, keep_every=0)
            seconds = _train(training, saved)
            size_gb = sum(path.stat().st_size for path in checkpoints(Path(folder))[-1].iterdir()) / 1e9
    kept = config.run.keep_last + (config.run.steps // config.run.keep_every if config.run.keep_every else 0)
    existing = next(parent for parent in (Path(setup.run), *Path(setup.run).absolute().parents) if parent.is_dir())
    free_gb = shutil.disk_usage(existing).free / 1e9
    fits = size_gb * kept <= free_gb
    return TrialRun(
        parameters=sum(value.numel() for value in training.network.parameters()),
        trained_parameters=sum(value.numel() for value in training.parameters.values()),
        clips=training.samples.num_clips,
        held_out_clips=held_out,
        s_per_step=seconds / TRIED_STEPS,
        hours=seconds / TRIED_STEPS * config.run.steps / 3600,
        peak_memory_gb=torch.cuda.max_memory_allocated() / 1e9 if world.device.type == "cuda" else None,
        checkpoint_gb=size_gb,
        disk_gb=size_gb * kept,
        free_disk_gb=free_gb,
        refused=None if fits else f"{kept} checkpoints take {size_gb * kept:.1f} GB; lower run.keep_last",
    )


@dataclass(frozen=True, kw_only=True)
class Overfit:
    """Whether a few samples could be learnt by heart."""

    samples: int
    steps: int
    loss_before: float
    loss_after: float


def overfit(setup: TrainSetup) -> Overfit:
    """Train on the same 32 samples again and again, in this process, and throw the weights away.

    Their windows, noise and timesteps are always the same, so a network that can learn at all learns them.

    Raises:
        HsDataError: the loss did not fall below 0.7 of what it was: data, recipe or learning rate do not fit.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hs-data-train-") as folder,
        join_world(setup.config.run.device) as world,
    ):
        training = prepare(replace(setup, run=folder, resume=False), world)
        batch = training.samples.batch(0, OVERFIT_SAMPLES).to(world.device)
        parts = batch.split(min(len(batch), training.state.batch_size))
        passes = -(-OVERFIT_STEPS // len(parts))
        losses = [[training.learn(part).mean().item() for part in parts] for _ in range(passes)]
    before, after = (sum(losses[index]) / len(parts) for index in (0, -1))
    if not after < OVERFIT_SHARE * before:
        raise HsDataError(
            f"--overfit: the loss of {len(batch)} samples went from {before:.4f} to {after:.4f} in "
            f"{passes * len(parts)} steps; look at the clips with `hs-data report`, or change optim.learning_rate"
        )
    return Overfit(samples=len(batch), steps=passes * len(parts), loss_before=before, loss_after=after)


def _train(training: Training, saved: Checkpoints) -> float:
    """Train the steps of a trial; return the seconds they took.

    Raises:
        HsDataError: the GPU has too little memory.
    """
    start = time.perf_counter()
    try:
        training.run(saved, None)
    except torch.cuda.OutOfMemoryError as error:
        total = torch.cuda.get_device_properties(0).total_memory / 1e9
        raise HsDataError(
            f"a step needs more than the GPU's {total:.0f} GB; set model.checkpointing=true, or lower run.batch_size"
        ) from error
    finally:
        saved.close()
    return time.perf_counter() - start
