"""The weights of a run as others read them: the folders of diffusers, or the two files of HighSync's own scripts."""

import shutil
import uuid
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from ..manifests.errors import ConfigError
from .checkpoint import find_checkpoint, read_state
from .models.names import Weights, to_published
from .models.unet import LayeredUNet, unet_options
from .networks import load_network

Format = Literal["diffusers", "highsync"]
TEXT_WIDTH = 768
"""Of the cross-attention that Stable Diffusion 1.5's UNet has and the reference UNet never runs."""
HEAD = ("conv_norm_out.", "conv_out.")
"""What HighSync's reference UNet does not have, and its loader does not accept."""


def publish(place: Path, *, to: Format, output: Path) -> list[Path]:
    """Write the weights that a checkpoint ships, averaged where it has an average, under the names of others.

    A reference UNet has neither cross-attention nor anything behind its last feature. Loaders ask for those tensors,
    though nothing of them is ever run: they are written as zeros.

    Args:
        place: a run, or one of its checkpoints.
        to: `diffusers`: `reference_unet` and `denoising_unet`, each for `UNet2DConditionModel.from_pretrained`, and
            `motion_modules.safetensors` where there are any; `highsync`: `reference_unet-STEP.safetensors` and
            `denoising_unet-STEP.safetensors`, all names as its scripts save them.
        output: folder to make.

    Returns:
        The files.

    Raises:
        ConfigError: the folder is there already, or the run has no such network.
        DatasetError: there is no checkpoint.
    """
    checkpoint = find_checkpoint(place)
    state = read_state(checkpoint)
    if output.exists():
        raise ConfigError(f"{output}: is there already; name a folder that is not")
    network, _ = load_network(checkpoint, state, torch.device("cpu"))
    temporary = output.parent / f".{output.name}.{uuid.uuid4().hex[:8]}.tmp"
    temporary.mkdir(parents=True)
    try:
        if to == "diffusers":
            _save_diffusers(network.reference, network.denoiser, temporary)
        else:
            reference = {
                name: tensor
                for name, tensor in _filled(network.reference).state_dict().items()
                if not name.startswith(HEAD)
            }
            _save(reference, temporary / f"reference_unet-{state.step}.safetensors")
            published = to_published(network.denoiser.state_dict())
            _save(published, temporary / f"denoising_unet-{state.step}.safetensors")
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(path for path in output.rglob("*") if path.is_file())


def _save_diffusers(reference: LayeredUNet, denoiser: LayeredUNet, folder: Path) -> None:
    _filled(reference).save_pretrained(folder / "reference_unet")
    own = denoiser.state_dict()
    motion = {name: tensor for name, tensor in own.items() if ".motion_modules." in name}
    config: Any = denoiser.config
    plain = UNet2DConditionModel(**unet_options(denoiser.shape, config.cross_attention_dim))
    plain.load_state_dict({name: tensor for name, tensor in own.items() if name not in motion})
    plain.save_pretrained(folder / "denoising_unet")
    if motion:
        _save(motion, folder / "motion_modules.safetensors")


def _filled(reference: LayeredUNet) -> UNet2DConditionModel:
    """Return diffusers' own UNet with the weights of a reference UNet, and zeros for what that never runs."""
    whole = UNet2DConditionModel(**unet_options(reference.shape, TEXT_WIDTH))
    own = reference.state_dict()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in whole.state_dict().items() if name not in own}
    whole.load_state_dict({**own, **zeros})
    return whole


def _save(weights: Weights, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
