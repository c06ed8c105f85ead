"""HighSync (arXiv 2605.16918): a reference UNet and a denoising UNet in one module."""

import torch
from torch import nn

from .regions import make_regions
from .unet import Denoiser, Features, ReferenceUNet, UNetShape

TINY = UNetShape(widths=(16, 32, 64), attention=(False, False, True), num_resnets=1, num_heads=4, num_groups=8)
"""The same parts, small enough to train on a CPU in minutes."""


class HighSync(nn.Module):
    """The module that DDP wraps and `torch.compile` compiles.

    Args:
        shape: of both UNets.
        audio_width: D of the sound's tokens.
        motion: whether the denoiser has motion modules (stage 2).
        masked_motion: whether they see the mask's region alone; else the whole picture.
    """

    def __init__(self, shape: UNetShape, *, audio_width: int, motion: bool, masked_motion: bool = True) -> None:
        super().__init__()
        self.reference = ReferenceUNet(shape)
        self.denoiser = Denoiser(shape, audio_width=audio_width, motion=motion)
        self.masked_motion = masked_motion

    def set_checkpointing(self, on: bool) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.reference.checkpointing = self.denoiser.checkpointing = on

    def forward(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        reference: torch.Tensor,
        audio: torch.Tensor,
        mask: torch.Tensor,
        drop_reference: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict v.

        Args:
            noisy: [B, T, C, H, W] latents, noisy inside the mask.
            timestep: [B] int64.
            reference: [B, C, H, W] latents of another frame of the clip.
            audio: [B, T, N, D] tokens.
            mask: [1, 1, H, W], 1 inside.
            drop_reference: [B] bool, where the reference is not to be seen.

        Returns:
            [B, T, C, H, W].
        """
        return self.denoise(noisy, timestep, self.reference(reference), audio, mask, drop_reference)

    def denoise(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        features: Features,
        audio: torch.Tensor,
        mask: torch.Tensor,
        drop_reference: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict v with the reference's features already at hand; shapes as in `forward`."""
        num_samples, num_frames = noisy.shape[:2]
        seen = mask if self.masked_motion else torch.ones_like(mask)
        regions = make_regions(seen, num_grids=len(self.denoiser.shape.widths))
        predicted = self.denoiser(
            noisy.flatten(0, 1),
            timestep.repeat_interleave(num_frames),
            audio.flatten(0, 1),
            features,
            None if drop_reference is None else drop_reference.repeat_interleave(num_frames),
            regions,
            num_frames,
        )
        return predicted.unflatten(0, (num_samples, num_frames))
