"""GPUs: how many workers share them, by the memory that one worker was seen to need."""

import json
import subprocess
import sys
from dataclasses import dataclass

from ...manifests.errors import ModelError
from .messages import WorkerSetup

ANSWER = "hs-data gpu probe: "
"""Begins the one line of the probe's standard output that is for us; libraries print others."""

HEADROOM = 0.9
"""Share of the free memory that is given out; allocators split what they hold, and displays need some."""


@dataclass(frozen=True, kw_only=True)
class GpuShare:
    """Workers, and what each has of a GPU."""

    num_workers: int
    num_gpus: int = 0
    """GPUs that take part, of this machine or of the cluster; 0 where networks run on the CPU."""
    per_worker: float = 0.0
    """Share of one GPU, 0-1."""


def share_gpus(setup: WorkerSetup, num_workers: int, num_gpus: int | None = None) -> GpuShare:
    """Let a process of its own load all networks and run their largest batches, and divide the memory by its need.

    Args:
        setup: what workers get; its `models.device` is settled.
        num_workers: workers that were asked for, or one per core.
        num_gpus: GPUs of a cluster, each taken to have as much memory as the smallest one here; None: those here.

    Raises:
        ModelError: one worker does not fit into the GPU, or the networks do not run on it.
    """
    if setup.config["models"]["device"] != "cuda":
        return GpuShare(num_workers=num_workers)
    words = [sys.executable, "-m", "hs_data.pipeline.workers.gpu_probe", setup.to_json()]
    null = subprocess.DEVNULL
    done = subprocess.run(words, stdin=null, capture_output=True, text=True, check=False, start_new_session=True)  # noqa: S603 - a list, no shell
    lines = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()
        raise ModelError(
            f"GPU: the networks do not run on it ({said[-1] if said else 'no message'}); see hs-data doctor"
        )
    answer = json.loads(lines[0].removeprefix(ANSWER))
    free = answer["free_bytes"]
    return divide(answer["needed_bytes"], free if num_gpus is None else [min(free)] * num_gpus, num_workers)


def divide(needed_bytes: int, free_bytes: list[int], num_workers: int) -> GpuShare:
    """Return how many workers fit, the same number on each GPU.

    Args:
        needed_bytes: of one worker.
        free_bytes: of each GPU, before any worker.
        num_workers: at most so many.

    Raises:
        ModelError: one does not fit.
    """
    each = int(HEADROOM * min(free_bytes) // needed_bytes)
    if each < 1:
        need, free = needed_bytes / 1e9, min(free_bytes) / 1e9
        raise ModelError(
            f"GPU: a worker needs {need:.1f} GB and {free:.1f} GB are free; lower latents.batch and faces.batch"
        )
    workers = min(num_workers, each * len(free_bytes))
    # No more than are used, so that Ray spreads a few workers over all GPUs.
    used = -(-workers // len(free_bytes))
    return GpuShare(num_workers=workers, num_gpus=len(free_bytes), per_worker=int(1e4 / used) / 1e4)
