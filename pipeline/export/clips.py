"""Kept clips of a dataset on their way out: where they come from, and the facts that go with each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...manifests.dataset import Clip, Dataset
from ...manifests.errors import DatasetError
from ...manifests.records import FRAME_RATE, SAMPLE_RATE_HZ

CLIP_ID = re.compile(r"[0-9A-Za-z]{8,64}")
"""File names are made of it."""
SPLITS = ("train", "val", "test")
FACTS = (
    *("clip_id", "video_id", "path", "source", "identity", "youtube_id", "annotation", "transcript", "language"),
    *("split", "official_split", "clip_class", "start_s", "duration_s", "num_frames", "crop_policy", "leakage"),
    *("audio_lead_frames", "audio_shift_samples", "residual_lead_ms", "sync_confidence", "sync_trust"),
    *("speech_share", "yaw_p95_deg", "pitch_p95_deg", "sharpness"),
)
"""Columns of `clips.parquet` that go with each clip."""


@dataclass(frozen=True, kw_only=True)
class ExportClip:
    """A kept clip on its way out."""

    clip_id: str
    video_id: str
    """sha256 of the source file."""
    path: str
    """Path of the source file, below the source folder."""
    split: str
    start_frame: int
    """25 fps, from the first frame of the source file."""
    stored: Clip
    """As a dataset reads it."""
    facts: Mapping[str, Any]
    """Columns of the clip table that go with it, JSON values."""


def kept_clips(dataset: Dataset) -> list[ExportClip]:
    """Return the kept clips by id, which is a hash: neighbours have nothing to do with each other.

    Raises:
        DatasetError: there is none, or an id that is not one of ours.
    """
    kept = {clip.clip_id: clip for clip in dataset.kept}
    rows = dataset.clips([*FACTS, "start_frame"]).to_pylist()
    clips = [_clip(row, kept[row["clip_id"]]) for row in rows if row["clip_id"] in kept]
    if not clips:
        raise DatasetError(f"{dataset.path}: no kept clip is encoded; see `hs-data report`, or build again")
    return sorted(clips, key=lambda clip: clip.clip_id)


def _clip(row: Mapping[str, Any], stored: Clip) -> ExportClip:
    if not CLIP_ID.fullmatch(row["clip_id"]) or row["split"] not in SPLITS:
        what = f"{row['clip_id']!r} in {row['split']!r} is no clip of a split"
        raise DatasetError(f"clips.parquet: {what}; run `hs-data verify`, or build again")
    facts = {name: round(row[name], 6) if isinstance(row[name], float) else row[name] for name in FACTS}
    facts |= {"frame_rate": FRAME_RATE, "sample_rate_hz": SAMPLE_RATE_HZ}
    return ExportClip(
        **{name: row[name] for name in ("clip_id", "video_id", "path", "split", "start_frame")},
        stored=stored,
        facts=facts,
    )
