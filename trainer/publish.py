"""The weights of a run as others read them; which formats there are is the recipe's to say."""

import shutil
import uuid
from pathlib import Path

import torch

from ..manifests.errors import ConfigError
from ..manifests.near import choice
from .checkpoint import find_checkpoint, read_state
from .networks import load_network


def publish(run: Path, *, to: str, output: Path) -> list[Path]:
    """Write the weights that a checkpoint ships, averaged where it has an average, under the names of others.

    Args:
        run: a run, or one of its checkpoints.
        to: one of the recipe's `weight_formats`.
        output: folder to make.

    Returns:
        The files.

    Raises:
        ConfigError: the folder is there already, or the recipe has no such format.
        DatasetError: there is no checkpoint.
    """
    checkpoint = find_checkpoint(run)
    state = read_state(checkpoint)
    if output.exists():
        raise ConfigError(f"{output}: is there already; name a folder that is not")
    recipe, network = load_network(checkpoint, state, torch.device("cpu"))
    if to not in recipe.weight_formats:
        has = choice(to, recipe.weight_formats) if recipe.weight_formats else "its checkpoints are safetensors"
        raise ConfigError(f"--to {to}: {recipe.name} has no such format; {has}")
    temporary = output.parent / f".{output.name}.{uuid.uuid4().hex[:8]}.tmp"
    temporary.mkdir(parents=True)
    try:
        recipe.write_weights(network, temporary, to=to, step=state.step)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(path for path in output.rglob("*") if path.is_file())
