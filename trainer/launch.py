"""Start a run: in this process, in several under torchrun, or under Ray Train; each of them calls `train`."""

import os
from pathlib import Path
from typing import Literal

import torch

from ..manifests.errors import ConfigError
from ..manifests.processes import use_own_ray
from .checkpoint import checkpoints, step_of
from .config import batch_size
from .processes import run_processes
from .recipes.registry import make_recipe
from .setup import TrainSetup, to_json
from .stopping import StoppedError
from .train import train, where_it_stands

Launcher = Literal["local", "ray"]


def launch(setup: TrainSetup, launcher: Launcher, num_processes: int) -> None:
    """Train with this many processes, and return when the run is done.

    Raises:
        StoppedError: it was asked to stop; says how to go on.
        HsDataError: a process failed.
    """
    check_folder(setup)
    check_processes(setup, launcher, num_processes)
    try:
        if launcher == "ray":
            own = use_own_ray()
            from .ray_launch import launch_ray  # noqa: PLC0415 - Ray is imported only by who asks for it

            launch_ray(setup, num_processes, own=own)
        elif num_processes == 1 or "WORLD_SIZE" in os.environ:  # alone, or torchrun has started us already
            train(setup)
        else:
            run_processes(Path(setup.run), to_json(setup), num_processes)
    except (KeyboardInterrupt, StoppedError) as stop:
        raise StoppedError(where_it_stands(setup)) from stop


def check_folder(setup: TrainSetup) -> None:
    """Refuse to write over a run unless it is to go on.

    Raises:
        ConfigError: the folder holds a run, and `resume` was not asked for.
    """
    begun = checkpoints(Path(setup.run))
    if begun and not setup.resume:
        step = step_of(begun[-1])
        raise ConfigError(f"--output {setup.run}: holds a run at step {step}; add --resume, or name another folder")


def check_processes(setup: TrainSetup, launcher: Launcher, num_processes: int) -> None:
    """Refuse more processes than GPUs, and a batch that cannot be divided among them, before anything is built.

    Raises:
        ConfigError: names the setting.
    """
    started = int(os.environ.get("WORLD_SIZE", num_processes)) if launcher == "local" else num_processes
    size = batch_size(setup.config, make_recipe(setup.recipe, setup.options))
    if size % started:
        raise ConfigError(
            f"run.batch_size={size}: cannot be divided among {started} processes; set a multiple of {started}"
        )
    if launcher == "local" and "WORLD_SIZE" not in os.environ and setup.config.run.device == "cuda":
        num_gpus = torch.cuda.device_count()
        if num_processes > num_gpus:
            raise ConfigError(f"--nproc {num_processes}: this machine has {num_gpus} GPUs; ask for {num_gpus} at most")
