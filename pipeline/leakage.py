"""Leakage: how well the crop rectangle alone predicts the mouth opening, which a lip-sync model must not be told."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from ..manifests.records import FRAME_RATE

NUM_FOLDS = 5
"""Stretches of the clip that are predicted from the rest; they are contiguous because neighbouring frames are alike."""
MIN_FRAMES = 2 * FRAME_RATE
"""Below two seconds a correlation of signals without their slow part says nothing."""
RIDGE = 1e-2
"""Penalty relative to the variance of a feature; keeps two features that move together from blowing up."""
EYE_SMOOTHING = 2.0
"""Standard deviation of the smoothing of the eyes, frames. A detector's tremble is not motion of the head: it hides the
leak of a smooth crop, and it also moves the mouth patch, which looks like a leak (docs/leakage.md)."""
MIN_SHIFT = 1e-4
"""Features that move less (share of the crop; a twentieth of a pixel of 512) are rounding, not motion."""


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Share of the mouth opening that the crop tells."""

    score: float
    """Correlation of the opening with its prediction from the crop, on frames that the prediction has not seen; NaN
    for clips under two seconds. Slightly below 0 on average when there is nothing to tell."""
    floor: float
    """The same for a crop that stands still: what real head motion tells, whatever the policy."""


def leakage(crops: np.ndarray, landmarks: np.ndarray | None, boxes: np.ndarray, opening: np.ndarray) -> Leakage:
    """Measure how well the crop geometry of a clip predicts the mouth opening.

    Args:
        crops: [T, 4] rectangles of a policy, source px.
        landmarks: [T, 5, 2], source px, or None; the head is then taken to stand still, for a box alone cannot tell
            its own motion from the head's.
        boxes: [T, 4] faces, source px.
        opening: [T] mouth opening.
    """
    eyes = _eyes(boxes, landmarks)
    still = np.broadcast_to(np.median(crops, axis=0), crops.shape)
    target = _fast_part(opening.astype(np.float64))
    return Leakage(score=_predict(_features(crops, eyes), target), floor=_predict(_features(still, eyes), target))


def _features(crops: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Return [T, 4] of what the rectangle shows a model: where the eyes lie in it, and how large it is; fast part only.

    The distance between the eyes is left out on purpose: a detector's landmarks scale with the whole face, so an
    open jaw moves them apart and even a still crop would seem to leak (docs/leakage.md).
    """
    size = (crops[:, 2:] - crops[:, :2]).astype(np.float64)
    relative = (eyes - crops[:, :2]) / size
    return _fast_part(np.concatenate([relative, np.log(size)], axis=1))


def _fast_part(signal: np.ndarray) -> np.ndarray:
    """Take off the mean of the surrounding second: slow motion and slow zooms tell nothing of the mouth."""
    return signal - uniform_filter1d(signal, FRAME_RATE, axis=0, mode="reflect")


def _predict(features: np.ndarray, target: np.ndarray) -> float:
    """Correlate `target` [T] with its ridge prediction from `features` [T, F], each fold predicted from the others."""
    if len(target) < MIN_FRAMES:
        return float("nan")
    spread = features.std(axis=0)
    features = features[:, spread > MIN_SHIFT] / spread[spread > MIN_SHIFT]
    if features.shape[1] == 0 or target.std() == 0:
        return 0.0
    fold = np.arange(len(target)) * NUM_FOLDS // len(target)
    predicted = np.empty_like(target)
    for number in range(NUM_FOLDS):
        seen = features[fold != number]
        penalty = RIDGE * len(seen) * np.eye(features.shape[1])
        weights = np.linalg.solve(seen.T @ seen + penalty, seen.T @ target[fold != number])
        predicted[fold == number] = features[fold == number] @ weights
    return float(np.corrcoef(predicted, target)[0, 1]) if predicted.std() > 0 else 0.0


def _eyes(boxes: np.ndarray, landmarks: np.ndarray | None) -> np.ndarray:
    """Midpoint of the eyes in each frame, [T, 2] or [1, 2]; a face box has them 0.4 of its height below its top."""
    if landmarks is not None:
        return gaussian_filter1d(
            landmarks[:, :2].astype(np.float64).mean(axis=1), EYE_SMOOTHING, axis=0, mode="nearest"
        )
    x0, y0, x1, y1 = np.median(boxes, axis=0)
    return np.array([[(x0 + x1) / 2, y0 + 0.4 * (y1 - y0)]])
