"""CelebV-HQ: one JSON file of clips; CelebV-Text, its sibling, has the same shape with boxes in pixels."""

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import SourceError
from .annotations import Box, SourceVideo, Span, UnreadableError, box, number, printable, refuse, seconds, youtube_id
from .folder import list_media, walk
from .matching import AnnotatedClip, match

FILE = re.compile(r"celebv(hq|text)_info\.json")
KEY = re.compile(r"(?P<id>[\w-]{11})(_\d{1,4}){1,2}", re.ASCII)
SECOND_NUMBER = re.compile(r"^([\w-]{11}_\d{1,4})_\d{1,4}$", re.ASCII)
LARGEST_FRACTION = 1.5
"""Corners above this are pixels; fractions may reach a little over 1."""


def list_celebvhq(root: Path) -> Iterator[SourceVideo]:
    """Yield the videos of a CelebV-HQ folder: annotated full videos, cut clips, and what is wrong.

    Raises:
        SourceError: the JSON file is damaged; without it nothing is known.
    """
    refused: list[SourceVideo] = []
    files = sorted(path for path in walk(root) if FILE.fullmatch(PurePosixPath(path).name))
    clips = [clip for path in files for clip in read_clips(root, path, refused)]
    yield from match(list_media(root), clips, named=_by_name, alias=_alias)
    yield from refused


def read_clips(root: Path, path: str, refused: list[SourceVideo]) -> Iterator[AnnotatedClip]:
    """Read the clips of a JSON file (19 MB as published, read whole); entries that cannot be read go to `refused`."""
    try:
        table = json.loads((root / path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{root / path}: not valid JSON ({printable(str(error))}); get the file again") from error
    entries = table.get("clips", table) if isinstance(table, dict) else None
    if not isinstance(entries, dict):
        raise SourceError(f"{root / path}: no table of clips; get the file again")
    for entry_number, (key, entry) in enumerate(entries.items(), start=1):
        if key == "meta_info":
            continue
        where = f"{path}:{key if KEY.fullmatch(key) else f'entry {entry_number}'}"
        try:
            yield read_clip(key, entry, where)
        except UnreadableError as error:
            refused.append(refuse(where, error))


def read_clip(key: str, entry: Any, where: str) -> AnnotatedClip:  # noqa: ANN401 - what JSON holds
    """Read one entry; raise `UnreadableError` that says what is wrong with it."""
    if not KEY.fullmatch(key) or not isinstance(entry, dict):
        raise UnreadableError("the key is not <YouTube id>_<n>, or nothing stands under it")
    video = youtube_id(entry.get("ytb_id"))
    times = entry.get("duration")
    if not isinstance(times, dict):
        raise UnreadableError("no duration")
    # An entry of CelebV-Text calls seconds `start_frame`.
    start, end = (seconds(times.get(f"{side}_sec", times.get(f"{side}_frame"))) for side in ("start", "end"))
    if end <= start:
        raise UnreadableError(f"ends at {float(end):g} s before it begins at {float(start):g} s")
    span = Span(name=key, where=where, start_s=start, end_s=end, box=_box(entry.get("bbox")), identity=video)
    return AnnotatedClip(span=span, video=video, full_stems=(video,), cut_stems=(_alias(key),), youtube_id=video)


def _alias(stem: str) -> str:
    """Leave out a second number: one re-release cut clips again at scene changes and kept the longest part of each."""
    return SECOND_NUMBER.sub(r"\1", stem)


def _box(sides: Any) -> Box | None:  # noqa: ANN401
    """Read a box in fractions; pixels, as CelebV-Text has them, come without the picture's size and are left out."""
    if not isinstance(sides, dict):
        raise UnreadableError("no bbox")
    corners: list[Fraction] = [number(sides.get(name)) for name in ("left", "top", "right", "bottom")]
    return None if max(corners) > LARGEST_FRACTION else box(corners, 1, 1)


def _by_name(path: str) -> SourceVideo | None:
    stem = PurePosixPath(path).stem
    name = KEY.fullmatch(stem)
    if not name:
        return None
    span = Span(name=stem, where=path, identity=name["id"])
    return SourceVideo(path=path, identity=name["id"], youtube_id=name["id"], spans=(span,))
