"""What is measured of one candidate clip: the rows of the score table, column by column."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...manifests.records import FRAME_RATE, Video
from ...manifests.schema import CROP_POLICIES
from .. import crop, leakage
from ..config import Config
from ..faces import quality
from ..faces.tracks import Track
from ..sync import speech
from ..sync.estimate import SyncEstimate
from .candidates import CandidateClip
from .observer import TrackObservations

SIMILAR_HEIGHT = 0.5
"""A person whose face is at least this share of another's height may be the speaker too."""
SHARED_TIME = 0.5
"""People who are seen together for this share of a clip are in it together."""
Row = dict[str, Any]


def measure_face(
    piece: CandidateClip, tracks: Sequence[Track], size: tuple[int, int], opening: np.ndarray, config: Config
) -> Row:
    """Measure where the face is, how large, how it turns, and what each crop policy would make of it.

    Args:
        piece: a clip with a track.
        tracks: all tracks of the footage.
        size: width and height of the picture.
        opening: [T] mouth opening.
        config: the settings.
    """
    track, local = _track(piece)
    boxes = np.stack(track.boxes[local])
    points = [point for point in track.landmarks[local] if point is not None]
    landmarks = np.stack(points) if len(points) == len(boxes) else None
    heights = boxes[:, 3] - boxes[:, 1]
    low, middle, high = np.percentile(heights, (5, 50, 95))
    row: Row = {
        "boxes": boxes.reshape(-1),
        "landmarks": None if landmarks is None else landmarks.reshape(-1),
        "mouth_opening": opening,
        "mouth_activity": float(np.std(opening)),
        # Frames between two key frames are not looked at, and not being detected there says nothing.
        "detected_share": min(1.0, float(np.mean(track.detected[local])) * config.faces.stride),
        "face_height_p5_px": float(low),
        "face_height_p50_px": float(middle),
        "face_height_p95_px": float(high),
        "height_ratio": crop.height_ratio(boxes),
        "num_faces": count_faces(piece, tracks, float(middle)),
    }
    if landmarks is not None:
        row |= measure_pose(landmarks[:: config.faces.stride], size)
    return row | measure_crops(boxes, landmarks, size, opening, config)


def measure_pose(landmarks: np.ndarray, size: tuple[int, int]) -> Row:
    """Return the 95th percentile of the head's turn and nod over landmarks [N, 5, 2]."""
    poses = [pose for pose in (quality.head_pose(points, *size) for points in landmarks) if pose is not None]
    if not poses:
        return {}
    yaw, pitch = np.percentile(np.abs(np.array(poses)), 95, axis=0)
    return {"yaw_p95_deg": float(yaw), "pitch_p95_deg": float(pitch)}


def measure_crops(
    boxes: np.ndarray, landmarks: np.ndarray | None, size: tuple[int, int], opening: np.ndarray, config: Config
) -> Row:
    """Return leakage, jitter and share outside the picture under every crop policy."""
    row: Row = {}
    for policy in CROP_POLICIES:
        if policy != "eyes" or landmarks is not None:
            crops = crop.crop_boxes(boxes, landmarks, replace(config.crop, policy=policy))
            row[f"outside_share_{policy}"] = crop.outside_share(crops, *size)
            row[f"crop_jitter_{policy}"] = crop.jitter(crops)
            score = leakage.leakage(crops, landmarks, boxes, opening).score
            row[f"leakage_{policy}"] = None if np.isnan(score) else score
    return row


def count_faces(piece: CandidateClip, tracks: Sequence[Track], height_px: float) -> int:
    """Return how many people of similar size are seen during a clip, its own face included."""
    own, _ = _track(piece)
    people = 1
    for other in tracks:
        shared = min(piece.end_frame, other.end_frame) - max(piece.start_frame, other.start_frame)
        if other is own or shared < SHARED_TIME * piece.num_frames:
            continue
        boxes = np.stack(other.boxes)
        people += bool(np.median(boxes[:, 3] - boxes[:, 1]) >= SIMILAR_HEIGHT * height_px)
    return people


def measure_picture(piece: CandidateClip, seen: TrackObservations) -> Row:
    """Return sharpness, light, motion and rating of the face, and its thumbnail nearest to the middle of the clip."""
    _, local = _track(piece)
    looks = [look for frame, look in seen.looks.items() if piece.start_frame <= frame < piece.end_frame]
    middle = (piece.start_frame + piece.end_frame) // 2
    ratings = [rating for frame, rating in seen.ratings.items() if piece.start_frame <= frame < piece.end_frame]
    nearest = min(seen.thumbnails, key=lambda frame: abs(frame - middle), default=None)
    patches = np.stack(seen.patches[local]).astype(np.float32)
    row: Row = {
        "motion": float(np.abs(np.diff(patches, axis=0)).mean()) if len(patches) > 1 else 0.0,
        "iqa": float(np.median(ratings)) if ratings else None,
        "thumbnail": None if nearest is None else seen.thumbnails[nearest],
    }
    if looks:
        names = ("sharpness", "brightness", "contrast")
        row |= {name: float(np.median([getattr(look, name) for look in looks])) for name in names}
    return row


def measure_sound(video: Video, piece: CandidateClip, pcm: np.ndarray, voiced: np.ndarray) -> Row:
    """Return speech share and level of the clip's samples, and how much of it the audio stream does not cover."""
    start_s, end_s = piece.start_frame / FRAME_RATE, piece.end_frame / FRAME_RATE
    audio_end_s = float(video.audio_start_s + video.audio_duration_s)
    covered = max(0.0, min(end_s, audio_end_s) - max(start_s, float(video.audio_start_s)))
    return {
        "speech_share": float(voiced.mean()),
        "loudness_db": float(speech.loudness_db(pcm[None])[0]),
        "padded_audio_s": end_s - start_s - covered,
    }


def measure_sync(found: SyncEstimate) -> Row:
    """Return the audio lead of a clip, positive where the sound is early, and how far to trust it.

    Lead and confidence are null where a network found too little speech to measure them.
    """
    row: Row = {
        "sync_speech_s": found.speech_s,
        "sync_spread_frames": found.spread_frames,
        "sync_curve": found.curve,
        "sync_trust": found.trust,
        "lse_c": found.lse_c,
        "lse_d": found.lse_d,
    }
    if found.speech_s == 0:
        return row
    return row | {
        "audio_lead_frames": found.audio_lead_frames,
        "audio_lead_ms": found.audio_lead_frames * 1000 / FRAME_RATE,
        "sync_confidence": found.confidence,
    }


def _track(piece: CandidateClip) -> tuple[Track, slice]:
    """Return a clip's track and the stretch of it that the clip is."""
    assert piece.track is not None
    first = piece.track.start_frame
    return piece.track, slice(piece.start_frame - first, piece.end_frame - first)
