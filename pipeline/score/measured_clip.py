"""MeasuredClip: everything that a metric may look at of one candidate clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...manifests.records import Video
from ..crop import CropConfig
from ..faces.tracks import Track
from ..sync.estimate import SyncEstimate
from .candidates import CandidateClip
from .observer import TrackObservations


@dataclass(frozen=True, kw_only=True)
class MeasuredClip:
    """A candidate clip with a face: its track, its pictures, its sound and its sync."""

    video: Video
    piece: CandidateClip
    track: Track
    tracks: Sequence[Track]
    """All tracks of the footage, its own included."""
    seen: TrackObservations
    size: tuple[int, int]
    """Width and height of the picture."""
    opening: np.ndarray
    """[T] mouth opening."""
    pcm: np.ndarray
    """[S] int16 samples of the clip."""
    voiced: np.ndarray
    """[T] bool, frames with speech."""
    sync: SyncEstimate
    max_cut_score: float
    num_stale: int
    """Frames whose own picture was damaged."""
    stride: int
    """Distance of the frames that the detector always looks at."""
    crop: CropConfig

    @property
    def local(self) -> slice:
        """The stretch of the track that the clip is."""
        first = self.track.start_frame
        return slice(self.piece.start_frame - first, self.piece.end_frame - first)

    @cached_property
    def boxes(self) -> np.ndarray:
        """[T, 4] x0, y0, x1, y1 in source pixels."""
        return np.stack(self.track.boxes[self.local])

    @cached_property
    def landmarks(self) -> np.ndarray | None:
        """[T, 5, 2] in source pixels; None unless every frame has them."""
        points = [point for point in self.track.landmarks[self.local] if point is not None]
        return np.stack(points) if len(points) == len(self.boxes) else None

    @cached_property
    def heights(self) -> np.ndarray:
        """[T] height of the face, source pixels."""
        return self.boxes[:, 3] - self.boxes[:, 1]
