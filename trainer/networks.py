"""The network and the noise schedule of a recipe."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from ..manifests import settings
from ..manifests.errors import ConfigError
from .checkpoint import State, checkpoints, find_checkpoint, is_checkpoint, read_weights
from .config import ModelConfig, TrainConfig
from .diffusion import VSchedule
from .models.highsync import TINY, HighSync
from .models.unet import UNetShape
from .models.weights import load_file_weights, load_named
from .recipes.recipe import Recipe
from .recipes.registry import make_recipe

SHAPES = {"full": UNetShape(), "tiny": TINY}


def make_network(recipe: Recipe, config: ModelConfig, *, audio_width: int, init: Sequence[str] = ()) -> nn.Module:
    """Build the network of a recipe on the CPU and load what it begins with, the later over the earlier.

    Args:
        recipe: says which network, and whether it has motion modules.
        config: its size.
        audio_width: D of the sound's tokens.
        init: runs or checkpoints of ours, which stand for their averaged weights where they have them; or files of
            weights, `PATH`, `reference=PATH` or `denoiser=PATH`.

    Raises:
        ConfigError: weights that cannot be read or do not fit.
    """
    network = NETWORKS[recipe.network](recipe, config, audio_width)
    for word in init:
        place = Path(word)
        if is_checkpoint(place) or checkpoints(place):
            load_named(network, word, read_weights(find_checkpoint(place)))
        elif place.is_dir():
            raise ConfigError(f"--init {word}: is a folder without a checkpoint; name a run or a file of weights")
        else:
            load_file_weights(network, word)
    return network


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
