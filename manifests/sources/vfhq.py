"""VFHQ: one text file a clip, named by YouTube id, person, clip and frames; the body was never seen and is read freely.

File names follow ~25 real ones; the body follows eight public parsers, so that a line which reads otherwise is counted
and only the frame rate is a must.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np

from .annotations import COLUMN, Box, SourceVideo, Span, UnreadableError, box, frame_rate, number, read_lines, refuse
from .folder import list_media, walk
from .matching import AnnotatedClip, match

NAME = re.compile(
    r"Clip\+(?P<id>[\w-]{11})\+P(?P<person>\d{1,6})\+C(?P<clip>\d{1,6})(\+F(?P<start>\d{1,9})-(?P<end>\d{1,9}))?",
    re.ASCII,
)
CUT_NAME = re.compile(r"(?P<id>[\w-]{11})_C?\d{1,6}", re.ASCII)
"""Names that re-releases and downloaders give to cut clips."""
HEADER = re.compile(r"(H|W|FPS)\b[:\s]+(\S+)\s*")
CROP = re.compile(r"CROP\b[:\s]+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*")
ROW = re.compile(rf"\s*(\d{{1,9}})\s+\S+\s+{COLUMN}\s+{COLUMN}\s+{COLUMN}\s+{COLUMN}(?:\s.*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class FrameRow:
    """One frame of a clip."""

    frame: int
    """Number in the original video, from 0."""
    corners: tuple[float, float, float, float]
    """The face, x0 y0 x1 y1 px of the annotated size."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """Content of an annotation file."""

    fps: Fraction | None
    crop: Box | None
    rows: tuple[FrameRow, ...]
    faults: tuple[str, ...]
    """Lines that cannot be read, as `line N: why`."""


def list_vfhq(root: Path) -> Iterator[SourceVideo]:
    """Yield the videos of a VFHQ folder: annotated full videos, cut clips, and what is wrong."""
    notes = sorted(path for path in walk(root) if path.endswith(".txt") and path.split("/")[-1].startswith("Clip+"))
    refused: list[SourceVideo] = []
    yield from match(list_media(root), _clips(root, notes, refused), named=_by_name)
    yield from refused


def read_body(path: Path) -> Body:
    """Read an annotation file; lines that cannot be read are told and passed over.

    Rows are `frame index x y w h ...`, or `frame index x0 y0 x1 y1 ...` where the column header says `X1`.
    """
    sizes: dict[str, Fraction] = {}
    rows: list[FrameRow] = []
    faults: list[str] = []
    crop: list[Fraction] | None = None
    are_corners = False
    for line_number, line in read_lines(path):
        try:
            if header := HEADER.fullmatch(line):
                sizes[header[1]] = frame_rate(header[2]) if header[1] == "FPS" else number(header[2])
            elif found := CROP.fullmatch(line):
                crop = [number(word) for word in found.groups()]
            elif line.startswith("FRAME"):
                are_corners = "X1" in line.split()
            elif line.strip() and not line.startswith("Video"):
                rows.append(_row(line, are_corners=are_corners))
        except UnreadableError as error:
            faults.append(f"line {line_number}: {error}")
    try:
        whole = box(crop, float(sizes["W"]), float(sizes["H"])) if crop and {"H", "W"} <= set(sizes) else None
    except UnreadableError as error:
        whole, _ = None, faults.append(f"CROP: {error}")
    return Body(fps=sizes.get("FPS"), crop=whole, rows=tuple(rows), faults=tuple(faults))


def _row(line: str, *, are_corners: bool) -> FrameRow:
    found = ROW.fullmatch(line)
    if not found:
        raise UnreadableError("not FRAME INDEX X0 Y0 W H")
    x, y, third, fourth = map(float, found.groups()[1:])
    return FrameRow(
        frame=int(found[1]), corners=(x, y, third, fourth) if are_corners else (x, y, x + third, y + fourth)
    )


def _clips(root: Path, notes: list[str], refused: list[SourceVideo]) -> Iterator[AnnotatedClip]:
    for note in notes:
        try:
            clip, faults = _clip(root, note)
        except UnreadableError as error:
            refused.append(refuse(note, error))
            continue
        except OSError as error:
            refused.append(refuse(note, error.strerror))
            continue
        if faults:
            refused.append(refuse(note, f"{len(faults)} lines, the first is {faults[0]}"))
        yield clip


def _clip(root: Path, note: str) -> tuple[AnnotatedClip, tuple[str, ...]]:
    """Read one clip: frames `start + 1` to `end - 1` of the original, as every script of the authors' kin cuts them."""
    stem = PurePosixPath(note).stem
    name = NAME.fullmatch(stem)
    if not name or name["start"] is None:
        raise UnreadableError("the name is not Clip+<id>+P<n>+C<n>+F<start>-<end>.txt")
    start, end = int(name["start"]), int(name["end"])
    if end - start < 2:
        raise UnreadableError(f"no frame lies between {start} and {end}")
    body = read_body(root / note)
    if body.fps is None:
        raise UnreadableError(f"no frame rate{': ' + body.faults[0] if body.faults else ''}")
    video = name["id"]
    span = Span(
        name=stem,
        where=f"{note}:1",
        start_s=(start + 1) / body.fps,
        end_s=end / body.fps,
        box=body.crop,
        boxes=_face_boxes(body, body.fps, start, end),
        identity=video,
    )
    is_test = os.path.basename(os.path.dirname(note)).lower().endswith("test")
    clip = AnnotatedClip(
        span=span,
        video=video,
        full_stems=(video,),
        cut_stems=(
            stem,
            f"Clip+{video}+P{name['person']}+C{name['clip']}",
            f"{video}_C{name['clip']}",
            f"{video}_{name['person']}",
        ),
        youtube_id=video,
        split="test" if is_test else None,
    )
    return clip, body.faults


def _face_boxes(body: Body, fps: Fraction, start: int, end: int) -> bytes:
    """Return the faces of the rows as a span holds them; rows whose numbers are not those of the clip tell no time."""
    rows = sorted((row for row in body.rows if start <= row.frame <= end), key=lambda row: row.frame)
    if body.crop is None or len({row.frame for row in rows}) < len(body.rows):
        return b""
    times_s = [float((row.frame + Fraction(1, 2) - start - 1) / fps) for row in rows]
    return np.array([(time_s, *row.corners) for time_s, row in zip(times_s, rows, strict=True)], "<f4").tobytes()


def _by_name(path: str) -> SourceVideo | None:
    stem = PurePosixPath(path).stem
    name = NAME.fullmatch(stem) or CUT_NAME.fullmatch(stem)
    if not name:
        return None
    span = Span(name=stem, where=path, identity=name["id"])
    return SourceVideo(path=path, identity=name["id"], youtube_id=name["id"], spans=(span,))
