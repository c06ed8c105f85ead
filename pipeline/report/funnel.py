"""The funnel: how many inputs and hours went in, what each stage took away and why, and what came out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ...manifests.dataset import Dataset

FILE_COLUMNS = ["path", "outcome", "duration_s", "num_clips"]
CLIP_COLUMNS = ["clip_id", "track", "verdict", "reason", "duration_s", "clip_class", "shard"]


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
    files = [(row["outcome"], row["duration_s"] or 0.0) for row in videos.to_pylist()]
    rows = clips.to_pylist()
    found = [("ok" if row["track"] is not None else row["reason"], row["duration_s"]) for row in rows]
    judged = [
        ("ok" if row["verdict"] == "kept" else row["reason"], row["duration_s"])
        for row in rows
        if row["track"] is not None
    ]
    return [_stage("read", "files", files), _stage("find faces", "stretches", found), _stage("select", "clips", judged)]


def _stage(name: str, unit: str, outcomes: list[tuple[str, float]]) -> Stage:
    lost: dict[str, list[float]] = {}
    for outcome, seconds in outcomes:
        if outcome != "ok":
            lost.setdefault(outcome, []).append(seconds)
    losses = [Loss(reason=reason, number=len(times), hours=sum(times) / 3600) for reason, times in lost.items()]
    gone = sum(loss.number for loss in losses)
    hours = sum(seconds for _, seconds in outcomes) / 3600
    return Stage(
        name=name,
        unit=unit,
        number_in=len(outcomes),
        hours_in=hours,
        number_out=len(outcomes) - gone,
        hours_out=hours - sum(loss.hours for loss in losses),
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


def examples(dataset: Dataset, most: int) -> dict[str, list[dict[str, Any]]]:
    """Return up to `most` clips per reason (and of `kept`), those nearest to the limit first, with their thumbnails."""
    names = ["clip_id", "path", "start_s", "duration_s", "verdict", "reason", "value", "threshold", "thumbnail"]
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in dataset.clips(names).to_batches():
        for row in pa.Table.from_batches([batch]).to_pylist():
            if row["thumbnail"] is not None:
                found.setdefault(row["reason"] or row["verdict"], []).append(row)
        found = {reason: sorted(rows, key=_distance)[:most] for reason, rows in found.items()}
    return dict(sorted(found.items()))


def _distance(row: dict[str, Any]) -> tuple[float, str]:
    if row["value"] is None or row["threshold"] is None:
        return 0.0, row["clip_id"]
    return abs(abs(row["value"]) - row["threshold"]) / max(abs(row["threshold"]), 1e-9), row["clip_id"]
