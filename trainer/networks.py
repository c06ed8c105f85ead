"""The network and the noise schedule of a recipe."""

from collections.abc import Callable, Sequence
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
from .config import ModelConfig, TrainConfig
from .data.samples import Contract, latent_space
from .diffusion import VSchedule
from .models.highsync import TINY, HighSync
from .models.unet import UNetShape
from .models.weights import check_file_word, load_file_weights, load_named
from .recipes.recipe import Recipe
from .recipes.registry import make_recipe
from .world import World

FOR_TRIALS = "hs-data/block-dct"
"""Latents that need no weights, and that no published network knows."""
SHAPES = {"full": UNetShape(), "tiny": TINY}


def make_network(recipe: Recipe, config: ModelConfig, *, audio_width: int, init: Sequence[str] = ()) -> nn.Module:
    """Build the network of a recipe on the CPU and load what it begins with, the later over the earlier.

    Args:
        recipe: says which network, and whether it has motion modules.
        config: its size.
        audio_width: D of the sound's tokens.
        init: what `find_init` gave.

    Raises:
        ConfigError: weights that cannot be read or do not fit.
    """
    network = NETWORKS[recipe.network](recipe, config, audio_width)
    for word in init:
        if is_checkpoint(Path(word)):
            load_named(network, word, read_weights(Path(word)))
        else:
            load_file_weights(network, word)
    return network


def find_init(init: Sequence[str], world: World, contract: Contract, *, any_latents: bool) -> tuple[str, ...]:
    """Look at the weights that a network is to begin with, before it is built.

    Args:
        init: runs or checkpoints of ours, which stand for their averaged weights where they have them; or files of
            weights, `PATH`, `reference=PATH` or `denoiser=PATH`.
        world: all its processes take the same checkpoint of a run.
        contract: what the numbers of the dataset mean.
        any_latents: whether weights of other latents will do.

    Returns:
        The same, with a whole checkpoint for every run.

    Raises:
        ConfigError: one is neither a run nor a file, or has learnt other latents.
        DatasetError: a run has no whole checkpoint.
    """
    return tuple(_find_init(word, world, contract, any_latents) for word in init)


def _find_init(word: str, world: World, contract: Contract, any_latents: bool) -> str:
    place = Path(word)
    if not (is_checkpoint(place) or checkpoints(place)):
        check_file_word(word)
        return word
    if world.is_main:
        found = find_checkpoint(place)
        knows, has = latent_space(read_state(found).contract), latent_space(contract)
        if knows != has and not any_latents:
            raise ConfigError(
                f"--init {word}: has learnt latents of {knows}, and the dataset has those of {has}; "
                "begin with another run, or add --allow-other-data"
            )
    if is_checkpoint(place):
        return word
    return str(checkpoint_of(place, world.from_main(step_of(found) if world.is_main else -1)))


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


def load_network(checkpoint: Path, state: State, device: torch.device) -> tuple[HighSync, VSchedule]:
    """Return the network of a checkpoint, with the weights that it ships, and its noise schedule.

    Raises:
        ConfigError: it was trained with settings that this version cannot use, or generates nothing.
    """
    tables = dict(state.config)
    recipe = make_recipe(state.recipe, tables.pop("recipe", {}))
    config = settings.build(TrainConfig, tables)
    network = NETWORKS[recipe.network](recipe, config.model, state.audio_width)
    if not isinstance(network, HighSync):
        raise ConfigError(f"{checkpoint}: {state.recipe} has no sampler; train highsync-stage1 or -stage2")
    network.load_state_dict(read_weights(checkpoint))
    return network.to(device).eval().requires_grad_(False), make_schedule(recipe)


def make_schedule(recipe: Recipe) -> VSchedule:
    """Return the noise schedule of a recipe."""
    return VSchedule(recipe.num_timesteps)


def _highsync(recipe: Recipe, config: ModelConfig, audio_width: int) -> HighSync:
    network = HighSync(
        SHAPES[config.size], audio_width=audio_width, motion=recipe.motion, masked_motion=config.masked_motion
    )
    network.set_checkpointing(config.checkpointing)
    return network


NETWORKS: dict[str, Callable[[Recipe, ModelConfig, int], nn.Module]] = {"highsync": _highsync}
