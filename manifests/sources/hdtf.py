"""HDTF: five parallel text files for each of three subsets; the grammar was checked against all of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath

from .annotations import Box, SourceVideo, Span, UnreadableError, box, number, read_lines, refuse, youtube_id_of
from .folder import list_media, walk
from .matching import AnnotatedClip, match

SUBSETS = ("RD", "WDA", "WRA")
KINDS = ("video_url", "annotion_time", "crop_wh", "crop_ratio", "resolution")
FILE = re.compile(rf"({'|'.join(SUBSETS)})_({'|'.join(KINDS)})\.txt")
VIDEO = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
TIMES = re.compile(r"(\d{2,4}):([0-5]\d)-(\d{2,4}):([0-5]\d)", re.ASCII)
STEM = re.compile(r"(?:(?:RD|WDA|WRA)_)?(?P<video>[A-Za-z]+\d*)(?:_\d{1,4})?", re.ASCII)


@dataclass(kw_only=True)
class Subset:
    """Content of the five files of one subset; videos are named without ending, clips `<video>_<i>`."""

    urls: dict[str, str] = field(default_factory=dict)
    """Video to YouTube id."""
    times: dict[str, list[tuple[Fraction, Fraction]]] = field(default_factory=dict)
    """Video to the stretches of its clips, seconds."""
    crops: dict[str, tuple[Fraction, ...]] = field(default_factory=dict)
    """Clip to x, w, y, h, px at the height in `heights`."""
    ratios: dict[str, Fraction] = field(default_factory=dict)
    """Clip to the enlargement of a face box of one's own."""
    heights: dict[str, int] = field(default_factory=dict)
    """Video to its lines; 0: not known."""
    lines: dict[str, str] = field(default_factory=dict)
    """Video to the file and line that names it."""


def list_hdtf(root: Path) -> Iterator[SourceVideo]:
    """Yield the videos of an HDTF folder: annotated full videos, cut clips, and what is wrong."""
    refused: list[SourceVideo] = []
    subsets = read_subsets(root, refused)
    splits = _read_splits(root)
    clips = [clip for name, subset in subsets.items() for clip in _clips(name, subset, splits, refused)]
    yield from match(list_media(root), clips, named=_by_name)
    yield from refused


def read_subsets(root: Path, refused: list[SourceVideo]) -> dict[str, Subset]:
    """Read all the files there are below a folder; lines that do not follow the grammar go to `refused`."""
    subsets = {name: Subset() for name in SUBSETS}
    for path in sorted(path for path in walk(root) if FILE.fullmatch(PurePosixPath(path).name)):
        found = FILE.fullmatch(PurePosixPath(path).name)
        assert found is not None
        for line_number, line in read_lines(root / path):
            if line.strip():
                try:
                    _read_line(subsets[found[1]], found[2], line.split(), f"{path}:{line_number}")
                except UnreadableError as error:
                    refused.append(refuse(f"{path}:{line_number}", error))
    return subsets


def _read_line(subset: Subset, kind: str, words: list[str], where: str) -> None:
    video = words[0] if kind == "video_url" else words[0].removesuffix(".mp4")
    if not VIDEO.fullmatch(video) or len(words) < 2 or (kind != "video_url" and video == words[0]):
        raise UnreadableError(f"{words[0][:40]!r} is not the name of a video and something about it")
    if kind == "annotion_time":
        subset.times[video] = [_times(word) for word in words[1:]]
        subset.lines[video] = where
        return
    if len(words) != (5 if kind == "crop_wh" else 2):
        raise UnreadableError(f"{len(words)} words")
    if kind == "video_url":
        subset.urls[video] = youtube_id_of(words[1])
        subset.lines.setdefault(video, where)
    elif kind == "crop_wh":
        subset.crops[video] = tuple(number(word) for word in words[1:])
    elif kind == "crop_ratio":
        subset.ratios[video] = number(words[1])
    else:
        subset.heights[video] = int(number(words[1]))


def _times(word: str) -> tuple[Fraction, Fraction]:
    found = TIMES.fullmatch(word)
    if not found:
        raise UnreadableError(f"{word[:40]!r} is not MM:SS-MM:SS")
    start, end = (Fraction(int(found[i]) * 60 + int(found[i + 1])) for i in (1, 3))
    if end <= start:
        raise UnreadableError(f"{word} ends before it begins")
    return start, end


def _clips(name: str, subset: Subset, splits: dict[str, str], refused: list[SourceVideo]) -> Iterator[AnnotatedClip]:
    for video in sorted({*subset.urls, *subset.times}):
        where = subset.lines[video]
        if video not in subset.times:
            refused.append(refuse(where, f"{video}: no line in {name}_annotion_time.txt", "annotation_missing"))
        youtube = subset.urls.get(video)
        for index, (start, end) in enumerate(subset.times.get(video, [])):
            clip = f"{video}_{index}"
            span = Span(
                name=f"{name}_{video}_{index:03d}",
                where=where,
                start_s=start,
                end_s=end,
                box=crop_box(subset.crops.get(clip), subset.heights.get(video, 0)),
                identity=_identity(video, name),
            )
            yield AnnotatedClip(
                span=span,
                video=f"{name}_{video}",
                full_stems=(f"{name}_{video}", video, *((youtube,) if youtube else ())),
                cut_stems=(span.name, clip),
                youtube_id=youtube,
                split=next((splits[s] for s in (span.name, clip, f"{name}_{video}", video) if s in splits), None),
            )


def crop_box(crop: tuple[Fraction, ...] | None, height: int) -> Box | None:
    """Turn `x w y h` into a box.

    None where there is no crop (15 clips), no height (1 video) or the crop is taller than the stated height (3 clips:
    the height is wrong there).
    """
    if crop is None or height <= 0:
        return None
    x, width, y, tall = crop
    try:
        return None if y + tall > height else box([x, y, x + width, y + tall], None, height)
    except UnreadableError:
        return None


def _identity(video: str, subset: str) -> str:
    """Speakers of WDA and WRA are named, `AmyKlobuchar0` and `AmyKlobuchar1` are one; radio programmes are not."""
    return video if subset == "RD" else video.rstrip("0123456789")


def _by_name(path: str) -> SourceVideo | None:
    stem = PurePosixPath(path).stem
    name = STEM.fullmatch(stem)
    if not name:
        return None
    who = _identity(name["video"], "RD" if name["video"].startswith("Radio") else "")
    return SourceVideo(path=path, identity=who, spans=(Span(name=stem, where=path, identity=who),))


def _read_splits(root: Path) -> dict[str, str]:
    """Read `train.txt`, `val.txt` and `test.txt` at the root, one clip or video a line: lists that papers share."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        path = root / f"{split}.txt"
        if path.is_file():
            names = (line.split()[0] for _, line in read_lines(path) if line.strip())
            found |= {PurePosixPath(name).name.removesuffix(".mp4"): split for name in names}
    return found
