"""Tracks: one person's face through a shot, linked from detections, gaps filled, never across a cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...manifests.settings import Range, check_ranges
from .detect import Detections


@dataclass(frozen=True, kw_only=True)
class TracksConfig:
    """Limits by which detections become tracks, and tracks become clips."""

    min_iou: Annotated[float, Range(0.01, 0.99)] = 0.3
    """Overlap from which two boxes are the same face."""
    max_gap_frames: Annotated[int, Range(0, 250)] = 5
    """A face missing for at most this many frames is interpolated; longer, and the track ends."""
    min_track_frames: Annotated[int, Range(1, 250)] = 12
    """Shorter tracks are noise of the detector."""
    max_clip_s: Annotated[float, Range(0.04, 600)] = 10.0
    """Longest clip; longer tracks are cut into equal parts."""
    max_dissolve: Annotated[float, Range(0.001, 1000)] = 0.1
    """Clips are split where the picture changes more like a dissolve than this: another person may follow in the same
    place. Heads and cameras that move score up to 0.05, dissolves between two talkers mostly 0.15 to 0.5
    (docs/identity.md)."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class Track:
    """A face from `start_frame` on, one entry a frame. `detected` is False where it was interpolated."""

    number: int
    start_frame: int
    boxes: list[np.ndarray] = field(default_factory=list)  # each [4]
    landmarks: list[np.ndarray | None] = field(default_factory=list)  # each [5, 2]
    detected: list[bool] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)  # the detector's own; NaN where it was not asked
    ended_by: str = "end"

    @property
    def end_frame(self) -> int:
        """The frame after the last one."""
        return self.start_frame + len(self.boxes)


class Linker:
    """Link detections into tracks over a stream of frames, detecting only where it must.

    Args:
        config: the limits.
        stride: distance of the frames that are always detected.
        detect: finds the faces of frames by their index; asked for key frames, and for frames between two of them
            where a track or a face has no partner, a track is in a gap, or a cut falls.
        extended: called with a track and the range of frames that it has just grown by.
        batch: how many frames `detect` takes at once. Linking waits until as many windows are there, so `batch` times
            `stride` frames must be held; which frames are asked for and what comes out is the same for every size.
    """

    def __init__(
        self,
        config: TracksConfig,
        stride: int,
        detect: Callable[[Sequence[int]], list[Detections]],
        extended: Callable[[Track, range], None],
        batch: int = 1,
    ) -> None:
        self._config = config
        self._stride = stride
        self._detect = detect
        self._extended = extended
        self._batch = batch
        self._next = 0
        self._active: list[Track] = []
        self.tracks: list[Track] = []
        self.num_looked = 0

    def start(self, frame: int) -> None:
        """Begin at this frame."""
        self._next = frame

    @property
    def position(self) -> int:
        """The first frame that is not linked yet."""
        return self._next

    def advance(self, before: int, cuts: set[int], *, last: bool = False) -> None:
        """Link all whole windows that end before a frame, by the batch; with `last`, the rest too."""
        while len(windows := self._windows(before, last=last)) == self._batch or (last and windows):
            keys = self._look([window[-1] for window in windows])
            for window, key in zip(windows, keys, strict=True):
                self._link_window(window, key, cuts)
                self._next = window.stop
        if last:
            self._close(self._active, "end")

    def _windows(self, before: int, *, last: bool) -> list[range]:
        """Return the next windows, at most a batch; their last frames are the key frames."""
        starts = range(self._next, before, self._stride)[: self._batch]
        windows = [range(start, min(start + self._stride, before)) for start in starts]
        return [window for window in windows if last or len(window) == self._stride]

    def _link_window(self, window: range, key: Detections, cuts: set[int]) -> None:
        # Where every track and every face of the key frame has its partner, nobody came or went, and the frames between
        # are interpolated. Otherwise each of them is looked at, so that a track begins or ends in exactly its frame.
        if not cuts.intersection(window) and self._all_seen_before(window) and self._all_paired(key):
            self._step(window[-1], key)
            return
        for frame, found in zip(window, [*self._look(window[:-1]), key], strict=True):
            if frame in cuts:
                self._close(self._active, "cut")
            self._step(frame, found)

    def _look(self, frames: Sequence[int]) -> list[Detections]:
        self.num_looked += len(frames)
        parts = [frames[first : first + self._batch] for first in range(0, len(frames), self._batch)]
        return [found for part in parts for found in self._detect(part)]

    def _all_seen_before(self, window: range) -> bool:
        """Tell whether no track is in a gap; the length of a gap is known only by looking at every frame of it."""
        return all(track.end_frame == window[0] for track in self._active)

    def _all_paired(self, found: Detections) -> bool:
        pairs = self._pair(found)
        return len(pairs) == len(self._active) == len(found.boxes)

    def _pair(self, found: Detections) -> list[tuple[int, int]]:
        """Pair active tracks with detections by overlap, the best total first (Hungarian)."""
        if not self._active or not len(found.boxes):
            return []
        # The best total, not the best pair first: two people who cross could else swap their tracks.
        overlap = iou(np.stack([track.boxes[-1] for track in self._active]), found.boxes)
        rows, columns = linear_sum_assignment(-overlap)
        return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= self._config.min_iou]

    def _step(self, frame: int, found: Detections) -> None:
        pairs = self._pair(found)
        # First the faces that go on, so that a track whose gap ends in this frame is not closed for it.
        for row, column in pairs:
            self._extend(self._active[row], frame, found, column)
        lost = [track for track in self._active if frame - track.end_frame >= self._config.max_gap_frames]
        self._close(lost, "gap")
        for column in sorted(set(range(len(found.boxes))) - {column for _, column in pairs}):
            track = Track(number=len(self.tracks), start_frame=frame)
            self.tracks.append(track)
            self._active.append(track)
            self._extend(track, frame, found, column)

    def _extend(self, track: Track, frame: int, found: Detections, column: int) -> None:
        box = found.boxes[column]
        points = None if found.landmarks is None else found.landmarks[column]
        first = track.end_frame
        steps = frame - first + 1
        # The gap is filled on a straight line; `step - 1` boxes were added, so `boxes[-step]` is the last before it.
        for step in range(1, steps):
            part = np.float32(step / steps)
            track.boxes.append(track.boxes[-step] + part * (box - track.boxes[-step]))
            last_points = track.landmarks[-step]
            between = None if points is None or last_points is None else last_points + part * (points - last_points)
            track.landmarks.append(between)
            track.detected.append(False)
            track.scores.append(np.nan)
        track.boxes.append(box)
        track.landmarks.append(points)
        track.detected.append(True)
        track.scores.append(float(found.scores[column]))
        self._extended(track, range(first, frame + 1))

    def _close(self, tracks: list[Track], ended_by: str) -> None:
        for track in tracks:
            track.ended_by = ended_by
        gone = {track.number for track in tracks}  # a track compares by its arrays, so its number stands for it
        self._active = [track for track in self._active if track.number not in gone]


def iou(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the overlap [N, M] of boxes [N, 4] with boxes [M, 4]: intersection over union, 0-1."""
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (left, right)]
    return inside / np.maximum(areas[0][:, None] + areas[1][None] - inside, 1e-6)
