"""Start a run: in this process, in several under torchrun, or under Ray Train; each of them calls `train`."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from ..manifests import settings
from ..manifests.errors import ConfigError, DatasetError, HsDataError
from ..manifests.processes import use_own_ray
from ..manifests.storage import write_json
from .checkpoint import Checkpoints, State, checkpoints, find_checkpoint, read_state, read_tensors
from .config import TrainConfig, batch_size
from .data.config import open_samples, open_validation
from .data.samples import Samples
from .loop import Training
from .metrics import Metrics
from .networks import make_network, make_schedule
from .recipes.parameters import freeze
from .recipes.recipe import Recipe
from .recipes.registry import make_recipe
from .stopping import StoppedError, asked_to_stop
from .validation import Judgement
from .world import World, join_world

Launcher = Literal["torchrun", "ray"]
SHAPING = ("size", "masked_motion")
"""Settings of `model` that decide what a network computes; the others decide how."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every process of a run needs to know, as JSON values."""

    recipe: str
    config: settings.Table
    """The settings, resolved: no `auto` is left."""
    options: settings.Table
    """The recipe's own settings."""
    run: str
    init: tuple[str, ...] = ()
    """Weights to begin with: runs, checkpoints, or files that `trainer/models` knows; the later wins."""
    resume: bool = False
    other_data: bool = False
    """Whether the run may go on with other samples than it began with."""


def launch(setup: Setup, launcher: Launcher, num_processes: int) -> None:
    """Train with this many processes, and return when the run is done.

    Raises:
        HsDataError: a process failed.
    """
    check_folder(setup)
    if launcher == "ray":
        own = use_own_ray()
        from .ray_launch import launch_ray  # noqa: PLC0415 - Ray is imported only by who asks for it

        launch_ray(setup, num_processes, own=own)
    elif num_processes == 1 or "WORLD_SIZE" in os.environ:  # alone, or torchrun has started us already
        train(setup)
    else:
        _torchrun(setup, num_processes)


def train(setup: Setup) -> Judgement | None:
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
            if not world.is_main:
                return training.run(found, None)
            with Metrics(run, config.run, step=training.state.step) as metrics:
                return training.run(found, metrics)
        finally:
            found.close()


def prepare(setup: Setup, world: World) -> Training:
    """Open the data, build the network, load what it begins with, and stand where the run stands.

    Raises:
        HsDataError: as `train`.
    """
    config = settings.build(TrainConfig, setup.config)
    recipe = make_recipe(setup.recipe, setup.options)
    samples = _open_samples(config, recipe, world)
    begun = _newest(Path(setup.run)) if setup.resume else None
    torch.manual_seed(config.run.seed)  # the network's random start; samples bring seeds of their own
    width = audio_width(samples, recipe)
    init = () if begun else setup.init
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
        schedule=make_schedule(recipe),
        run=Path(setup.run),
        state=state,
    )
    if begun:
        training.load(read_tensors(begun))
    return training


def check_folder(setup: Setup) -> None:
    """Refuse to write over a run unless it is to go on.

    Raises:
        ConfigError: the folder holds a run, and `resume` was not asked for.
    """
    begun = checkpoints(Path(setup.run))
    if begun and not setup.resume:
        step = read_state(begun[-1]).step
        raise ConfigError(f"--output {setup.run}: holds a run at step {step}; add --resume, or name another folder")


def _new_state(setup: Setup, config: TrainConfig, recipe: Recipe, samples: Samples) -> State:
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


def _check_state(state: State, setup: Setup, samples: Samples, config: TrainConfig, recipe: Recipe) -> None:
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


def _newest(run: Path) -> Path | None:
    return find_checkpoint(run) if checkpoints(run) else None


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


def _torchrun(setup: Setup, num_processes: int) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    words += ["-m", "hs_data.trainer.worker", to_json(setup)]
    # Without this torchrun warns, and sets it to 1 for more than one process.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    null = subprocess.DEVNULL
    with subprocess.Popen(words, env=environment, stdin=null) as process, asked_to_stop(process.send_signal) as asked:  # noqa: S603 - a list, no shell
        code = process.wait()
    if asked:
        raise StoppedError(f"{setup.run}: stopped; run again with --resume")
    if code:
        raise HsDataError(f"torchrun: ended with exit status {code}; its own message stands above")


def to_json(setup: Setup) -> str:
    """Write a setup for another process."""
    return json.dumps(asdict(setup))


def from_json(text: str) -> Setup:
    """Read what `to_json` wrote."""
    table = json.loads(text)
    return Setup(**{**table, "init": tuple(table["init"])})
