"""Lip crops: the picture that SyncNet wants of a face, cut out of a frame as its own pipeline does it, in memory."""

from collections.abc import Sequence

import cv2
import numpy as np

SIDE = 224
"""Width and height of a crop, px."""
MARGIN = 0.4
"""Margin that is added at both sides, and twice below, in halves of the face (`crop_scale` of syncnet-python)."""
REACH = 6
"""Frames before and after whose boxes decide too: upstream's median over 13."""
GREY = 110
"""Grey level outside the picture."""


def place(boxes: Sequence[np.ndarray] | np.ndarray, frame: int) -> tuple[float, float, float]:
    """Return where the face is in a frame: centre x, y and half of its size, medians over the 13 frames around.

    Upstream's filter takes boxes to be 0 beyond the ends of a track, so that its crops shrink there; here the first
    and the last one go on.

    Args:
        boxes: T boxes x0, y0, x1, y1, source px.
        frame: index of the frame among them; what lies more than 6 beyond is not looked at.
    """
    near = np.stack([boxes[min(max(index, 0), len(boxes) - 1)] for index in range(frame - REACH, frame + REACH + 1)])
    low, high = near[:, :2].astype(np.float64), near[:, 2:].astype(np.float64)
    x, y = np.median((low + high) / 2, axis=0)
    return float(x), float(y), float(np.median((high - low).max(axis=1))) / 2


def crop(rgb: np.ndarray, x: float, y: float, half: float) -> np.ndarray:
    """Cut a face out with its chin.

    Args:
        rgb: [H, W, 3] uint8.
        x: centre of the face, source px.
        y: the same, downwards.
        half: half of the longer side of its box, px.

    Returns:
        [224, 224, 3] uint8 RGB.
    """
    # Upstream pads the frame first and truncates then: the same numbers without a copy of the frame.
    pad = int(half * (1 + 2 * MARGIN))
    top, bottom = int(y + pad - half) - pad, int(y + pad + half * (1 + 2 * MARGIN)) - pad
    left, right = (int(x + pad + side * half * (1 + MARGIN)) - pad for side in (-1, 1))
    inside = rgb[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if not inside.size:
        return np.full((SIDE, SIDE, 3), GREY, np.uint8)
    beyond = (-top, bottom - rgb.shape[0], -left, right - rgb.shape[1])
    padded = cv2.copyMakeBorder(
        inside, *(max(0, edge) for edge in beyond), borderType=cv2.BORDER_CONSTANT, value=(GREY,) * 3
    )
    return np.asarray(cv2.resize(padded, (SIDE, SIDE)))
