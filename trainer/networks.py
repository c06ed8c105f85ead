"""The network of a recipe, and what it begins with."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..manifests import settings
from ..manifests.errors import ConfigError
from .checkpoint import (
    State,
    checkpoint_of,
    checkpoints,
    find_checkpoint,
    is_checkpoint,
    read_state,
    read_weights,
    step_of,
)
from .config import TrainConfig
from .data.samples import Contract, latent_space
from .recipes.recipe import ModelConfig, Recipe
from .recipes.registry import make_recipe
from .weight_files import check_file_word, load_file_weights, load_named
from .world import World

FOR_TRIALS = "hs-data/block-dct"
"""Latents that need no weights, and that no published network knows."""


def make_network(recipe: Recipe, config: ModelConfig, *, audio_width: int, init: Sequence[str] = ()) -> nn.Module:
    """Build the network of a recipe on the CPU and load what it begins with, the later over the earlier.

    Args:
        recipe: makes the network.
        config: its size.
        audio_width: D of the sound's tokens.
        init: what `find_init` gave.

    Raises:
        ConfigError: weights that cannot be read or do not fit.
    """
    network = recipe.make_network(config, audio_width=audio_width)
    for word in init:
        if is_checkpoint(Path(word)):
            load_named(network, word, read_weights(Path(word)))
        else:
            load_file_weights(network, word, recipe)
    return network


def find_init(
    init: Sequence[str], recipe: Recipe, world: World, contract: Contract, *, any_latents: bool
) -> tuple[str, ...]:
    """Look at the weights that a network is to begin with, before it is built.

    Args:
        init: runs or checkpoints of ours, which stand for their averaged weights where they have them; or files of
            weights, `PATH` or `PART=PATH`.
        recipe: whose parts may be named.
        world: all its processes take the same checkpoint of a run.
        contract: what the numbers of the dataset mean.
        any_latents: whether weights of other latents will do.

    Returns:
        The same, with a whole checkpoint for every run.

    Raises:
        ConfigError: one is neither a run nor a file, or has learnt other latents.
        DatasetError: a run has no whole checkpoint.
    """
    return tuple(_find_init(word, recipe, world, contract, any_latents) for word in init)


def _find_init(word: str, recipe: Recipe, world: World, contract: Contract, any_latents: bool) -> str:
    path = Path(word)
    if not (is_checkpoint(path) or checkpoints(path)):
        check_file_word(word, recipe)
        return word
    if world.is_main:
        found = find_checkpoint(path)
        knows, has = latent_space(read_state(found).contract), latent_space(contract)
        if knows != has and not any_latents:
            raise ConfigError(
                f"--init {word}: has learnt latents of {knows}, and the dataset has those of {has}; "
                "begin with another run, or add --allow-other-data"
            )
    if is_checkpoint(path):
        return word
    return str(checkpoint_of(path, world.from_main(step_of(found) if world.is_main else -1)))


def check_latent_space(config: ModelConfig, contract: Contract) -> None:
    """Refuse to train the widths of Stable Diffusion on the latents that are there for trying things out.

    Raises:
        ConfigError: says what to do instead.
    """
    if config.size == "full" and latent_space(contract) == FOR_TRIALS:
        raise ConfigError(
            f"--size full: the dataset has latents of {FOR_TRIALS}, which are for trying things out; build it with "
            "--preset highsync, train --size tiny, or add --allow-other-data"
        )


def load_network(checkpoint: Path, state: State, device: torch.device) -> tuple[Recipe, nn.Module]:
    """Return the recipe of a checkpoint, and its network with the weights that it ships, ready to generate.

    Raises:
        ConfigError: it was trained with settings that this version cannot use.
    """
    tables = dict(state.config)
    recipe = make_recipe(state.recipe, tables.pop("recipe", {}))
    config = settings.build(TrainConfig, tables)
    network = recipe.make_network(config.model, audio_width=state.audio_width)
    network.load_state_dict(read_weights(checkpoint))
    return recipe, network.to(device).eval().requires_grad_(False)
