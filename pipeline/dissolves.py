"""Identity: where one person turns into another without a cut, so that a track goes on from face to face.

A cross-fade is no cut, and while it lasts a face detector sees one face slide into the next. What gives it away is the
picture and not the face: small descriptors of aligned faces differ as much between two poses of one person as between
two people, but only in a dissolve all places of the picture go from old to new together (docs/identity.md).
"""

from collections import deque
from collections.abc import Collection

import cv2
import numpy as np

REACH = 12
"""A frame is compared with those this far before and after it: dissolves of up to 1 s lie in between."""
SIZE = (48, 32)
"""Width and height at which pictures are compared, px; coarser than most motion."""
MIN_CHANGE = 16.0
"""A value that differs by more than this has changed, grey levels."""
TOLERANCE = 0.25
"""A value takes part in a dissolve when its way from old to new is done up to this share of the common one."""
CHANCE = 0.4
"""Share of the values that take part when things merely move."""
MIN_CONTRAST = 8.0
"""Flatter pictures are black or white, grey levels of standard deviation: a fade to them shows nobody else."""
MIN_GUARD_FRAMES = 6
"""Least number of frames taken off before and after the middle of a dissolve."""


class DissolveDetector:
    """Score every frame of a stream for being the middle of a dissolve."""

    def __init__(self) -> None:
        self._recent: deque[np.ndarray] = deque(maxlen=2 * REACH + 1)
        self.scores: dict[int, float] = {}
        """Score by frame; the first and the last 12 frames have none."""

    def add(self, frame: int, rgb: np.ndarray) -> None:
        """Take the next frame: `rgb` is [H, W, 3] uint8."""
        step = max(1, min(rgb.shape[1] // (4 * SIZE[0]), rgb.shape[0] // (4 * SIZE[1])))
        small = cv2.resize(np.ascontiguousarray(rgb[::step, ::step]), SIZE, interpolation=cv2.INTER_AREA)
        self._recent.append(small.astype(np.float32).reshape(-1))
        if len(self._recent) == self._recent.maxlen:
            self.scores[frame - REACH] = dissolve_score(self._recent)

    def changes(self, cuts: Collection[int], min_score: float) -> list[range]:
        """Return the stretches that dissolves cover, in order; frames that a cut comes near are not judged."""
        near_cuts = {frame for cut in cuts for frame in range(cut - REACH, cut + REACH)}
        high = [frame for frame, score in self.scores.items() if score > min_score and frame not in near_cuts]
        middles: list[range] = []
        for frame in high:
            if middles and frame - middles[-1].stop < REACH:
                middles[-1] = range(middles[-1].start, frame + 1)
            else:
                middles.append(range(frame, frame + 1))
        # Scores are high in the middle half of a dissolve.
        guards = [max(MIN_GUARD_FRAMES, len(middle)) for middle in middles]
        return [range(m.start - guard, m.stop + guard) for m, guard in zip(middles, guards, strict=True)]


def dissolve_score(pictures: Collection[np.ndarray]) -> float:
    """Tell how much a stretch is like a dissolve from its first picture to its last.

    Args:
        pictures: 25 pictures, flat float32 of one size, 0-255.

    Returns:
        0 to about 1, the product of three: how large a part of the picture changes (square root), how many of the
        changing values are as far on their way as all together, and how little first and last look alike.
    """
    first, before, middle, after, last = list(pictures)[:: REACH // 2]
    change = last - first
    changed = np.abs(change) > MIN_CHANGE
    if not changed.any() or min(first.std(), last.std()) < MIN_CONTRAST:
        return 0.0
    way = change[changed]
    early, half, late = (float((p - first)[changed] @ way / (way @ way)) for p in (before, middle, after))
    if not (0.25 < half < 0.75 and early < half < late):
        return 0.0
    together = np.mean(np.abs((middle - first)[changed] / way - half) < TOLERANCE)
    likeness = np.corrcoef(first, last)[0, 1]
    return float(np.sqrt(changed.mean()) * max(0.0, together - CHANCE) * (1 - likeness))
