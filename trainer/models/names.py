"""The names under which others publish the same weights, and the way there and back.

diffusers' names are ours. HighSync's released checkpoints and AnimateDiff's motion files differ inside the motion
modules alone.
"""

import re
from collections.abc import Mapping

import torch

Weights = dict[str, torch.Tensor]

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
