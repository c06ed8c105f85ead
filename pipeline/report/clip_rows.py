"""The clips that the page shows one by one, as JSON: scores, curves, the story of the verdict, faces and films."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...manifests.dataset import Clip, Dataset
from ..score.registry import CLIP_SCHEMA
from .clip_columns import ClipColumns
from .previews import preview_path
from .samples import Margins, Sample, caption, lead_caption
from .story import tell_clip
from .sync_verdict import BEYOND
from .what_if import WhatIf

LISTED = (
    *("clip_id", "path", "start_s", "duration_s", "verdict", "reason", "value", "threshold", "clip_class", "split"),
    *("identity", "face_height_p50_px", "sharpness", "leakage", "audio_lead_frames", "sync_confidence", "speech_share"),
)
"""Columns of the page's table."""
NOT_SCORES = {*LISTED, "boxes", "landmarks", "mouth_opening", "sync_curve", "thumbnail", "failures", "source", "track"}
MAX_POINTS = 100
"""Points of a curve."""
MAX_ENVELOPES = 1000
"""Kept clips whose sound is read from their shards."""
FACE_BYTES = 5_000_000
"""Faces on the page, JPEG; those of the contact sheets come first."""
FILM_BYTES = 6_000_000
"""Films on the page."""
ROWS_AT_ONCE = 512


def clip_payload(
    dataset: Dataset, clips: ClipColumns, sample: Sample, near: Margins, what_if: WhatIf
) -> dict[str, Any]:
    """Return the rows of the table and, in the same order, what opens behind each."""
    limits = what_if.limits
    beyond = set(sample.sheets.get(BEYOND, []))
    names = [name for name in CLIP_SCHEMA.names if name != "landmarks"]
    scores = [name for name in names if name not in NOT_SCORES]
    in_sheet = {place for places in sample.sheets.values() for place in places}
    on_disk = {clip.clip_id: clip for clip in dataset.kept}
    rows, details, captions = [], [], []
    for start in range(0, len(sample.rows), ROWS_AT_ONCE):
        places = sample.rows[start : start + ROWS_AT_ONCE]
        for place, row in zip(places.tolist(), clips.rows(places, names).to_pylist(), strict=True):
            rows.append([_plain(row[name]) for name in LISTED])
            clip = on_disk.get(row["clip_id"]) if row["verdict"] == "kept" else None
            details.append(_detail(dataset, row, scores, clip if len(details) < MAX_ENVELOPES else None))
            details[-1]["story"] = list(tell_clip(row, limits))
            told = lead_caption(row) if place in beyond else caption(row, int(near.rule[place]), what_if)
            captions.append(told if place in in_sheet else None)
            details[-1]["face"] = row["thumbnail"]
    place_of = {place: number for number, place in enumerate(sample.rows.tolist())}
    sheets = {name: [place_of[place] for place in places] for name, places in sample.sheets.items()}
    _spend_faces(details, [number for numbers in sheets.values() for number in numbers])
    return {
        "columns": list(LISTED),
        "rows": rows,
        "scores": scores,
        "details": details,
        "captions": captions,
        "sheets": sheets,
        "films": _films(dataset, [on_disk[row[0]] for row in rows if row[0] in on_disk]),
    }


def _detail(dataset: Dataset, row: dict[str, Any], scores: Sequence[str], clip: Clip | None) -> dict[str, Any]:
    return {
        "scores": [_plain(row[name]) for name in scores],
        "mouth": _curve(row["mouth_opening"], 3),
        "sound": _envelope(dataset, clip) if clip else None,
        "leads": _curve(row["sync_curve"], 2),
        "box": _track(row["boxes"]),
    }


def _plain(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) and np.isfinite(value) else _word(value)


def _word(value: object) -> object:
    return None if isinstance(value, float) else value


def _curve(values: Sequence[float] | None, digits: int) -> list[float] | None:
    if not values:
        return None
    return [round(float(value), digits) for value in _thin(np.asarray(values, np.float32))]


def _thin(values: np.ndarray) -> np.ndarray:
    """Return at most `MAX_POINTS` means of equal parts of [T, ...]."""
    if len(values) <= MAX_POINTS:
        return values
    edges = np.arange(MAX_POINTS) * len(values) // MAX_POINTS
    sums = np.add.reduceat(values, edges, axis=0)
    return sums / np.diff(edges, append=len(values)).reshape(-1, *[1] * (values.ndim - 1))


def _track(boxes: Sequence[float] | None) -> dict[str, list[int]] | None:
    """Return centre and height of the face along the clip, source px."""
    if not boxes:
        return None
    x0, y0, x1, y1 = _thin(np.asarray(boxes, np.float32).reshape(-1, 4)).T
    named = {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2, "height": y1 - y0}
    return {name: np.rint(values).astype(int).tolist() for name, values in named.items()}


def _envelope(dataset: Dataset, clip: Clip) -> list[float]:
    """Return the loudness of the stored sound along the clip: RMS of each frame, full scale 1, thinned."""
    pcm = dataset.read(clip, "pcm").astype(np.float32) / 32768  # [T, 640]
    return [round(float(value), 3) for value in _thin(np.sqrt(np.mean(pcm**2, axis=1)))]


def _spend_faces(details: list[dict[str, Any]], first: list[int]) -> None:
    """Turn faces into base64 as long as the budget lasts, those of the contact sheets first."""
    spent = 0
    for number in dict.fromkeys([*first, *range(len(details))]):
        jpeg = details[number]["face"]
        spent += len(jpeg or b"")
        details[number]["face"] = base64.b64encode(jpeg).decode() if jpeg and spent <= FACE_BYTES else None


def _films(dataset: Dataset, clips: Sequence[Clip]) -> dict[str, str]:
    """Return the films that lie in `report/previews`, by clip id, as base64, as long as the budget lasts."""
    return dict(_fitting(dataset, clips))


def _fitting(dataset: Dataset, clips: Sequence[Clip]) -> Iterator[tuple[str, str]]:
    spent = 0
    for clip in clips:
        path = preview_path(dataset, clip)
        if path.is_file() and (spent := spent + path.stat().st_size) <= FILM_BYTES:
            yield clip.clip_id, base64.b64encode(path.read_bytes()).decode()
