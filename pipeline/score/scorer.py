"""Score: decode a stretch of one video once, in order, and measure; nothing is dropped here."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import MediaError
from ...manifests.records import FRAME_RATE, SAMPLES_PER_FRAME, Video
from ...manifests.storage import digest
from ..config import Config
from ..faces import mouth
from ..faces.annotated import AnnotatedFace
from ..media.costs import Costs
from ..media.deadline import DecodeDeadline
from ..media.decode import DecodeStats
from ..media.source_file import FileFacts
from ..media.source_reader import SourceReader
from ..networks import Networks
from ..sync import correlation, distances, speech
from ..sync.estimate import SyncEstimate
from ..sync.lips import CONTEXT_FRAMES, LipReader
from .candidates import CandidateClip, cut_clips, shots_between
from .measured_clip import MeasuredClip
from .observer import VideoObserver
from .registry import measure

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ScoreItem:
    """A stretch of one video to score."""

    video_id: str
    path: str
    source: str
    video: Video
    start_frame: int
    end_frame: int
    identity: str | None = None
    edge: str = "chunk"
    """What its ends inside the video are called: of a `chunk` of a long file, of an annotated `span`."""
    facts: FileFacts | None = None
    """Of the file when it was probed; None: whatever lies at the path is scored."""
    faces: tuple[AnnotatedFace, ...] = ()
    """What the source says of the faces; used by `faces.backend=annotated` alone."""

    @property
    def duration_s(self) -> float:
        """Length of the stretch."""
        return (self.end_frame - self.start_frame) / FRAME_RATE


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A stretch as scored: its candidate clips, and a receipt of the stretch itself."""

    rows: list[Row]
    receipt: Row


class Scorer:
    """Score stretches of video.

    Args:
        config: the settings.
        networks: those of the worker; None loads its own.
    """

    def __init__(self, config: Config, networks: Networks | None = None) -> None:
        self._config = config
        networks = networks or Networks(config)
        self._detector, self._syncnet, self._iqa = networks.detector, networks.syncnet, networks.iqa

    def score(self, item: ScoreItem, root: Path, costs: Costs, deadline: DecodeDeadline | None = None) -> Scored:
        """Score one stretch; a file that cannot be decoded is a result with a reason, not an error."""
        stats = DecodeStats()
        try:
            rows, found = self._measure(item, root / item.path, costs, deadline, stats)
        except MediaError as error:
            rows, found = [], {"outcome": error.reason, "detail": error.detail, "cuts": [], "cut_scores": []}
        receipt = {**found, "num_decoded": stats.num_decoded, "num_decode_errors": stats.num_errors}
        return Scored(rows=rows, receipt=receipt)

    def _measure(
        self, item: ScoreItem, path: Path, costs: Costs, deadline: DecodeDeadline | None, stats: DecodeStats
    ) -> tuple[list[Row], Row]:
        observer = self._make_observer(item.faces, costs)
        reader = SourceReader(
            path,
            item.video,
            self._config.decode,
            costs,
            deadline,
            stats=stats,
            video_id=item.video_id,
            facts=item.facts,
        )
        with reader.unchanged():
            with closing(reader.frames(item.start_frame, item.end_frame)) as frames:
                observer.watch(frames, item.start_frame)
            with costs.stage("audio"):
                pcm = reader.sound(item.start_frame, item.end_frame)
                voiced = speech.detect_speech(pcm, self._config.speech)
        with costs.stage("clips"):
            rows = self._rows(item, observer, pcm, voiced, costs)
        cuts = {"cuts": list(observer.cuts), "cut_scores": [round(score, 3) for score in observer.cuts.values()]}
        return rows, {"outcome": "ok", "detail": None, **cuts}

    def _make_observer(self, annotated: Sequence[AnnotatedFace], costs: Costs) -> VideoObserver:
        config = self._config
        return VideoObserver(
            self._detector,
            scenes=config.scenes,
            faces=config.faces,
            tracks=config.tracks,
            costs=costs,
            lips=None if self._syncnet is None else LipReader(self._syncnet, config.tracks),
            annotated=annotated if config.faces.backend == "annotated" else None,
            iqa=self._iqa,
        )

    def _rows(
        self, item: ScoreItem, observer: VideoObserver, pcm: np.ndarray, voiced: np.ndarray, costs: Costs
    ) -> list[Row]:
        config = self._config
        shots = shots_between(
            item.start_frame,
            item.end_frame,
            list(observer.cuts),
            start_kind=item.edge if item.start_frame else "start",
            end_kind="end" if item.end_frame >= item.video.num_frames else item.edge,
        )
        pieces = cut_clips(
            shots,
            observer.tracks,
            config.tracks,
            config.scenes.guard_frames,
            observer.changes,
            min_half_s=config.min_half_s,
        )
        openings = {
            number: mouth.opening(np.stack(seen.patches))
            for number, seen in observer.evidence.items()
            if len(seen.patches) >= config.tracks.min_track_frames
        }
        return [self._row(item, piece, observer, openings, pcm, voiced, costs) for piece in pieces]

    def _row(
        self,
        item: ScoreItem,
        piece: CandidateClip,
        observer: VideoObserver,
        openings: dict[int, np.ndarray],
        pcm: np.ndarray,
        voiced: np.ndarray,
        costs: Costs,
    ) -> Row:
        row = place(item, piece)
        if piece.track is None or observer.size is None:
            return row
        first, track = piece.start_frame - item.start_frame, piece.track
        heard = pcm[first * SAMPLES_PER_FRAME : (first + piece.num_frames) * SAMPLES_PER_FRAME]
        opening = openings[track.number][piece.start_frame - track.start_frame : piece.end_frame - track.start_frame]
        spoken = voiced[first : first + piece.num_frames]
        with costs.stage("sync"):
            found = self._estimate_sync(piece, observer.lips, opening, heard, spoken)
        clip = MeasuredClip(
            video=item.video,
            piece=piece,
            track=track,
            tracks=observer.tracks,
            seen=observer.evidence[track.number],
            size=observer.size,
            opening=opening,
            pcm=heard,
            voiced=spoken,
            sync=found,
            max_cut_score=observer.max_cut_score(piece.start_frame, piece.end_frame),
            num_stale=sum(frame in observer.stale for frame in range(piece.start_frame, piece.end_frame)),
            stride=self._config.faces.stride,
            crop=self._config.crop,
        )
        return row | measure(clip)

    def _estimate_sync(
        self, piece: CandidateClip, lips: LipReader | None, opening: np.ndarray, heard: np.ndarray, voiced: np.ndarray
    ) -> SyncEstimate:
        if self._syncnet is None or lips is None or piece.track is None:
            return correlation.estimate(opening, heard, self._config.sync)
        first, last = (frame - piece.track.start_frame for frame in (piece.start_frame, piece.end_frame))
        seen = lips.vectors[piece.track.number][first : max(first, last - CONTEXT_FRAMES)]
        return distances.estimate(seen, self._syncnet.embed_sound(heard), voiced, self._config.sync)


def place(item: ScoreItem, piece: CandidateClip) -> Row:
    """Return the columns that say what a clip is and where it lies."""
    track = None if piece.track is None else piece.track.number
    return {
        "clip_id": digest("clip", item.video_id, piece.start_frame, piece.num_frames, track, *_boxes_of(item))[:20],
        "video_id": item.video_id,
        "path": item.path,
        "source": item.source,
        "identity": item.identity,
        "track": track,
        "start_frame": piece.start_frame,
        "num_frames": piece.num_frames,
        "start_s": piece.start_frame / FRAME_RATE,
        "duration_s": piece.num_frames / FRAME_RATE,
        "start_kind": piece.start_kind,
        "end_kind": piece.end_kind,
        "width": item.video.width,
        "height": item.video.height,
    }


def _boxes_of(item: ScoreItem) -> list[str]:
    """Return a hash of the annotated boxes: with other boxes it is another clip, though the file is the same."""
    return [digest([(face.start_frame, face.boxes.tobytes().hex()) for face in item.faces])] if item.faces else []
