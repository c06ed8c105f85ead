"""Files of published weights that a network begins with; the recipe knows their names."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import nn

from ..manifests.errors import ConfigError
from .recipes.recipe import Recipe, Weights

logger = logging.getLogger(__name__)


def load_file_weights(network: nn.Module, word: str, recipe: Recipe) -> None:
    """Load a published file into a network, by name, where the shapes agree.

    Args:
        network: of the recipe.
        word: `PATH`, or `PART=PATH` for one of the recipe's parts. A file that names no part goes into all of them, as
            Stable Diffusion's does; what a part does not have finds its place in another alone.
        recipe: knows the published names.

    Raises:
        ConfigError: the file cannot be read, or nothing in it fits.
    """
    part, path = _split(word, recipe)
    named = recipe.rename_weights(_read(path))
    prefixes = [f"{each}." for each in ((part,) if part else recipe.parts)] or [""]
    load_named(network, word, {f"{prefix}{name}": tensor for prefix in prefixes for name, tensor in named.items()})


def load_named(network: nn.Module, word: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Load tensors under a network's own names, where the shapes agree, and tell how many.

    Raises:
        ConfigError: none fits.
    """
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ConfigError(f"--init {word}: none of its {len(weights)} tensors fits this network; see docs/training.md")
    network.load_state_dict(fitting, strict=False)
    logger.info(
        "--init %s: %d tensors loaded, %d of the network are not in it, %d have another shape",
        word,
        len(fitting),
        len(own) - len(fitting),
        sum(name in own and name not in fitting for name in weights),
    )


def check_file_word(word: str, recipe: Recipe) -> None:
    """Raise `ConfigError` unless a word names a file."""
    _, path = _split(word, recipe)
    if path.is_dir():
        raise ConfigError(f"--init {word}: is a folder without a checkpoint; name a run or a file of weights")
    if not path.is_file():
        raise ConfigError(f"--init {word}: is no file and no run; name a run of `hs-data train` or a file of weights")


def _split(word: str, recipe: Recipe) -> tuple[str, Path]:
    """Return the part that a word names, empty for none, and the file."""
    part, equals, path = word.partition("=")
    return (part, Path(path)) if equals and path and part in recipe.parts else ("", Path(word))


def _read(path: Path) -> Weights:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"--init {path}: cannot be read ({error.strerror or error}); check the path") from error
    except Exception as error:  # torch lets out whatever damaged bytes lead to: KeyError, struct.error, AssertionError
        # Its own words are pages long, and advise to run what is in the file.
        raise ConfigError(
            f"--init {path}: cannot be read as weights ({type(error).__name__}); it is damaged, or holds more than "
            "tensors: get it again, or convert it to safetensors"
        ) from error
    found = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ConfigError(f"--init {path}: holds other things than tensors by name; save only the state_dict")
    return cast("Weights", dict(found))
