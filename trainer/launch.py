"""Start a run: in this process, in several under torchrun, or under Ray Train; each of them calls `train`."""

import logging
import os
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import torch
from rich.console import Console

from ..manifests.errors import ConfigError
from ..manifests.processes import use_own_ray
from ..manifests.storage import write_json
from .checkpoint import Checkpoints, checkpoints, step_of
from .config import batch_size
from .metrics import Metrics
from .prepare import prepare
from .processes import run_processes
from .recipes.registry import make_recipe
from .setup import TrainSetup, to_json, to_table
from .stopping import StoppedError, stop_requests
from .validation import ValidationResult
from .world import join_world

logger = logging.getLogger(__name__)
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


def where_it_stands(setup: TrainSetup) -> str:
    """Say what is saved of a run that was stopped, and how to go on with it."""
    found = checkpoints(Path(setup.run))
    saved = f"saved up to step {step_of(found[-1])}" if found else "nothing is saved yet"
    return f"{setup.run}: stopped; {saved}; to go on: {setup.go_on}"


def train(setup: TrainSetup) -> ValidationResult | None:
    """Train in this process, one of those that the environment describes.

    Raises:
        HsDataError: data, settings or checkpoint do not fit, or the run cannot go on.
    """
    run = Path(setup.run)
    with join_world(setup.config.run.device) as world:
        training = prepare(setup, world)
        if world.is_main:
            write_json(run / "run.json", to_table(setup))
        found = Checkpoints(run, keep_last=setup.config.run.keep_last, keep_every=setup.config.run.keep_every)
        try:
            with stop_requests(run, say_that_it_stops, partial(end_at_once, setup)) as asked:
                if not world.is_main:
                    return training.run(found, None, asked)
                with Metrics(run, setup.config.run, step=training.state.step) as metrics:
                    return training.run(found, metrics, asked)
        finally:
            found.close()


def is_done(setup: TrainSetup) -> bool:
    """Tell whether the last step of a run is saved."""
    found = checkpoints(Path(setup.run))
    return bool(found) and step_of(found[-1]) >= setup.config.run.steps


def say_that_it_stops() -> None:
    """Answer the first request to stop."""
    logger.warning("stopping after this step, and saving; Ctrl-C again ends at once, without")


def end_at_once(setup: TrainSetup) -> NoReturn:
    """End this process wherever it is: what is being written is left behind under a temporary name."""
    console = Console(stderr=True)
    console.show_cursor()
    console.print(where_it_stands(setup), highlight=False, markup=False, soft_wrap=True)
    os._exit(StoppedError.exit_code)


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
