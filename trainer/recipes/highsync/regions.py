"""The region that motion modules see, at each resolution of a UNet."""

from typing import NamedTuple

import torch
from torch.nn import functional


class Region(NamedTuple):
    """A region on one grid."""

    mask: torch.Tensor
    """[1, 1, h, w] float32, 1 inside."""
    cells: torch.Tensor
    """[K] int64: indices of the cells inside, row by row."""


def make_regions(mask: torch.Tensor, num_grids: int) -> list[Region]:
    """Return the region on each of a UNet's grids, every one half as fine as the one before.

    A coarse cell is inside only when all of it is (min-pooling), which gives HighSync's published mask images of 64,
    32, 16 and 8 exactly.

    Args:
        mask: [1, 1, H, W] of zeros and ones.
        num_grids: resolutions of the UNet.

    Raises:
        ValueError: the mask has another shape, or nothing is inside on the coarsest grid.
    """
    if mask.ndim != 4 or mask.shape[:2] != (1, 1):
        raise ValueError(f"mask: one for the whole batch, [1, 1, H, W], is needed; this is {list(mask.shape)}")
    masks = [mask]
    while len(masks) < num_grids:
        masks.append(-functional.max_pool2d(-masks[-1], 2))
    regions = [Region(mask, mask.flatten().nonzero()[:, 0]) for mask in masks]
    if not len(regions[-1].cells):
        raise ValueError(f"mask: no cell of the coarsest grid, {list(masks[-1].shape[2:])}, lies inside; enlarge it")
    return regions
