"""Two UNets of diffusers' parts, so that the weights of Stable Diffusion 1.5 load by name, each run by one `forward`.

No attention processors, hooks or state outside the arguments: the reference's features are a list that one UNet returns
and the other takes. So the graph is static, and compiling and checkpointing see all of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .motion import MotionModule
from .regions import Region

Features = list[torch.Tensor]
"""Inputs of each attention of the reference UNet, in the order of the data flow: [B, h w, C] each."""


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """Widths and depths; the defaults are those of Stable Diffusion 1.5 and of HighSync."""

    channels: int = 4
    """Channels of the latents."""
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    """Channels at each resolution, the finest first."""
    attention: tuple[bool, ...] = (True, True, True, False)
    """Whether there is attention at each resolution."""
    num_resnets: int = 2
    """Layers of each resolution on the way down; one more on the way up."""
    num_heads: int = 8
    """Heads of every attention."""
    num_groups: int = 32
    """Groups of every normalisation."""
    max_frames: int = 32
    """Longest window."""
    audio_scale: float = 3.0
    """Factor of audio attention; HighSync's number."""


@dataclass(frozen=True)
class Layer:
    """A residual block and what follows it on the same grid."""

    level: int
    """Which grid; 0 is the finest."""
    resnet: Any
    """ResnetBlock2D of diffusers."""
    attention: Any
    """Transformer2DModel of diffusers, or None."""
    motion: MotionModule | None


def unet_options(shape: UNetShape, audio_width: int) -> dict[str, Any]:
    """Return the arguments of diffusers' `UNet2DConditionModel` for these parts; names and types are its own."""
    return {
        "in_channels": shape.channels,
        "out_channels": shape.channels,
        "block_out_channels": shape.widths,
        "layers_per_block": shape.num_resnets,
        "down_block_types": tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in shape.attention),
        "up_block_types": tuple(
            "CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(shape.attention)
        ),
        "attention_head_dim": shape.num_heads,  # diffusers' name for their number
        "norm_num_groups": shape.num_groups,
        "cross_attention_dim": audio_width,
    }


class LayeredUNet(UNet2DConditionModel):
    """diffusers' UNet, whose layers are run by our own `walk` instead of its `forward`."""

    checkpointing: bool = False
    """Whether what a layer computes is computed again in the backward pass instead of kept."""

    def __init__(self, shape: UNetShape, *, audio_width: int) -> None:
        super().__init__(**unet_options(shape, audio_width))
        self.shape = shape

    def walk(self, x: torch.Tensor, timestep: torch.Tensor, run: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Run all layers in the order of the data flow.

        Args:
            x: [N, C, H, W].
            timestep: [N] int64.
            run: called with x, the skipped x to append or None, the time's embedding [N, E] and the `Layer`.

        Returns:
            [N, widths[0], H, W], before the last normalisation and convolution.
        """
        net: Any = self  # diffusers' parts have no types that a checker could follow
        time = net.time_embedding(net.time_proj(timestep).to(x.dtype))
        deepest = len(net.down_blocks) - 1
        x = net.conv_in(x)
        skipped = [x]
        for level, block in enumerate(net.down_blocks):
            for layer in layers(block, level):
                x = run(x, None, time, layer)
                skipped.append(x)
            if block.downsamplers is not None:
                x = block.downsamplers[0](x)
                skipped.append(x)
        x = run(x, None, time, next(layers(net.mid_block, deepest)))
        x = net.mid_block.resnets[1](x, time)
        for index, block in enumerate(net.up_blocks):
            for layer in layers(block, deepest - index):
                x = run(x, skipped.pop(), time, layer)
            if block.upsamplers is not None:
                x = block.upsamplers[0](x)
        return x

    def maybe_checkpoint(self, run: Callable[..., Any], *inputs: torch.Tensor | None) -> Any:  # noqa: ANN401 - as `run`
        """Call a function of tensors, and keep only its inputs where checkpointing is on."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(run, *inputs, use_reentrant=False)
        return run(*inputs)


class ReferenceUNet(LayeredUNet):
    """Reads the reference frame; its features are what the denoiser's self-attention sees besides its own.

    It has no cross-attention, and nothing behind its last feature: such parameters would never get a gradient.
    """

    def __init__(self, shape: UNetShape) -> None:
        super().__init__(shape, audio_width=8)  # of the cross-attentions that are taken out again
        net: Any = self
        for module in net.modules():
            if isinstance(module, BasicTransformerBlock):
                module.norm2 = module.attn2 = None
        while not getattr(net.up_blocks[-1], "attentions", None):
            del net.up_blocks[-1]
        net.up_blocks[-1].upsamplers = None
        last = net.up_blocks[-1].attentions[-1]
        last.proj_out = net.conv_norm_out = net.conv_out = None
        block = last.transformer_blocks[0]
        block.attn1 = block.norm3 = block.ff = None

    def forward(self, reference: torch.Tensor) -> Features:
        """Return the features of reference latents [B, C, H, W], seen as free of noise (timestep 0)."""
        features: Features = []

        def run(x: torch.Tensor, skipped: torch.Tensor | None, time: torch.Tensor, layer: Layer) -> torch.Tensor:
            def compute(x: torch.Tensor, skipped: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
                x = layer.resnet(_append(x, skipped), time)
                return (x, None) if layer.attention is None else attend(layer.attention, x)

            x, own = self.maybe_checkpoint(compute, x, skipped)
            if own is not None:
                features.append(own)
            return x

        self.walk(reference, torch.zeros(len(reference), dtype=torch.int64, device=reference.device), run)
        return features


class Denoiser(LayeredUNet):
    """Predicts from noisy latents, sound and the reference's features."""

    def __init__(self, shape: UNetShape, *, audio_width: int, motion: bool) -> None:
        super().__init__(shape, audio_width=audio_width)
        net: Any = self
        for block in (*net.down_blocks, net.mid_block, *net.up_blocks) if motion else ():
            width = block.resnets[0].out_channels
            count = len(block.resnets) - (block is net.mid_block)
            block.motion_modules = nn.ModuleList(
                MotionModule(width, num_heads=shape.num_heads, num_groups=shape.num_groups, max_frames=shape.max_frames)
                for _ in range(count)
            )

    def forward(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        audio: torch.Tensor,
        features: Features,
        drop: torch.Tensor | None,
        regions: list[Region],
        num_frames: int,
    ) -> torch.Tensor:
        """Predict.

        Args:
            noisy: [B T, C, H, W].
            timestep: [B T] int64.
            audio: [B T, N, D] tokens of the sound.
            features: of the reference, [B, h w, C'] each.
            drop: [B T] bool, True where the reference is not to be seen; None: nowhere.
            regions: one for each grid.
            num_frames: T.

        Returns:
            [B T, C, H, W].
        """
        net: Any = self
        left = iter(features)

        def run(x: torch.Tensor, skipped: torch.Tensor | None, time: torch.Tensor, layer: Layer) -> torch.Tensor:
            seen = None if layer.attention is None else next(left)

            def compute(x: torch.Tensor, skipped: torch.Tensor | None, seen: torch.Tensor | None) -> torch.Tensor:
                x = layer.resnet(_append(x, skipped), time)
                if layer.attention is not None:
                    x, _ = attend(layer.attention, x, seen=seen, drop=drop, audio=audio, scale=self.shape.audio_scale)
                return x if layer.motion is None else layer.motion(x, regions[layer.level], num_frames)

            return self.maybe_checkpoint(compute, x, skipped, seen)

        x = self.walk(noisy, timestep, run)
        return net.conv_out(functional.silu(net.conv_norm_out(x)))


def layers(block: Any, level: int) -> Iterator[Layer]:  # noqa: ANN401 - any of diffusers' blocks
    """Yield the layers of a block; of the middle one its first, for its second has neither attention nor motion."""
    attentions, motions = (getattr(block, name, None) for name in ("attentions", "motion_modules"))
    count = len(block.resnets) if attentions is None else len(attentions)
    for index in range(count):
        attention = None if attentions is None else attentions[index]
        yield Layer(level, block.resnets[index], attention, None if motions is None else motions[index])


def attend(
    transformer: Any,  # noqa: ANN401 - diffusers' Transformer2DModel
    x: torch.Tensor,
    *,
    seen: torch.Tensor | None = None,
    drop: torch.Tensor | None = None,
    audio: torch.Tensor | None = None,
    scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a transformer of one block over the cells of pictures.

    Args:
        transformer: norm, proj_in, one block, proj_out; attn2 is None without sound.
        x: [N, C, h, w].
        seen: [B, h w, C] what else self-attention looks at; N is a multiple of B.
        drop: [N] bool, where `seen` is not to be seen.
        audio: [N, S, D] tokens for cross-attention.
        scale: of cross-attention.

    Returns:
        x after the transformer, and what its self-attention looked at, [N, h w, C].
    """
    block = transformer.transformer_blocks[0]
    tokens = transformer.proj_in(transformer.norm(x)).flatten(2).transpose(1, 2)
    own = block.norm1(tokens)
    if block.attn1 is None:  # the reference's last: nothing behind its feature is ever used
        return x, own
    tokens = tokens + block.attn1(own, encoder_hidden_states=None if seen is None else _beside(own, seen, drop))
    if block.attn2 is not None:
        tokens = tokens + scale * block.attn2(block.norm2(tokens), encoder_hidden_states=audio)
    tokens = tokens + block.ff(block.norm3(tokens))
    return x + transformer.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:])), own


def _beside(own: torch.Tensor, seen: torch.Tensor, drop: torch.Tensor | None) -> torch.Tensor:
    seen = seen.repeat_interleave(len(own) // len(seen), 0).to(own.dtype)
    if drop is not None:
        # Keys that are there twice weigh as if they were there once: dropping is per sample, and every parameter stays
        # in the graph.
        seen = torch.where(drop[:, None, None], own, seen)
    return torch.cat([own, seen], dim=1)


def _append(x: torch.Tensor, skipped: torch.Tensor | None) -> torch.Tensor:
    return x if skipped is None else torch.cat([x, skipped], dim=1)
