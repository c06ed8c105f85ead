"""Mouth: how far it is open, from a handful of pixels a frame and without a landmark model."""

import numpy as np

from ..crop import resample

ROWS, COLUMNS = 14, 16
"""Size of a patch, px."""
PIXEL = 0.06
"""Side of a patch pixel, in units of the face (one unit: the distance between the eyes of a frontal face)."""
TOP = 0.84
"""Upper edge of the patch below the eyes, units; a mouth is centred 1.03 below them (median of 17 talkers, YuNet)."""
NOSE = 0.58
"""Distance of the nose tip below the eyes, units (median of the same talkers)."""
HAAR_EYES, HAAR_UNIT = 0.39, 0.37
"""Distance of the eyes below the top of a Haar box, and one unit, as shares of its height (median of 22 talkers)."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""
BRIGHTNESS_SHARE = np.float32(0.3)
"""Weight of borders in brightness against borders in colour; 0.1 to 0.5 do as well (docs/leakage.md)."""
DARK = np.float32(32.0)
"""Added to colours before the logarithm, grey levels, so that the noise of dark pixels does not count as colour."""


def measure(rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray | None) -> np.ndarray:
    """Take a small picture of the mouth out of one frame, placed by eyes and nose so that the jaw does not move it.

    Args:
        rgb: [H, W, 3] uint8.
        box: [4] x0, y0, x1, y1 of the face, source px; used where there are no landmarks (a Haar box is assumed).
        landmarks: [5, 2], source px, or None.

    Returns:
        [14, 16, 3] uint8 RGB.
    """
    eyes, right, unit = _frame_of_box(box) if landmarks is None else _frame_of_points(landmarks.astype(np.float64))
    down = np.array([-right[1], right[0]])
    corner = eyes + unit * (TOP * down - COLUMNS / 2 * PIXEL * right)
    matrix = np.stack([PIXEL * unit * right, PIXEL * unit * down, corner], axis=1)
    return resample(rgb, matrix, COLUMNS, ROWS)


def opening(patches: np.ndarray) -> np.ndarray:
    """Turn the patches of a track into a signal that grows as the mouth opens.

    An open mouth shows more borders: lips to teeth, lips to the dark inside. They are counted mostly by colour, the
    log ratio of red to green, which tells lips from the rest for dark and bright mouths alike and sees no shadows, and
    a little by brightness, which is all that black-and-white footage has (docs/leakage.md).

    Args:
        patches: [T, 14, 16, 3] uint8, what `measure` returned for each frame.

    Returns:
        [T] float32, mean change from pixel to pixel, down plus across; about 0.05 to 0.3, comparable within a track.
    """
    colours = patches.astype(np.float32)
    redness = np.log((colours[..., 0] + DARK) / (colours[..., 1] + DARK))
    brightness = np.log(colours @ GREY + DARK)
    return _borders(redness) + BRIGHTNESS_SHARE * _borders(brightness)


def _borders(pictures: np.ndarray) -> np.ndarray:
    """Mean absolute change from pixel to pixel, down plus across, of pictures [T, 14, 16]; [T] float32."""
    down = np.abs(np.diff(pictures, axis=1)).mean(axis=(1, 2))
    across = np.abs(np.diff(pictures, axis=2)).mean(axis=(1, 2))
    return down + across


def _frame_of_points(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Eye midpoint [2], unit vector from the right eye to the left [2], and the face unit in px, of landmarks [5, 2].

    A turned head brings its eyes together and a nodding one its nose to the eyes; the mean of the two wavers least.
    """
    eyes = points[:2].mean(axis=0)
    across = points[1] - points[0]
    distance = max(float(np.hypot(*across)), 1e-3)
    right = across / distance
    below = (points[2] - eyes) @ np.array([-right[1], right[0]])
    return eyes, right, (distance + max(below / NOSE, 0.0)) / 2


def _frame_of_box(box: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    x0, y0, x1, y1 = box.astype(np.float64)
    height = y1 - y0
    return np.array([(x0 + x1) / 2, y0 + HAAR_EYES * height]), np.array([1.0, 0.0]), HAAR_UNIT * height
