"""Ray Train as a launcher: the same `train` in the workers of a `TorchTrainer`, started again when one dies."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from ..manifests.errors import HsDataError
from ..manifests.processes import leave_terminal
from .setup import TrainSetup, from_json, to_json
from .stopping import STOP_FILE, StoppedError, asked_to_stop
from .train import end_at_once, is_done, say_that_it_stops, train

MAX_FAILURES = 3
"""Workers that may die before the run gives up; each time it goes on from the newest checkpoint."""


def launch_ray(setup: TrainSetup, num_processes: int, *, own: bool) -> None:
    """Train on the Ray cluster that `RAY_ADDRESS` names, or on one started here, on the loopback alone.

    The run's folder and the datasets must be reachable under the same paths from every node.

    Args:
        setup: of the run.
        num_processes: workers.
        own: whether Ray is started here.

    Raises:
        StoppedError: this process was asked to stop; the workers have saved.
        HsDataError: the run failed too often, or for a reason that would come back.
    """
    starts = own and not ray.is_initialized()
    if starts:
        # "local" is said aloud: without an address Ray joins any cluster that it finds running on this machine.
        # With its dashboard, on the loopback too: Ray Train looks up its own actors there.
        ray.init(address="local")
    uses_gpu = setup.config.run.device == "cuda"
    trainer = TorchTrainer(
        _work,
        # A worker that was restarted finds checkpoints that the first try had not.
        train_loop_config={"setup": to_json(replace(setup, resume=True)), "folder": os.getcwd()},
        scaling_config=ScalingConfig(num_workers=num_processes, use_gpu=uses_gpu),
        run_config=RunConfig(
            storage_path=str((Path(setup.run) / "ray").absolute()),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    try:
        _fit(trainer, setup)
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {}).values()
        ours = next((failure for failure in failures if isinstance(failure, HsDataError)), None)
        raise HsDataError(str(ours) if ours else f"{setup.run}: {error}") from error
    finally:
        if starts:
            ray.shutdown()


def _fit(trainer: TorchTrainer, setup: TrainSetup) -> None:
    """Train in another thread: in the main one Ray would take Ctrl-C for itself, and end the workers unsaved."""
    stop = Path(setup.run) / STOP_FILE
    stop.unlink(missing_ok=True)

    def ask() -> None:
        say_that_it_stops()
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()

    try:
        with asked_to_stop(ask, partial(end_at_once, setup)) as asked, ThreadPoolExecutor(1) as pool:
            pool.submit(trainer.fit).result()
    finally:
        stop.unlink(missing_ok=True)
    if asked() and not is_done(setup):
        raise StoppedError(f"{setup.run}: stopped")


def _work(config: dict[str, str]) -> None:
    leave_terminal()
    os.chdir(config["folder"])  # Ray puts its workers elsewhere, and paths are those of the command
    try:
        train(from_json(config["setup"]))
    except StoppedError:
        logging.getLogger(__name__).info("stopped, and saved")  # a failure would make Ray start it again
