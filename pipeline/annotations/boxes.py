"""Boxes: a span's box, or those of its single frames, in px of the file, on their way to a worker as JSON values."""

import base64
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from ...manifests.records import FRAME_RATE, Video
from ...manifests.sources.annotations import Box, Span
from ...manifests.storage import digest
from ..faces.annotated import AnnotatedFace

Item = dict[str, Any]


def pack_boxes(span: Span) -> Item:
    """Turn the boxes of a span into JSON values; those of single frames stay a few KB of text."""
    if span.box is None:
        return {"box": None, "boxes": None}
    static = [list(span.box.corners), span.box.width, span.box.height]
    return {"box": static, "boxes": base64.b64encode(span.boxes).decode() or None}


def place_boxes(span: Item, video: Video, start_frame: int, end_frame: int) -> Item | None:
    """Return `box`, and `boxes` of the frames where the source has them, in px of the file; None: for another picture.

    Boxes between two annotated frames are interpolated; before the first and after the last one, that one holds.
    """
    corners, width, height = span["box"]
    made_for = Box(corners=tuple(corners), width=width, height=height)
    box = made_for.scaled(video.width, video.height)
    if box is None or span["boxes"] is None:
        return box and {"box": list(box), "boxes": None}
    table = np.frombuffer(base64.b64decode(span["boxes"]), "<f4").reshape(-1, 5)
    # The unit square tells the scale, whatever the box: fractions and pixels alike.
    unit = replace(made_for, corners=(0.0, 0.0, 1.0, 1.0)).scaled(video.width, video.height)
    assert unit is not None
    # A slot's middle, since that is when its frame is shown (`frame_at`).
    times_s = (np.arange(start_frame, end_frame) + 0.5) / FRAME_RATE - float(Fraction(span["start_s"]))
    placed = [np.interp(times_s, table[:, 0], column) for column in table[:, 1:].T]
    boxes = np.stack(placed, axis=1) * np.tile(unit[2:], 2)
    return {"box": list(box), "boxes": base64.b64encode(boxes.astype("<f4").tobytes()).decode()}


def annotated_faces(annotations: Iterable[Item]) -> list[Item]:
    """Return of placed annotations what `AnnotatedFace` needs, as JSON values."""
    names = ("start_frame", "end_frame", "box", "boxes")
    return [{name: a[name] for name in names} for a in annotations if a["box"] is not None]


def key_of(faces: Iterable[Item]) -> str:
    """Return a hash of faces: other boxes, another stretch."""
    return digest(list(faces))[:12]


def unpack_face(face: Item) -> AnnotatedFace:
    """Turn JSON values into a face with a box in every frame."""
    num_frames = face["end_frame"] - face["start_frame"]
    if face["boxes"] is None:
        boxes = np.tile(np.asarray(face["box"], np.float32), (num_frames, 1))
    else:
        boxes = np.frombuffer(base64.b64decode(face["boxes"]), "<f4").reshape(-1, 4)
    return AnnotatedFace(start_frame=face["start_frame"], boxes=boxes)
