"""The mask of what is generated: HighSync's fixed rectangle round the mouth, jaw and cheeks."""

import torch

TOP, BOTTOM, LEFT, RIGHT = 28, 60, 5, 59
"""Rows 28 .. 59 and columns 5 .. 58 of 64, read off the mask image that HighSync publishes."""
GRID = 64


def lower_face(size: int) -> torch.Tensor:
    """Return [1, 1, H, W] float32, 1 inside; on a coarser grid a cell is inside only when all of it is."""
    mask = torch.zeros(1, 1, size, size)
    # Rounded inwards, as HighSync's own masks of 32, 16 and 8 are: the first edges up, the last ones down.
    top, left = (-(-edge * size // GRID) for edge in (TOP, LEFT))
    bottom, right = (edge * size // GRID for edge in (BOTTOM, RIGHT))
    mask[:, :, top:bottom, left:right] = 1
    return mask
