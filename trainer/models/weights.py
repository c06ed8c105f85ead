"""What a network begins with: weights of a run of ours, or files of Stable Diffusion, AnimateDiff or HighSync."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
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


def check_file_word(word: str) -> None:
    """Raise `ConfigError` unless a word names a file."""
    match = WORD.fullmatch(word)
    path = Path(match[2]) if match else Path(word)
    if path.is_dir():
        raise ConfigError(f"--init {word}: is a folder without a checkpoint; name a run or a file of weights")
    if not path.is_file():
        raise ConfigError(f"--init {word}: is no file and no run; name a run of `hs-data train` or a file of weights")


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
