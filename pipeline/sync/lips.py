"""Lips: the crops of growing tracks become a network's vectors at once, so that no track is ever held as pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..faces.tracks import Track, TracksConfig
from . import lip_crops
from .estimate import SyncNetwork

BATCH_FRAMES = 32
"""Vectors that are made in one go."""
CONTEXT_FRAMES = 4
"""Crops of one batch that the next one needs: a vector sees five."""


class LipStream:
    """The lips of one face, frame after frame; holds 36 crops (5 MB) at most."""

    def __init__(self, network: SyncNetwork) -> None:
        self._network = network
        self._crops: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []

    def add(self, crop: np.ndarray) -> None:
        """Take the next crop, [224, 224, 3] uint8 RGB."""
        self._crops.append(crop)
        if len(self._crops) == BATCH_FRAMES + CONTEXT_FRAMES:
            self._vectors.append(self._network.embed_lips(np.stack(self._crops)))
            del self._crops[:BATCH_FRAMES]

    def finish(self) -> np.ndarray:
        """Return [T - 4, D] float32 of all crops; at least one must have been taken."""
        return np.concatenate([*self._vectors, self._network.embed_lips(np.stack(self._crops))])


@dataclass
class _Reading:
    """A track that may still grow."""

    track: Track
    stream: LipStream
    num_cropped: int = 0


class LipReader:
    """Follow the tracks of a stretch of footage; afterwards `vectors` holds those of each that is long enough.

    A crop is cut once the boxes of six more frames are known, so frames must be held that much longer. Tracks that end
    before `min_track_frames` cost crops but no run of the network (unless that is set above 35).
    """

    def __init__(self, network: SyncNetwork, config: TracksConfig) -> None:
        self._network = network
        self._config = config
        self._num_met = 0
        self._readings: list[_Reading] = []
        self.vectors: dict[int, np.ndarray] = {}
        """[T - 4, D] float32 by number of the track."""

    def read(
        self, tracks: Sequence[Track], frames: Mapping[int, np.ndarray], position: int, *, last: bool = False
    ) -> None:
        """Take what the tracks have grown by.

        Args:
            tracks: all tracks so far, in the order in which they began.
            frames: [H, W, 3] uint8 RGB by index: all from `max_gap_frames + 7` before the last call's position on.
            position: the first frame that is not linked yet.
            last: no track will grow any more.
        """
        for track in tracks[self._num_met :]:
            self._readings.append(_Reading(track, LipStream(self._network)))
        self._num_met = len(tracks)
        growing = []
        for reading in self._readings:
            num_boxes = len(reading.track.boxes)
            if last or position > reading.track.end_frame + self._config.max_gap_frames:
                self._crop(reading, frames, num_boxes)
                if num_boxes >= self._config.min_track_frames:
                    self.vectors[reading.track.number] = reading.stream.finish()
            else:
                self._crop(reading, frames, num_boxes - lip_crops.REACH)
                growing.append(reading)
        self._readings = growing

    def _crop(self, reading: _Reading, frames: Mapping[int, np.ndarray], before: int) -> None:
        track = reading.track
        for index in range(reading.num_cropped, before):
            rgb = frames[track.start_frame + index]
            reading.stream.add(lip_crops.crop(rgb, *lip_crops.place(track.boxes, index)))
        reading.num_cropped = max(reading.num_cropped, before)
