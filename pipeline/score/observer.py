"""One pass over a stretch of footage in bounded memory: its cuts, its tracks, and what is seen of each face."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from ..dissolves import DissolveDetector
from ..faces import mouth, quality
from ..faces.annotated import AnnotatedFace, AnnotatedLinker
from ..faces.detect import Detections, FaceDetector, FacesConfig, detect_scaled
from ..faces.quality import FaceQuality, QualityNetwork
from ..faces.tracks import Linker, Track, TracksConfig
from ..media.costs import Costs
from ..media.decode import Frame
from ..scenes import CutDetector, ScenesConfig
from ..sync import lip_crops
from ..sync.lips import LipReader

THUMBNAIL_EVERY_FRAMES = 25


@dataclass
class TrackObservations:
    """Observations of one track, frame by frame."""

    patches: list[np.ndarray] = field(default_factory=list)
    """The mouth, one small picture a frame."""
    looks: dict[int, FaceQuality] = field(default_factory=dict)
    thumbnails: dict[int, bytes] = field(default_factory=dict)
    ratings: dict[int, float] = field(default_factory=dict)


class VideoObserver:
    """Watch frames once, in order; afterwards `cuts`, `tracks` and `evidence` say what is there.

    Only the last few frames are held: as many as a gap, a batch of windows of the detector and a flash can span. At
    1920x1080 (6.2 MB a frame) that is 90 MB for the default settings, and 310 MB with `faces.batch` 8.

    Where faces are `annotated`, those are the tracks and the detector is not asked; None: it is.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        scenes: ScenesConfig,
        faces: FacesConfig,
        tracks: TracksConfig,
        costs: Costs,
        lips: LipReader | None = None,
        annotated: Sequence[AnnotatedFace] | None = None,
        iqa: QualityNetwork | None = None,
    ) -> None:
        self._detector = detector
        self._faces = faces
        self._iqa = iqa
        self._costs = costs
        self._frames: dict[int, np.ndarray] = {}
        self._cut_detector = CutDetector(scenes)
        self._dissolve_detector = DissolveDetector()
        self._tracks = tracks
        self._annotated = annotated
        self._end_frame = 0
        self._reach_back = tracks.max_gap_frames + 1 + (lip_crops.REACH if lips else 0)
        self.lips = lips
        """Reader of the lips of each track for a sync network, where there is one."""
        self.tracks: list[Track] = []
        """All tracks, the short ones too."""
        self.evidence: dict[int, TrackObservations] = {}
        self.stale: set[int] = set()
        """Frames whose own picture was damaged: an older one is shown."""
        self.size: tuple[int, int] | None = None
        """Width and height of the picture as it decodes."""

    def watch(self, frames: Iterable[Frame], start_frame: int) -> None:
        """Take all frames; the first one has index `start_frame`."""
        self._end_frame = start_frame
        # The linker calls back, so it lives no longer than this call: as a member it would make a cycle that keeps the
        # pictures of finished videos until the garbage collector happens to run (measured: 800 MB after 240 clips).
        linker = self._make_linker()
        linker.start(start_frame)
        for frame in chain(frames, [None]):  # None: all frames were taken
            if frame is None:
                self._cut_detector.finish()
            else:
                self._take(frame)
            self._advance(linker, last=frame is None)
        self._frames.clear()
        self.tracks = linker.tracks

    @property
    def cuts(self) -> dict[int, float]:
        """First frames of shots and the content scores that say so."""
        return dict(self._cut_detector.cuts)

    @property
    def changes(self) -> list[range]:
        """Stretches where one picture dissolves into another."""
        return self._dissolve_detector.changes(self.cuts, self._tracks.max_dissolve)

    def max_cut_score(self, start_frame: int, end_frame: int) -> float:
        """Return the largest change of picture inside a stretch."""
        return self._cut_detector.max_score(start_frame, end_frame)

    def _take(self, frame: Frame) -> None:
        self.size = (frame.rgb.shape[1], frame.rgb.shape[0])
        self._frames[frame.index] = frame.rgb
        if frame.is_stale:
            self.stale.add(frame.index)
        with self._costs.stage("scenes"):
            self._cut_detector.add(frame.index, frame.rgb)
            self._dissolve_detector.add(frame.index, frame.rgb)
        self._end_frame = frame.index + 1

    def _make_linker(self) -> Linker | AnnotatedLinker:
        if self._annotated is not None:
            return AnnotatedLinker(self._annotated, self._observe)
        return Linker(self._tracks, self._faces.stride, self._detect, self._observe, self._faces.batch)

    def _advance(self, linker: Linker | AnnotatedLinker, *, last: bool = False) -> None:
        """Link as far as it is known where cuts are; with `last`, to the end."""
        before = self._end_frame if last else min(self._cut_detector.settled, self._end_frame)
        with self._costs.stage("tracks"):
            linker.advance(before, set(self.cuts), last=last)
        if self.lips is not None:
            with self._costs.stage("lips"):
                self.lips.read(linker.tracks, self._frames, linker.position, last=last)
        for index in [index for index in self._frames if index < linker.position - self._reach_back]:
            del self._frames[index]

    def _detect(self, frames: Sequence[int]) -> list[Detections]:
        with self._costs.stage("faces"):
            return detect_scaled(self._detector, [self._frames[frame] for frame in frames], self._faces)

    def _observe(self, track: Track, new: range) -> None:
        """Look at a track's face in the frames that it has just grown by."""
        seen = self.evidence.setdefault(track.number, TrackObservations())
        for frame in new:
            index = frame - track.start_frame
            rgb, box = self._frames[frame], track.boxes[index]
            with self._costs.stage("mouth"):
                seen.patches.append(mouth.measure(rgb, box, track.landmarks[index]))
            with self._costs.stage("quality"):
                self._look(seen, frame, index, rgb, box)
            if self._iqa is not None and index % THUMBNAIL_EVERY_FRAMES == 0:
                self._rate(self._iqa, seen, frame, rgb, box)

    def _look(self, seen: TrackObservations, frame: int, index: int, rgb: np.ndarray, box: np.ndarray) -> None:
        if index % self._faces.stride == 0:
            found = quality.look(rgb, box)
            if found is not None:
                seen.looks[frame] = found
        if index % THUMBNAIL_EVERY_FRAMES == 0:
            picture = quality.thumbnail(rgb, box)
            if picture is not None:
                seen.thumbnails[frame] = picture

    def _rate(self, iqa: QualityNetwork, seen: TrackObservations, frame: int, rgb: np.ndarray, box: np.ndarray) -> None:
        face = quality.cut(rgb, box, margin=quality.MARGIN)
        if face is not None:
            with self._costs.stage("iqa"):
                seen.ratings[frame] = iqa.score(face)
