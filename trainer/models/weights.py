"""What a network begins with: weights of a run of ours, or files of Stable Diffusion, AnimateDiff or HighSync."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ...manifests.errors import ConfigError
from .names import Weights, from_published

logger = logging.getLogger(__name__)
PARTS = ("reference", "denoiser")
WORD = re.compile(r"(?:(reference|denoiser)=)?(.+)")


def load_file_weights(network: nn.Module, word: str) -> None:
    """Load a published file into a network, by name, where the shapes agree.

    Args:
        network: with UNets `reference` and `denoiser`.
        word: `PATH`, or `reference=PATH` or `denoiser=PATH` for one of the two. A file that names no part goes into
            both, as Stable Diffusion's does; motion modules find their place in the denoiser alone.

    Raises:
        ConfigError: the file cannot be read, or nothing in it fits.
    """
    match = WORD.fullmatch(word)
    assert match is not None
    named = from_published(_read(Path(match[2])))
    parts = [match[1]] if match[1] else PARTS
    load_named(network, word, {f"{part}.{name}": tensor for part in parts for name, tensor in named.items()})


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


def _read(path: Path) -> Weights:
    if not path.is_file():
        raise ConfigError(f"--init {path}: is no file and no run; name a run of `hs-data train` or a file of weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"--init {path}: cannot be read as weights ({told}); convert it to safetensors") from error
    found = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ConfigError(f"--init {path}: holds other things than tensors by name; save only the state_dict")
    return cast("Weights", dict(found))
