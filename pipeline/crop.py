"""Crop: where the picture is cut in each frame, so that the rectangle does not tell how far the mouth is open."""

from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..manifests.errors import ConfigError
from ..manifests.settings import Range, check_ranges

HEIGHT_SHARE = 1.1
"""HighSync: the crop goes from the top of the box down to 1.1 times its height."""
WIDTH_MARGIN = 0.1
"""HighSync: the crop is wider than the box by a tenth on each side."""
MAX_SUPERSAMPLING = 4
"""Samples per output pixel and axis; bilinear taps that close still cover every source pixel up to a factor of 8."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Policy by which the crop follows the face."""

    policy: Literal["per_frame", "centre", "highsync", "eyes", "static", "whole"] = "highsync"
    """`per_frame`: the box of each frame, which leaks the mouth opening. The others fix the size over the clip and
    hang it from the box `centre`, its top (`highsync`), the `eyes` (needs landmarks) or one place (`static`).
    `whole`: the picture as it is, for files that are crops already."""
    smooth_frames: Annotated[float, Range(0, 25)] = 2.0
    """Standard deviation of the smoothing over time of what the crop hangs from, frames; 0 follows the detector."""

    def __post_init__(self) -> None:
        check_ranges(self)


def crop_boxes(
    boxes: np.ndarray, landmarks: np.ndarray | None, config: CropConfig, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the rectangle to cut in each frame of a clip.

    Args:
        boxes: [T, 4] float32 x0, y0, x1, y1 of the face, source px.
        landmarks: [T, 5, 2] float32, source px, or None.
        config: the policy.
        size: width and height of the picture; only `whole` needs it.

    Returns:
        [T, 4] float32 x0, y0, x1, y1, source px; it may reach outside the picture.
    """
    if config.policy == "whole":
        assert size is not None
        return np.tile(np.array([0, 0, *size], np.float32), (len(boxes), 1))
    if config.policy == "per_frame":
        return _grow(boxes)
    extent = _fixed_size(boxes)
    anchor = _anchor(boxes, landmarks, extent, config.policy)
    if config.policy == "static":
        anchor = np.broadcast_to(np.median(anchor, axis=0), anchor.shape)
    elif config.smooth_frames > 0:
        anchor = gaussian_filter1d(anchor, config.smooth_frames, axis=0, mode="nearest")
    corner = anchor - [extent[0] / 2, 0]
    return np.concatenate([corner, corner + extent], axis=1).astype(np.float32)


def warp(rgb: np.ndarray, crop: np.ndarray, size: int) -> np.ndarray:
    """Cut a rectangle [4] out of `rgb` [H, W, 3] uint8 with sub-pixel places; return [size, size, 3] uint8.

    Pixel i covers the stretch from i to i + 1, so the rectangle (0, 0, W, H) gives the picture itself. What lies
    outside the picture repeats its border.
    """
    step = (crop[2:].astype(np.float64) - crop[:2]) / size
    matrix = np.array([[step[0], 0, crop[0]], [0, step[1], crop[1]]])
    return resample(rgb, matrix, size, size)


def resample(rgb: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resample through an affine map without aliasing.

    Args:
        rgb: [H, W, C] uint8.
        matrix: [2, 3] from places in the output to places in the source, px, counted from the corner of the picture.
        width: of the output.
        height: of the output.

    Returns:
        [height, width, C] uint8.
    """
    scale = np.hypot(matrix[0, :2], matrix[1, :2])
    fine_x, fine_y = (int(n) for n in np.clip(np.ceil(scale - 1e-6), 1, MAX_SUPERSAMPLING))
    to_source = matrix.astype(np.float64) / [[fine_x, fine_y, 1]]
    # OpenCV counts from the centre of the first pixel, in the output and in the source.
    to_source[:, 2] += to_source[:, :2].sum(axis=1) / 2 - 0.5
    # Up to 2 samples, cubic taps keep 8 dB more detail for 15 ms a crop; with more samples linear ones are as good.
    taps = cv2.INTER_CUBIC if max(fine_x, fine_y) <= 2 else cv2.INTER_LINEAR
    flags = taps | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(
        rgb, to_source, (width * fine_x, height * fine_y), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return fine if fine_x == fine_y == 1 else cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)


def outside_share(crops: np.ndarray, width: int, height: int) -> float:
    """Return the share of the worst crop [T, 4] that lies outside a picture of this size, 0-1."""
    size = crops[:, 2:] - crops[:, :2]
    inside = np.clip(np.minimum(crops[:, 2:], (width, height)) - np.maximum(crops[:, :2], 0), 0, None)
    return float(np.max(1 - inside.prod(axis=1) / size.prod(axis=1)))


def jitter(crops: np.ndarray) -> float:
    """Return how much the crop [T, 4] trembles: mean change of its corners' velocity, px of a 512 px crop a frame.

    Steady motion and a steady zoom count as none.
    """
    if len(crops) < 3:
        return 0.0
    size = np.median(crops[:, 2:] - crops[:, :2], axis=0)
    corners = crops.astype(np.float64) / np.tile(size, 2) * 512
    return float(np.abs(np.diff(corners, n=2, axis=0)).mean())


def height_ratio(boxes: np.ndarray) -> float:
    """Return tallest over shortest face of boxes [T, 4]; HighSync takes clips below 1.4."""
    heights = boxes[:, 3] - boxes[:, 1]
    return float(heights.max() / heights.min())


def _grow(boxes: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = boxes.T
    margin = WIDTH_MARGIN * (x1 - x0)
    return np.stack([x0 - margin, y0, x1 + margin, y0 + HEIGHT_SHARE * (y1 - y0)], axis=1).astype(np.float32)


def _fixed_size(boxes: np.ndarray) -> np.ndarray:
    """Width and height of the crop for a whole clip, source px.

    The height is the tallest box, as HighSync has it, so that an open mouth always fits. The width is the median box:
    it does not follow the jaw, and one bad detection does not widen the whole clip.
    """
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return np.array([np.median(widths) * (1 + 2 * WIDTH_MARGIN), heights.max() * HEIGHT_SHARE], np.float64)


def _anchor(boxes: np.ndarray, landmarks: np.ndarray | None, size: np.ndarray, policy: str) -> np.ndarray:
    """Middle of the crop's upper edge in each frame, [T, 2] float64."""
    centre = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
    top = np.stack([centre[:, 0], boxes[:, 1]], axis=1)
    if policy == "centre":
        return centre - [0, size[1] / 2]
    if policy == "eyes":
        if landmarks is None:
            raise ConfigError("crop.policy: `eyes` needs landmarks, which this detector does not give; use highsync")
        eyes = landmarks[:, :2].astype(np.float64).mean(axis=1)
        return eyes + np.median(top - eyes, axis=0)
    return top
