"""Score: decode a stretch of one video once, in order, and measure; nothing is dropped here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..manifests.errors import MediaError
from ..manifests.records import FRAME_RATE, SAMPLES_PER_FRAME, Video
from ..manifests.schema import CROP_POLICIES
from ..manifests.storage import digest
from . import crop, leakage, mouth, quality, speech, sync
from .clips import Piece, cut_clips, shots_between
from .config import Config
from .costs import Costs
from .faces import FaceDetector
from .footage import Evidence, Footage
from .media import audio, decode
from .media.deadline import DecodeDeadline
from .media.decode import DecodeStats
from .models import make_detector

SIMILAR_HEIGHT = 0.5
"""A person whose face is at least this share of another's height may be the speaker too."""
SHARED_TIME = 0.5
"""People who are seen together for this share of a clip are in it together."""
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

    @property
    def item_id(self) -> str:
        """Identity of the stretch: its content and place, not its name."""
        return f"{self.video_id}-{self.start_frame}"

    @property
    def duration_s(self) -> float:
        """Length of the stretch."""
        return (self.end_frame - self.start_frame) / FRAME_RATE


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What scoring found: candidate clips, and what is to be known of the stretch itself."""

    rows: list[Row]
    receipt: Row


class Scorer:
    """Score stretches of video; holds the models, so make one per worker."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._detector: FaceDetector = make_detector(config.faces, config.models)

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
        config, span = self._config, {"start_frame": item.start_frame, "end_frame": item.end_frame}
        footage = Footage(
            self._detector,
            scenes=config.scenes,
            faces=config.faces,
            tracks=config.tracks,
            quality=config.quality,
            costs=costs,
        )
        frames = decode.frames(path, item.video, **span, config=config.decode, deadline=deadline, stats=stats)
        footage.watch(frames, item.start_frame)
        with costs.stage("audio"):
            pcm = audio.read(path, item.video, **span, deadline=deadline)
            voiced = speech.detect_speech(pcm, config.speech)
        with costs.stage("clips"):
            rows = self._rows(item, footage, pcm, voiced, costs)
        cuts = {"cuts": list(footage.cuts), "cut_scores": [round(score, 3) for score in footage.cuts.values()]}
        return rows, {"outcome": "ok", "detail": None, **cuts}

    def _rows(self, item: ScoreItem, footage: Footage, pcm: np.ndarray, voiced: np.ndarray, costs: Costs) -> list[Row]:
        config = self._config
        shots = shots_between(
            item.start_frame,
            item.end_frame,
            list(footage.cuts),
            starts_at="chunk" if item.start_frame else "start",
            ends_at="end" if item.end_frame >= item.video.num_frames else "chunk",
        )
        pieces = cut_clips(shots, footage.tracks, config.tracks, config.scenes.guard_frames)
        openings = {
            number: mouth.opening(np.stack(seen.patches))
            for number, seen in footage.evidence.items()
            if len(seen.patches) >= config.tracks.min_track_frames
        }
        rows = []
        for piece in pieces:
            row = _place(item, piece)
            if piece.track is not None and footage.size is not None:
                first = piece.start_frame - item.start_frame
                heard = pcm[first * SAMPLES_PER_FRAME : (first + piece.num_frames) * SAMPLES_PER_FRAME]
                local = slice(piece.start_frame - piece.track.start_frame, piece.end_frame - piece.track.start_frame)
                opening = openings[piece.track.number][local]
                row |= _measure_faces(piece, pieces, footage.size, opening, config)
                row |= _measure_picture(piece, footage.evidence[piece.track.number], local)
                row |= _measure_sound(item.video, piece, heard, voiced[first : first + piece.num_frames])
                with costs.stage("sync"):
                    row |= _measure_sync(opening, heard, config)
                row["max_cut_score"] = footage.max_cut_score(piece.start_frame, piece.end_frame)
            rows.append(row)
        return rows


def _place(item: ScoreItem, piece: Piece) -> Row:
    track = None if piece.track is None else piece.track.number
    return {
        "clip_id": digest("clip", item.video_id, piece.start_frame, piece.num_frames, track)[:20],
        "video_id": item.video_id,
        "path": item.path,
        "source": item.source,
        "identity": item.identity,
        "track": track,
        "start_frame": piece.start_frame,
        "num_frames": piece.num_frames,
        "start_s": piece.start_frame / FRAME_RATE,
        "duration_s": piece.num_frames / FRAME_RATE,
        "starts_at": piece.starts_at,
        "ends_at": piece.ends_at,
        "width": item.video.width,
        "height": item.video.height,
    }


def _measure_faces(
    piece: Piece, pieces: Sequence[Piece], size: tuple[int, int], opening: np.ndarray, config: Config
) -> Row:
    assert piece.track is not None
    local = slice(piece.start_frame - piece.track.start_frame, piece.end_frame - piece.track.start_frame)
    boxes = np.stack(piece.track.boxes[local])
    points = piece.track.landmarks[local]
    landmarks = None if any(p is None for p in points) else np.stack([p for p in points if p is not None])
    heights = boxes[:, 3] - boxes[:, 1]
    low, middle, high = np.percentile(heights, (5, 50, 95))
    row: Row = {
        "boxes": boxes.reshape(-1),
        "landmarks": None if landmarks is None else landmarks.reshape(-1),
        "mouth_opening": opening,
        "mouth_activity": float(np.std(opening)),
        "detected_share": float(np.mean(piece.track.detected[local])),
        "face_height_p5_px": float(low),
        "face_height_p50_px": float(middle),
        "face_height_p95_px": float(high),
        "height_ratio": float(heights.max() / heights.min()),
        "num_faces": _count_faces(piece, pieces, float(middle)),
    }
    if landmarks is not None:
        poses = [pose for pose in (quality.head_pose(p, *size) for p in landmarks[:: config.faces.stride]) if pose]
        if poses:
            yaw, pitch = np.percentile(np.abs(np.array(poses)), 95, axis=0)
            row |= {"yaw_p95_deg": float(yaw), "pitch_p95_deg": float(pitch)}
    for policy in CROP_POLICIES:
        if policy != "eyes" or landmarks is not None:
            crops = crop.crop_boxes(boxes, landmarks, replace(config.crop, policy=policy))
            row[f"outside_share_{policy}"] = crop.outside_share(crops, *size)
            row[f"crop_jitter_{policy}"] = crop.jitter(crops)
            row[f"leakage_{policy}"] = leakage.leakage(crops, landmarks, boxes, opening).score
    return row


def _count_faces(piece: Piece, pieces: Sequence[Piece], height: float) -> int:
    assert piece.track is not None
    people = {piece.track.number}
    for other in pieces:
        if other.track is None or other.track.number in people:
            continue
        shared = min(piece.end_frame, other.end_frame) - max(piece.start_frame, other.start_frame)
        boxes = np.stack(other.track.boxes)
        similar = np.median(boxes[:, 3] - boxes[:, 1]) >= SIMILAR_HEIGHT * height
        if shared >= SHARED_TIME * piece.num_frames and similar:
            people.add(other.track.number)
    return len(people)


def _measure_picture(piece: Piece, seen: Evidence, local: slice) -> Row:
    looks = [look for frame, look in seen.looks.items() if piece.start_frame <= frame < piece.end_frame]
    middle = (piece.start_frame + piece.end_frame) // 2
    nearest = min(seen.thumbnails, key=lambda frame: abs(frame - middle), default=None)
    patches = np.stack(seen.patches[local]).astype(np.float32)
    row: Row = {
        "motion": float(np.abs(np.diff(patches, axis=0)).mean()) if len(patches) > 1 else 0.0,
        "thumbnail": None if nearest is None else seen.thumbnails[nearest],
    }
    for name in ("sharpness", "brightness", "contrast"):
        if looks:
            row[name] = float(np.median([getattr(look, name) for look in looks]))
    return row


def _measure_sound(video: Video, piece: Piece, pcm: np.ndarray, voiced: np.ndarray) -> Row:
    start_s, end_s = piece.start_frame / FRAME_RATE, piece.end_frame / FRAME_RATE
    audio_end_s = float(video.audio_start_s + video.audio_duration_s)
    covered = max(0.0, min(end_s, audio_end_s) - max(start_s, float(video.audio_start_s)))
    return {
        "speech_share": float(voiced.mean()),
        "loudness_db": float(speech.loudness_db(pcm[None])[0]),
        "padded_audio_s": end_s - start_s - covered,
    }


def _measure_sync(opening: np.ndarray, pcm: np.ndarray, config: Config) -> Row:
    found = sync.estimate(opening, pcm, config.sync)
    return {
        "audio_lead_frames": found.lead_frames,
        "audio_lead_ms": found.lead_frames * 1000 / FRAME_RATE,
        "sync_confidence": found.confidence,
        "sync_spread_frames": found.spread_frames,
        "sync_curve": found.curve,
        "sync_trust": found.trust,
    }
