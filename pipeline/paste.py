"""Put a generated mouth back into the picture that it was cut from."""

import cv2
import numpy as np

from .latents import MOUTH_COLUMNS, MOUTH_ROWS, SIZE

FEATHER_PX = 24
"""Width of the seam on the crop: there the old picture goes over into the new one, inside what was hidden."""


def seam() -> np.ndarray:
    """Return how much is taken from a generated crop, [512, 512] float32.

    1 inside the mask's rectangle, 0 outside, a smooth slope along its edges.
    """
    inside = np.zeros((SIZE, SIZE), np.uint8)
    inside[MOUTH_ROWS[0] : MOUTH_ROWS[1], MOUTH_COLUMNS[0] : MOUTH_COLUMNS[1]] = 1
    away = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    slope = np.clip(away / FEATHER_PX, 0, 1)
    return (slope * slope * (3 - 2 * slope)).astype(np.float32)


def paste(rgb: np.ndarray, generated: np.ndarray, crop: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the picture with the mouth of a generated crop in it.

    Args:
        rgb: [H, W, 3] uint8; stays as it is.
        generated: [512, 512, 3] uint8.
        crop: [4] x0, y0, x1, y1, source px, where the crop was cut.
        share: [512, 512], from `seam`.

    Returns:
        [H, W, 3] uint8; equal to `rgb` wherever `share` is 0.
    """
    height, width = rgb.shape[:2]
    corners = np.concatenate([np.floor(crop[:2]), np.ceil(crop[2:])]).astype(int)
    x0, y0, x1, y1 = np.clip(corners, 0, [width, height, width, height])
    if x0 >= x1 or y0 >= y1:
        return rgb
    scale = (crop[2:] - crop[:2]).astype(np.float64) / SIZE
    # Pixel i covers i to i + 1; OpenCV counts from the middle of the first one.
    shift = crop[:2] - (x0, y0) + scale / 2 - 0.5
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    size = (int(x1 - x0), int(y1 - y0))
    # Shrinking by linear taps alone would alias; averaging first takes what one source pixel covers.
    small = (
        cv2.blur(generated, (max(1, round(1 / scale[0])), max(1, round(1 / scale[1]))))
        if scale.min() < 1
        else generated
    )
    mouth = cv2.warpAffine(small, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(share, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    result = rgb.copy()
    under = rgb[y0:y1, x0:x1].astype(np.float32)
    mixed = np.rint(under + weight * (mouth - under)).clip(0, 255).astype(np.uint8)
    result[y0:y1, x0:x1] = np.where(weight > 0, mixed, rgb[y0:y1, x0:x1])
    return result
