"""The clips that the page shows one by one, as JSON: scores, curves, the story of the verdict, faces and films."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...manifests.dataset import Clip, Dataset
from ..score.registry import CLIP_SCHEMA
from ..select import SelectConfig
from .clip_columns import ClipColumns
from .previews import preview_path
from .rows import ClipRow
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


@dataclass(frozen=True, kw_only=True)
class BoxTrack:
    """Centre and height of the face along a clip, source px."""

    x: Sequence[int]
    y: Sequence[int]
    height: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class ClipDetail:
    """All that opens behind a row; a curve has at most `MAX_POINTS` points, and is None where it was not measured."""

    scores: Sequence[object]
    """In the order of `ClipPayload.scores`."""
    mouth: Sequence[float] | None
    sound: Sequence[float] | None
    leads: Sequence[float] | None
    box: BoxTrack | None
    story: Sequence[str]
    face: str | None = None
    """JPEG as base64; None where there is none, or where the page holds enough of them."""


@dataclass(frozen=True, kw_only=True)
class ClipPayload:
    """Clips of the page; `rows`, `details` and `captions` are in one order, and `sheets` holds indices into it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    scores: Sequence[str]
    details: Sequence[ClipDetail]
    captions: Sequence[str | None]
    """None for a clip that stands in no sheet."""
    sheets: Mapping[str, Sequence[int]]
    films: Mapping[str, str]
    """Clip id to MP4 as base64."""


def clip_payload(dataset: Dataset, clips: ClipColumns, sample: Sample, near: Margins, what_if: WhatIf) -> ClipPayload:
    """Return the rows of the table and, in the same order, what opens behind each."""
    beyond = set(sample.sheets.get(BEYOND, []))
    names = [name for name in CLIP_SCHEMA.names if name != "landmarks"]
    scores = [name for name in names if name not in NOT_SCORES]
    in_sheet = {index for indices in sample.sheets.values() for index in indices}
    on_disk = {clip.clip_id: clip for clip in dataset.kept}
    rows, details, captions, jpegs = [], [], [], []
    for index, row in _rows(clips, sample, names):
        clip = on_disk.get(row["clip_id"]) if row["verdict"] == "kept" else None
        sound = _envelope(dataset, clip) if clip and len(rows) < MAX_ENVELOPES else None
        rows.append([_plain(row[name]) for name in LISTED])
        details.append(_detail(row, scores, sound, what_if.limits))
        told = lead_caption(row) if index in beyond else caption(row, int(near.rule[index]), what_if)
        captions.append(told if index in in_sheet else None)
        jpegs.append(row["thumbnail"])
    number_of = {index: number for number, index in enumerate(sample.rows.tolist())}
    sheets = {name: [number_of[index] for index in indices] for name, indices in sample.sheets.items()}
    faces = _faces(jpegs, [number for numbers in sheets.values() for number in numbers])
    return ClipPayload(
        columns=LISTED,
        rows=rows,
        scores=scores,
        details=[replace(detail, face=face) for detail, face in zip(details, faces, strict=True)],
        captions=captions,
        sheets=sheets,
        films=_films(dataset, [on_disk[row[0]] for row in rows if row[0] in on_disk]),
    )


def _rows(clips: ClipColumns, sample: Sample, names: list[str]) -> Iterator[tuple[int, ClipRow]]:
    """Yield the rows of the table with their indices, read a few at once: some columns are bulky."""
    for start in range(0, len(sample.rows), ROWS_AT_ONCE):
        indices = sample.rows[start : start + ROWS_AT_ONCE]
        yield from zip(indices.tolist(), clips.rows(indices, names).to_pylist(), strict=True)


def _detail(row: ClipRow, scores: Sequence[str], sound: list[float] | None, limits: SelectConfig) -> ClipDetail:
    return ClipDetail(
        scores=[_plain(row[name]) for name in scores],
        mouth=_curve(row["mouth_opening"], 3),
        sound=sound,
        leads=_curve(row["sync_curve"], 2),
        box=_track(row["boxes"]),
        story=list(tell_clip(row, limits)),
    )


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


def _track(boxes: Sequence[float] | None) -> BoxTrack | None:
    if not boxes:
        return None
    x0, y0, x1, y1 = _thin(np.asarray(boxes, np.float32).reshape(-1, 4)).T
    x, y, height = (np.rint(values).astype(int).tolist() for values in ((x0 + x1) / 2, (y0 + y1) / 2, y1 - y0))
    return BoxTrack(x=x, y=y, height=height)


def _envelope(dataset: Dataset, clip: Clip) -> list[float]:
    """Return the loudness of the stored sound along the clip: RMS of each frame, full scale 1, thinned."""
    pcm = dataset.read(clip, "pcm").astype(np.float32) / 32768  # [T, 640]
    return [round(float(value), 3) for value in _thin(np.sqrt(np.mean(pcm**2, axis=1)))]


def _faces(jpegs: Sequence[bytes | None], first: Sequence[int]) -> list[str | None]:
    """Return faces as base64 as long as the budget lasts, those of the contact sheets first."""
    faces: list[str | None] = [None] * len(jpegs)
    spent = 0
    for number in dict.fromkeys([*first, *range(len(jpegs))]):
        jpeg = jpegs[number]
        spent += len(jpeg or b"")
        if jpeg and spent <= FACE_BYTES:
            faces[number] = base64.b64encode(jpeg).decode()
    return faces


def _films(dataset: Dataset, clips: Sequence[Clip]) -> dict[str, str]:
    """Return the films that lie in `report/previews`, by clip id, as base64, as long as the budget lasts."""
    return dict(_fitting(dataset, clips))


def _fitting(dataset: Dataset, clips: Sequence[Clip]) -> Iterator[tuple[str, str]]:
    spent = 0
    for clip in clips:
        path = preview_path(dataset, clip)
        if path.is_file() and (spent := spent + path.stat().st_size) <= FILM_BYTES:
            yield clip.clip_id, base64.b64encode(path.read_bytes()).decode()
