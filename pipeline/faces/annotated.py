"""Annotated faces: boxes that a source gives, followed as tracks where no detector is to look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .detect import Detections
from .tracks import Track, iou

SAME_FACE_IOU = 0.5
"""Two spans whose boxes share more than this are one face, annotated twice."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedFace:
    """One face, frame by frame, as a source says."""

    start_frame: int
    boxes: np.ndarray
    """[T, 4] float32 x0, y0, x1, y1 in px of the file, one a frame of the 25 fps grid."""

    def at(self, frame: int) -> np.ndarray | None:
        """Return the box [4] in a frame, or None outside the annotated stretch."""
        index = frame - self.start_frame
        return self.boxes[index] if 0 <= index < len(self.boxes) else None


class AnnotatedLinker:
    """Make a track of each annotated face and shot; stands where a `Linker` stands, and never looks at a picture.

    Args:
        faces: of the footage; where two are the same, the first counts.
        extended: called with a track and the range of frames that it has just grown by.
    """

    def __init__(self, faces: Sequence[AnnotatedFace], extended: Callable[[Track, range], None]) -> None:
        self._faces = faces
        self._extended = extended
        self._growing: dict[int, Track] = {}
        self.position = 0
        """The first frame that is not linked yet."""
        self.tracks: list[Track] = []

    def start(self, frame: int) -> None:
        """Begin at this frame."""
        self.position = frame

    def advance(self, before: int, cuts: set[int], *, last: bool = False) -> None:
        """Link all frames before this one; a cut ends every track, for what comes after it may be somebody else."""
        for frame in range(self.position, before):
            if frame in cuts:
                self._growing.clear()
            self._step(frame)
        self.position = max(self.position, before)

    def _step(self, frame: int) -> None:
        seen: list[np.ndarray] = []
        for index, face in enumerate(self._faces):
            box = face.at(frame)
            if box is None or (seen and iou(box[None], np.stack(seen)).max() > SAME_FACE_IOU):
                self._growing.pop(index, None)
            else:
                seen.append(box)
                self._extend(index, frame, box)

    def _extend(self, index: int, frame: int, box: np.ndarray) -> None:
        if index not in self._growing:
            self._growing[index] = Track(number=len(self.tracks), start_frame=frame)
            self.tracks.append(self._growing[index])
        track = self._growing[index]
        track.boxes.append(box)
        track.landmarks.append(None)
        track.detected.append(True)
        track.scores.append(np.nan)
        self._extended(track, range(frame, frame + 1))


class NoDetector:
    """Detector that `faces.backend=annotated` loads: it finds nothing, as boxes come from the source."""

    has_landmarks = False

    def detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        """Return no face for each picture."""
        none = Detections(boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), landmarks=None)
        return [none] * len(pictures)
