"""One process of a run: join the others, train until the last step or a request to stop, leave what is saved whole."""

import logging
import os
from functools import partial
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from ..manifests.storage import write_json
from .checkpoint import Checkpoints, checkpoints, step_of
from .metrics import Metrics
from .prepare import prepare
from .setup import TrainSetup, to_table
from .stopping import StoppedError, stop_requests
from .validation import ValidationResult
from .world import join_world

logger = logging.getLogger(__name__)


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


def where_it_stands(setup: TrainSetup) -> str:
    """Say what is saved of a run that was stopped, and how to go on with it."""
    found = checkpoints(Path(setup.run))
    saved = f"saved up to step {step_of(found[-1])}" if found else "nothing is saved yet"
    return f"{setup.run}: stopped; {saved}; to go on: {setup.go_on}"
