"""Preparation of the first step: data, network and optimizer, new or as the newest checkpoint has them."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import torch

from ..manifests import settings
from ..manifests.errors import ConfigError, DatasetError
from .checkpoint import (
    WHOLE,
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
from .networks import check_latent_space, find_init, make_network
from .recipes.parameters import freeze
from .recipes.recipe import Recipe
from .recipes.registry import make_recipe
from .setup import TrainSetup
from .world import World

logger = logging.getLogger(__name__)
SHAPING = ("size", "masked_motion")
"""Settings of `model` that decide what a network computes; the others decide how."""


def prepare(setup: TrainSetup, world: World) -> Training:
    """Open the data, build the network, load what it begins with, and stand where the run stands.

    Raises:
        HsDataError: as `train`.
    """
    config = setup.config
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


def _all_settings(setup: TrainSetup) -> settings.Table:
    return {**settings.to_table(setup.config), "recipe": setup.options}


def _new_state(setup: TrainSetup, config: TrainConfig, recipe: Recipe, samples: Samples) -> State:
    return State(
        step=0,
        batch_size=batch_size(config, recipe),
        recipe=recipe.name,
        config=_all_settings(setup),
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
        was, asked = state.config[table].get(name), _all_settings(setup)[table].get(name)
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
    steps = setup.config.run.steps
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
