"""Spans: what a source annotates of a file, as stretches of 25 fps frames to score and as columns of the clips."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import pyarrow as pa

from ...manifests.records import FRAME_RATE, Video, unpack
from ...manifests.sources.annotations import Span
from .boxes import Item, pack_boxes, place_boxes
from .claims import Claim, find_claims

Annotation = dict[str, Any]
"""`name`, `identity`, `transcript`, `language`, `start_frame`, `end_frame`, and in px of the file `box` and `boxes` of
the single frames, or None."""
WHOLE_SHARE = 0.9
"""A clip that covers this much of an annotated stretch has its whole transcript; guard frames are left out of it."""
COLUMNS = ("annotation", "transcript", "language", "annotated_faces")
NO_BOX = "faces.backend=annotated needs one, every other backend finds faces itself"


def pack_span(span: Span) -> Item:
    """Turn a span into JSON values; exact times stay exact, as `"numerator/denominator"`."""
    names = ("name", "where", "identity", "transcript", "language")
    packed: Item = {name: getattr(span, name) for name in names}
    packed |= {"start_s": str(span.start_s), "end_s": None if span.end_s is None else str(span.end_s)}
    return packed | pack_boxes(span)


def frame_at(time_s: Fraction) -> int:
    """Return the first frame that shows what is on screen at a time or later: its slot's middle is not before it."""
    return math.ceil(time_s * FRAME_RATE - Fraction(1, 2))


def place_spans(receipt: Item, spans: Sequence[Item], *, check_boxes: bool, need_boxes: bool = False) -> Item:
    """Add to a probe's receipt which stretches of the file its source annotates.

    A span behind the end of the file, or whose box was made for a picture of another shape, is left out and told in
    `note`; when none is left, the file's outcome is the reason of the first. With `need_boxes` so is one without a box.
    """
    if receipt["outcome"] == "ok" and need_boxes and not spans:
        return {**receipt, "outcome": "annotation_missing", "detail": f"no box; {NO_BOX}"}
    if receipt["outcome"] != "ok" or not spans:
        return receipt
    video = unpack(dict(receipt["video"]))
    placed, refused = [], []
    for span in spans:
        found = _place(span, video, check_boxes=check_boxes, need_boxes=need_boxes)
        (refused if isinstance(found, tuple) else placed).append(found)
    if not refused:
        return {**receipt, "annotations": placed}
    reason, detail = refused[0]
    note = f"{len(refused)} of {len(spans)} annotated spans: {reason} ({detail})"
    if not placed:
        return {**receipt, "outcome": reason, "detail": note}
    return {**receipt, "annotations": placed, "note": note}


def _place(span: Item, video: Video, *, check_boxes: bool, need_boxes: bool) -> Annotation | tuple[str, str]:
    start_s, end_s = Fraction(span["start_s"]), None if span["end_s"] is None else Fraction(span["end_s"])
    start = max(0, frame_at(start_s))
    end = video.num_frames if end_s is None else min(video.num_frames, frame_at(end_s))
    if start >= end:
        return (
            "truncated",
            f"{span['where']}: from {float(start_s):.2f} s, the file has {float(video.duration_s):.2f} s",
        )
    placed = None if span["box"] is None else place_boxes(span, video, start, end)
    if span["box"] is not None and placed is None and check_boxes:
        _, width, height = span["box"]
        made_for = f"{f'{width:g}' if width else '?'}x{height:g}"
        detail = f"{span['where']}: for {made_for}, the file is {video.width}x{video.height}"
        return "bbox_resolution_mismatch", detail
    if placed is None and need_boxes:
        return "annotation_missing", f"{span['where']}: no box that fits the file; {NO_BOX}"
    about = {name: span[name] for name in ("name", "identity", "transcript", "language")}
    return {**about, "start_frame": start, "end_frame": end, **(placed or {"box": None, "boxes": None})}


def stretch_id(video_id: str, start: int, end: int | None) -> str:
    """Return the id of a stretch: content and place. Those of whole files end where the next key frame is."""
    return f"{video_id}-{start}" if end is None else f"{video_id}-{start}-{end}"


def merge(annotations: Iterable[Annotation]) -> list[tuple[int, int]]:
    """Return the frames that are annotated, as ranges that do not overlap: two people in one shot are scored once."""
    ranges: list[tuple[int, int]] = []
    for start, end in sorted((a["start_frame"], a["end_frame"]) for a in annotations):
        if ranges and start < ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges


def annotate(clips: pa.Table, stretches: Sequence[Item]) -> pa.Table:
    """Set the columns of clips that sources decide: today's, for annotations may change and files be renamed.

    Args:
        clips: candidates, with `face_centre`, which is left out of what is returned.
        stretches: items of the score phase.
    """
    of_video: dict[str, Item] = {item["video_id"]: item for item in stretches}
    annotations: dict[str, list[Annotation]] = defaultdict(list)
    for item in stretches:
        annotations[item["video_id"]] += item["annotations"]
    columns = ("path", "source", "identity", "youtube_id", "official_split", *COLUMNS)
    claims = find_claims(clips, annotations)
    values: list[tuple[Any, ...]] = []  # tuples of shared words: a dict for each of a million clips takes 0.6 GB
    rows = zip(*(clips[name].to_pylist() for name in ("video_id", "start_frame", "num_frames")), strict=True)
    for index, (video_id, start, length) in enumerate(rows):
        found = _today(start, start + length, of_video[video_id], annotations[video_id], claims.get(index))
        values.append(tuple(found[name] for name in columns))
    for number, name in enumerate(columns):
        index = clips.schema.get_field_index(name)
        field = clips.schema.field(name)
        clips = clips.set_column(index, field, pa.array([row[number] for row in values], field.type))
    return clips.drop_columns(["face_centre"])


def _today(start: int, end: int, item: Item, annotations: Sequence[Annotation], claim: Claim | None) -> Item:
    found: Item = {name: item[name] for name in ("path", "source", "identity", "youtube_id", "official_split")}
    found |= dict.fromkeys(COLUMNS) | {"annotated_faces": claim and claim.num_faces}
    # The annotation that covers most of the clip, the first of equal ones; a claim says that only its own will do.
    shared = [
        (min(end, a["end_frame"]) - max(start, a["start_frame"]), -index)
        for index, a in enumerate(annotations)
        if claim is None or claim.annotation in (None, index)
    ]
    if not shared or max(shared)[0] <= 0:
        return found
    most, index = max(shared)
    mine = annotations[-index]
    is_whole = most >= WHOLE_SHARE * (mine["end_frame"] - mine["start_frame"])
    found |= {"annotation": mine["name"], "language": mine["language"]}
    found |= {"transcript": mine["transcript"] if is_whole else None}
    return found | ({"identity": mine["identity"]} if mine["identity"] else {})
