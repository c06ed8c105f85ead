"""The funnel: how many inputs and hours went in, what each stage took away and why, and what came out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...manifests.dataset import Dataset
from ...manifests.sources.latentsync import late_sound

FILE_COLUMNS = ["outcome", "duration_s"]
CLIP_COLUMNS = ["track", "verdict", "reason", "duration_s"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What one reason took away."""

    reason: str
    number: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the funnel."""

    name: str
    unit: str
    """What is counted: files or clips."""
    number_in: int
    hours_in: float
    number_out: int
    hours_out: float
    losses: list[Loss] = field(default_factory=list)
    """The most hours first."""


def funnel(dataset: Dataset) -> list[Stage]:
    """Return the stages of a dataset: reading the files, finding faces, judging the clips."""
    files, clips = dataset.videos(FILE_COLUMNS).rename_columns(["reason", "duration_s"]), dataset.clips(CLIP_COLUMNS)
    has_face, is_kept = pc.field("track").is_valid(), pc.field("verdict") == "kept"
    faces = clips.filter(has_face)
    return [
        _stage("read", "files", files, files.filter(pc.field("reason") != "ok")),
        _stage("find faces", "stretches", clips, clips.filter(~has_face)),
        _stage("select", "clips", faces, faces.filter(~is_kept)),
    ]


def _stage(name: str, unit: str, before: pa.Table, lost: pa.Table) -> Stage:
    sums = lost.group_by("reason").aggregate([("reason", "count"), ("duration_s", "sum")]).to_pylist()
    losses = [
        Loss(reason=row["reason"], number=row["reason_count"], hours=(row["duration_s_sum"] or 0.0) / 3600)
        for row in sums
    ]
    hours_in = float(np.nansum(before["duration_s"].to_numpy())) / 3600
    return Stage(
        name=name,
        unit=unit,
        number_in=len(before),
        hours_in=hours_in,
        number_out=len(before) - len(lost),
        hours_out=hours_in - sum(loss.hours for loss in losses),
        losses=sorted(losses, key=lambda loss: (-loss.hours, -loss.number, loss.reason)),
    )


def warnings(stages: list[Stage], dataset: Dataset) -> Iterator[str]:
    """Say what a user should look at: a stage that takes more than 30 %, clips that wait to be encoded."""
    for stage in stages:
        gone = stage.number_in - stage.number_out
        if stage.number_in and gone > 0.3 * stage.number_in:
            top = max(stage.losses, key=lambda loss: loss.number)
            share = 100 * gone / stage.number_in
            setting = SETTINGS.get(top.reason)
            hint = f"; its limit is {setting}" if setting else ""
            yield f"{stage.name}: {share:.0f} % of the {stage.unit} dropped, most as {top.reason} ({top.number}){hint}"
    waiting = dataset.index["counts"]["kept"] - dataset.index["counts"]["encoded"]
    if waiting:
        how = "keep them in the dataset's own selection, then" if dataset.selection else "run the"
        yield f"{waiting} kept clips are not encoded yet; {how} build again"
    if dataset.index["source"] == "latentsync":
        rows = dataset.videos(["source", "audio_start_s"]).to_pylist()
        if late := sum(late_sound(**row) is not None for row in rows):
            yield f"{late} files: sound that timestamps begin late, which LatentSync's training ignores, is repaired"


SETTINGS = {
    "too_short": "select.min_clip_s",
    "face_gap": "tracks.max_gap_frames",
    "face_too_small": "select.min_face_px",
    "face_out_of_frame": "select.max_outside_share",
    "face_scale_change": "select.max_height_ratio",
    "multiple_faces": "select.max_faces",
    "not_annotated": "select.min_annotated",
    "pose_out_of_range": "select.max_yaw_deg",
    "low_visual_quality": "select.min_sharpness",
    "no_speech": "select.min_speech_share",
    "too_short_for_sync": "select.min_sync_speech_s",
    "low_sync_conf": "select.min_sync_confidence",
    "offset_inconsistent": "select.max_spread_frames",
    "offset_out_of_range": "select.max_lead_frames",
    "av_length_mismatch": "select.max_padded_audio_s",
    "crop_leaks": "select.max_leakage",
}
"""Reason to the setting that moves its limit."""


def as_table(stages: list[Stage]) -> list[dict[str, Any]]:
    """Return the funnel as JSON values."""
    return [
        {
            **{name: getattr(stage, name) for name in ("name", "unit", "number_in", "number_out")},
            "hours_in": round(stage.hours_in, 5),
            "hours_out": round(stage.hours_out, 5),
            "losses": [
                {"reason": loss.reason, "number": loss.number, "hours": round(loss.hours, 5)} for loss in stage.losses
            ],
        }
        for stage in stages
    ]
