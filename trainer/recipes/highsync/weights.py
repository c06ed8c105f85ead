"""Weights as others publish them: their names and files, and the way there and back.

diffusers' names are ours. HighSync's released checkpoints and AnimateDiff's motion files differ inside the motion
modules alone.

A reference UNet has neither cross-attention nor anything behind its last feature. Loaders ask for those tensors, though
nothing of them is ever run: they are written as zeros.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from ..recipe import Weights
from .network import HighSync
from .unet import LayeredUNet, unet_options

FORMATS = ("diffusers", "highsync")
TEXT_WIDTH = 768
"""Width of the cross-attention that Stable Diffusion 1.5's UNet has and the reference UNet never runs."""
HEAD = ("conv_norm_out.", "conv_out.")
"""Layers that HighSync's reference UNet does not have, and its loader does not accept."""

MOTION = re.compile(r"(.*\bmotion_modules\.\d+\.)(.*)")
PUBLISHED_TO_OURS = (
    (re.compile(r"^temporal_transformer\."), ""),
    (re.compile(r"attention_blocks\.0\.pos_encoder\.pe$"), "pos_embed.pe"),
    (re.compile(r"attention_blocks\.0\."), "attn1."),
    (re.compile(r"attention_blocks\.1\."), "attn2."),
    (re.compile(r"\.norms\.0\."), ".norm1."),
    (re.compile(r"\.norms\.1\."), ".norm2."),
    (re.compile(r"\.ff_norm\."), ".norm3."),
)
OURS_TO_PUBLISHED = (
    (re.compile(r"\bpos_embed\.pe$"), "attention_blocks.0.pos_encoder.pe"),
    (re.compile(r"\.attn1\."), ".attention_blocks.0."),
    (re.compile(r"\.attn2\."), ".attention_blocks.1."),
    (re.compile(r"\.norm1\."), ".norms.0."),
    (re.compile(r"\.norm2\."), ".norms.1."),
    (re.compile(r"\.norm3\."), ".ff_norm."),
)
SECOND_TABLE = "attention_blocks.1.pos_encoder.pe"
"""Both attentions add the same table of sines; ours has it once."""


def from_published(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Rename the weights of a UNet or of a motion file that HighSync or AnimateDiff published."""
    renamed = {}
    for name, tensor in weights.items():
        if not name.endswith(SECOND_TABLE):
            # AnimateDiff's files were saved from a parallel module.
            renamed[_rename(name.removeprefix("module."), PUBLISHED_TO_OURS)] = tensor
    return renamed


def to_published(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Rename the weights of a denoiser as HighSync publishes them; undoes `from_published`."""
    renamed = {}
    for name, tensor in weights.items():
        published = _rename(name, OURS_TO_PUBLISHED, prefix="temporal_transformer.")
        renamed[published] = tensor
        if published.endswith("attention_blocks.0.pos_encoder.pe"):
            renamed[published.replace("attention_blocks.0.pos", "attention_blocks.1.pos")] = tensor.clone()
    return renamed


def _rename(name: str, rules: tuple[tuple[re.Pattern[str], str], ...], *, prefix: str = "") -> str:
    found = MOTION.fullmatch(name)
    if found is None:
        return name
    inner = found[2]
    for pattern, other in rules:
        inner = pattern.sub(other, inner)
    return found[1] + prefix + inner


def write_published(network: HighSync, folder: Path, step: int) -> None:
    """Write `reference_unet-STEP` and `denoising_unet-STEP` (safetensors) as HighSync's scripts save them."""
    whole = _filled(network.reference).state_dict()
    reference = {name: tensor for name, tensor in whole.items() if not name.startswith(HEAD)}
    _save(reference, folder / f"reference_unet-{step}.safetensors")
    _save(to_published(network.denoiser.state_dict()), folder / f"denoising_unet-{step}.safetensors")


def write_diffusers(network: HighSync, folder: Path) -> None:
    """Write two folders for diffusers' `from_pretrained`, and `motion_modules.safetensors` where there are any."""
    denoiser = network.denoiser
    _filled(network.reference).save_pretrained(folder / "reference_unet")
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
