"""Start a run: in this process, in several under torchrun, or under Ray Train; each of them calls `train`."""

import json
import logging
import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import torch
from rich.console import Console

from ..manifests import settings
from ..manifests.errors import ConfigError, DatasetError
from ..manifests.processes import use_own_ray
from ..manifests.storage import write_json
from .checkpoint import (
    WHOLE,
    Checkpoints,
    State,
    checkpoint_of,
    checkpoints,
    find_checkpoint,
    read_state,
    read_tensors,
    set_aside,
    step_of,
)
from .config import TrainConfig, batch_size
from .data.config import open_samples, open_validation
from .data.samples import Samples
from .loop import Training
from .metrics import Metrics
from .networks import check_latent_space, find_init, make_network
from .processes import run_processes
from .recipes.parameters import freeze
from .recipes.recipe import Recipe
from .recipes.registry import make_recipe
from .stopping import StoppedError, stop_requests
from .validation import ValidationResult
from .world import World, join_world

logger = logging.getLogger(__name__)
Launcher = Literal["local", "ray"]
SHAPING = ("size", "masked_motion")
"""Settings of `model` that decide what a network computes; the others decide how."""


@dataclass(frozen=True, kw_only=True)
class TrainSetup:
    """What every process of a run needs to know, as JSON values."""

    recipe: str
    config: settings.Table
    """The settings, resolved: no `auto` is left."""
    options: settings.Table
    """The recipe's own settings."""
    run: str
    init: tuple[str, ...] = ()
    """Weights to begin with: runs, checkpoints, or files whose names the recipe knows; the later wins."""
    resume: bool = False
    other_data: bool = False
    """Whether the run may go on with other samples than it began with, or on latents its weights do not know."""
    go_on: str = "the same command and --resume"
    """What to do to go on with the run, for messages."""


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
    config = settings.build(TrainConfig, setup.config)
    run = Path(setup.run)
    with join_world(config.run.device) as world:
        training = prepare(setup, world)
        if world.is_main:
            write_json(run / "run.json", asdict(setup))
        found = Checkpoints(run, keep_last=config.run.keep_last, keep_every=config.run.keep_every)
        try:
            with stop_requests(run, say_that_it_stops, partial(end_at_once, setup)) as asked:
                if not world.is_main:
                    return training.run(found, None, asked)
                with Metrics(run, config.run, step=training.state.step) as metrics:
                    return training.run(found, metrics, asked)
        finally:
            found.close()


def is_done(setup: TrainSetup) -> bool:
    """Tell whether the last step of a run is saved."""
    found = checkpoints(Path(setup.run))
    return bool(found) and step_of(found[-1]) >= setup.config["run"]["steps"]


def say_that_it_stops() -> None:
    """Answer the first request to stop."""
    logger.warning("stopping after this step, and saving; Ctrl-C again ends at once, without")


def end_at_once(setup: TrainSetup) -> NoReturn:
    """End this process wherever it is: what is being written is left behind under a temporary name."""
    console = Console(stderr=True)
    console.show_cursor()
    console.print(where_it_stands(setup), highlight=False, markup=False, soft_wrap=True)
    os._exit(StoppedError.exit_code)


def prepare(setup: TrainSetup, world: World) -> Training:
    """Open the data, build the network, load what it begins with, and stand where the run stands.

    Raises:
        HsDataError: as `train`.
    """
    config = settings.build(TrainConfig, setup.config)
    recipe = make_recipe(setup.recipe, setup.options)
    begun = _newest(Path(setup.run), world) if setup.resume else None
    if begun:
        _check_steps(setup, begun)
    samples = _open_samples(config, recipe, world)
    torch.manual_seed(config.run.seed)  # the network's random start; samples bring seeds of their own
    width = audio_width(samples, recipe)
    init = () if begun else find_init(setup.init, recipe, world, samples.contract, any_latents=setup.other_data)
    if not begun and not setup.other_data:
        check_latent_space(config.model, samples.contract)
    state = _new_state(setup, config, recipe, samples)
    if begun:
        old = read_state(begun)
        _check_state(old, setup, samples, config, recipe)
        state = replace(state, step=old.step, num_skipped=old.num_skipped)
    network = make_network(recipe, config.model, audio_width=width, init=init).to(world.device)
    freeze(network, recipe)
    training = Training(
        world=world,
        config=config,
        recipe=recipe,
        network=network,
        samples=samples,
        validation=_validation(config, recipe),
        schedule=recipe.make_schedule(),
        run=Path(setup.run),
        state=state,
    )
    if begun:
        training.load(read_tensors(begun))
    return training


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
    config = settings.build(TrainConfig, setup.config)
    started = int(os.environ.get("WORLD_SIZE", num_processes)) if launcher == "local" else num_processes
    size = batch_size(config, make_recipe(setup.recipe, setup.options))
    if size % started:
        raise ConfigError(
            f"run.batch_size={size}: cannot be divided among {started} processes; set a multiple of {started}"
        )
    if launcher == "local" and "WORLD_SIZE" not in os.environ and config.run.device == "cuda":
        num_gpus = torch.cuda.device_count()
        if num_processes > num_gpus:
            raise ConfigError(f"--nproc {num_processes}: this machine has {num_gpus} GPUs; ask for {num_gpus} at most")


def _new_state(setup: TrainSetup, config: TrainConfig, recipe: Recipe, samples: Samples) -> State:
    return State(
        step=0,
        batch_size=batch_size(config, recipe),
        recipe=recipe.name,
        config={**setup.config, "recipe": setup.options},
        data=samples.fingerprint(),
        contract=dict(samples.contract),
        build=samples.build,
        audio_width=audio_width(samples, recipe),
    )


def _check_state(state: State, setup: TrainSetup, samples: Samples, config: TrainConfig, recipe: Recipe) -> None:
    """Refuse to go on with other data, another meaning of the numbers, or another batch.

    Raises:
        DatasetError: what differs, and what to do.
    """
    if state.recipe != recipe.name:
        raise ConfigError(f"{setup.run}: was begun with --recipe {state.recipe}; name that one, or use --init")
    for table, name in (*(("model", name) for name in SHAPING), *(("recipe", name) for name in setup.options)):
        was, asked = state.config[table].get(name), {**setup.config, "recipe": setup.options}[table].get(name)
        if json.dumps(was) != json.dumps(asked):
            raise ConfigError(f"{setup.run}: was begun with {table}.{name}={json.dumps(was)}; set the same")
    if state.batch_size != batch_size(config, recipe):
        raise ConfigError(f"{setup.run}: was begun with run.batch_size={state.batch_size}; set the same")
    if dict(samples.contract) != dict(state.contract):
        raise DatasetError(f"{setup.run}: its latents or sound features mean something else than those of the dataset")
    if samples.fingerprint() != state.data and not setup.other_data:
        raise DatasetError(
            f"{setup.run}: was begun on other clips, or in another order; restore the dataset and the seed, "
            "or add --allow-other-data"
        )


def audio_width(samples: Samples, recipe: Recipe) -> int:
    """Return how many numbers a token of the sound has."""
    return recipe.audio(samples.batch(0, 1)).shape[-1]


def _newest(run: Path, world: World) -> Path | None:
    """Return the newest whole checkpoint of a run, the same in all processes: the main one looks at the files."""
    step = -1
    if world.is_main and checkpoints(run):
        found = find_checkpoint(run, WHOLE)
        set_aside(run, found)
        step = step_of(found)
    step = world.from_main(step)
    if step < 0:
        logger.info("%s: holds no checkpoint to go on from; begins at step 0", run)
        return None
    return checkpoint_of(run, step)


def _check_steps(setup: TrainSetup, begun: Path) -> None:
    steps = setup.config["run"]["steps"]
    if steps < step_of(begun):
        raise ConfigError(
            f"run.steps={steps}: {setup.run} stands at step {step_of(begun)} already; set run.steps above that, "
            "or begin in another folder"
        )


def _validation(config: TrainConfig, recipe: Recipe) -> Samples | None:
    return open_validation(config.data, recipe) if config.data.num_val_samples else None


def _open_samples(config: TrainConfig, recipe: Recipe, world: World) -> Samples:
    """Open the samples; the main process goes first, so that a dataset in a bucket is copied once."""
    if not world.is_main:
        world.wait()
    samples = open_samples(config.data, recipe, seed=config.run.seed)
    if world.is_main:
        world.wait()
    return samples


def to_json(setup: TrainSetup) -> str:
    """Write a setup for another process."""
    return json.dumps(asdict(setup))


def from_json(text: str) -> TrainSetup:
    """Read what `to_json` wrote."""
    table = json.loads(text)
    return TrainSetup(**{**table, "init": tuple(table["init"])})
