"""AnimateDiff's motion module, in which only the cells of a region attend to each other and are written."""

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from .regions import Region


class MotionModule(nn.Module):
    """Attention over the frames of a window, cell by cell.

    Cells outside the region are neither read nor written, so what this module adds to one frame cannot depend on
    another frame's upper face. That is exact; but spatial attention carries a little of it into the mouth beforehand
    (docs/training.md).

    Args:
        width: channels.
        num_heads: of attention.
        num_groups: of the normalisation; 32 as published.
        max_frames: longest window.
    """

    def __init__(self, width: int, *, num_heads: int, num_groups: int, max_frames: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        block = BasicTransformerBlock(
            width,
            num_heads,
            width // num_heads,
            double_self_attention=True,
            positional_embeddings="sinusoidal",
            num_positional_embeddings=max_frames,
        )
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Linear(width, width)
        nn.init.zeros_(self.proj_out.weight)  # as published: at first the module changes nothing
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: torch.Tensor, region: Region, num_frames: int) -> torch.Tensor:
        """Mix the frames inside the region.

        Args:
            x: [B T, C, h, w].
            region: on this grid.
            num_frames: T.

        Returns:
            [B T, C, h, w]; outside the region as it was.
        """
        num_pictures, width, _, _ = x.shape
        num_cells = len(region.cells)
        # Statistics of every frame over the whole grid, zeros outside: as published (diffusers takes them per clip).
        inside = self.norm(x * region.mask).flatten(2).index_select(2, region.cells)
        # Each cell is a batch entry of its own: attention runs over time alone, never over the picture.
        tokens = inside.unflatten(0, (-1, num_frames)).permute(0, 3, 1, 2).reshape(-1, num_frames, width)
        tokens = self.proj_in(tokens)  # [B K, T, C]
        for block in self.transformer_blocks:
            tokens = block(tokens)
        tokens = self.proj_out(tokens).reshape(-1, num_cells, num_frames, width)
        change = tokens.permute(0, 2, 3, 1).reshape(num_pictures, width, num_cells)
        # Added by cell, not by a product with the mask: cells outside keep their very bits.
        return x.flatten(2).index_add(2, region.cells, change.to(x.dtype)).view_as(x)
