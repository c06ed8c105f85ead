"""The funnel: how many inputs and hours went in, what each stage took away and why, and what came out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...manifests.dataset import Dataset

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
    videos, clips = dataset.videos(FILE_COLUMNS), dataset.clips(CLIP_COLUMNS)
    has_face, is_kept = clips["track"].is_valid(), pc.equal(clips["verdict"], "kept")
    found = pc.if_else(has_face, "ok", clips["reason"])
    judged = pc.if_else(is_kept, "ok", clips["reason"])
    return [
        _stage("read", "files", videos["outcome"], videos["duration_s"]),
        _stage("find faces", "stretches", found, clips["duration_s"]),
        _stage("select", "clips", judged.filter(has_face), clips["duration_s"].filter(has_face)),
    ]


def _stage(name: str, unit: str, outcomes: pa.ChunkedArray, seconds: pa.ChunkedArray) -> Stage:
    table = pa.table({"outcome": outcomes, "hours": pc.divide(seconds.fill_null(0.0), 3600.0)})
    sums = table.group_by("outcome").aggregate([("hours", "count"), ("hours", "sum")]).to_pylist()
    losses = [
        Loss(reason=row["outcome"], number=row["hours_count"], hours=row["hours_sum"])
        for row in sums
        if row["outcome"] != "ok"
    ]
    kept = next((row for row in sums if row["outcome"] == "ok"), {"hours_count": 0, "hours_sum": 0.0})
    return Stage(
        name=name,
        unit=unit,
        number_in=len(table),
        hours_in=sum(row["hours_sum"] for row in sums),
        number_out=kept["hours_count"],
        hours_out=kept["hours_sum"],
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
        yield f"{waiting} kept clips are not encoded yet; run the build again"


SETTINGS = {
    "too_short": "select.min_clip_s",
    "face_gap": "tracks.max_gap_frames",
    "face_too_small": "select.min_face_px",
    "face_out_of_frame": "select.max_outside_share",
    "face_scale_change": "select.max_height_ratio",
    "multiple_faces": "select.max_faces",
    "pose_out_of_range": "select.max_yaw_deg",
    "low_visual_quality": "select.min_sharpness",
    "no_speech": "select.min_speech_share",
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
