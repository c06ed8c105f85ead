"""Shot boundaries: PySceneDetect's content score on our own decoded frames, with flashes told from cuts."""

from collections import deque
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from scenedetect.detectors import ContentDetector

from ..manifests.settings import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class ScenesConfig:
    """Limits by which cuts are found."""

    threshold: Annotated[float, Range(0.1, 255)] = 27.0
    """Content score (mean HSV change, 0-255) from which a frame starts a new shot; PySceneDetect's default."""
    max_flash_frames: Annotated[int, Range(0, 250)] = 3
    """A change that is undone within this many frames is a flash, not a cut."""
    guard_frames: Annotated[int, Range(0, 250)] = 2
    """Frames trimmed at each side of a cut, where codecs smear one shot into the other."""

    def __post_init__(self) -> None:
        check_ranges(self)


class Cut(NamedTuple):
    """The first frame of a new shot, and the content score that says so."""

    frame: int
    score: float


WIDTH_PX = 160
"""Frames are compared at this width: motion of a few pixels and noise vanish, shot changes do not."""


class CutDetector:
    """Find cuts in a stream of frames; a cut is known `max_flash_frames` frames after it happens."""

    def __init__(self, config: ScenesConfig) -> None:
        self._config = config
        self._detector = _new_detector(config)
        self._judge = _new_detector(config)
        self._recent: deque[np.ndarray] = deque(maxlen=config.max_flash_frames + 2)
        self._pending: list[Cut] = []
        self._last = -1
        self.cuts: list[Cut] = []
        self.scores: dict[int, float] = {}

    @property
    def settled(self) -> int:
        """Frames before this index have their final verdict."""
        return self._pending[0].frame if self._pending else self._last + 1

    def add(self, frame: int, rgb: np.ndarray) -> None:
        """Take the next frame: `rgb` is [H, W, 3] uint8."""
        small = _shrink(rgb)
        starts_shot = bool(self._detector.process_frame(frame, small))
        self.scores[frame] = _score(self._detector)
        self._recent.append(small)
        self._last = frame
        if starts_shot:
            self._add_change(Cut(frame, self.scores[frame]))
        self._settle(frame - self._config.max_flash_frames)

    def finish(self) -> None:
        """Settle what is pending at the end of the stream."""
        self._settle(self._last + 1)

    def max_score(self, start_frame: int, end_frame: int) -> float:
        """Return the largest content score inside a stretch; its first frame, which may be a cut, is left out."""
        return max((self.scores.get(frame, 0.0) for frame in range(start_frame + 1, end_frame)), default=0.0)

    def _add_change(self, cut: Cut) -> None:
        for index, change in enumerate(self._pending):  # a flash may follow a cut that is pending too
            if self._returns_to_before(change.frame):
                del self._pending[index:]
                return
        self._pending.append(cut)

    def _returns_to_before(self, frame: int) -> bool:
        """Tell whether the newest picture is again what was shown just before `frame`."""
        back = self._last - (frame - 1)
        if back >= len(self._recent):
            return False
        self._judge = _new_detector(self._config)
        self._judge.process_frame(0, self._recent[-1 - back])
        self._judge.process_frame(1, self._recent[-1])
        return _score(self._judge) < self._config.threshold

    def _settle(self, before: int) -> None:
        while self._pending and self._pending[0].frame <= before:
            self.cuts.append(self._pending.pop(0))


def _new_detector(config: ScenesConfig) -> ContentDetector:
    return ContentDetector(threshold=config.threshold, min_scene_len=0)


def _score(detector: ContentDetector) -> float:
    return float(detector._frame_score or 0.0)  # no public reading without a StatsManager that keeps every frame


def _shrink(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    size = (WIDTH_PX, max(8, round(height * WIDTH_PX / width)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if width > WIDTH_PX else cv2.INTER_LINEAR)
    return np.ascontiguousarray(small[..., ::-1])
