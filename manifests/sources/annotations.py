"""Annotations of a source: stretches of time, boxes, words and people, in exact units."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

YOUTUBE_ID = re.compile(r"[\w-]{11}", re.ASCII)
MAX_SECONDS = 10**6
"""No video lasts eleven days; a number beyond is damage."""
MAX_DIGITS = 24
"""No number in an annotation has more characters; longer ones would only cost time."""
COLUMN = r"([-+]?\d{1,9}(?:\.\d{0,12})?)"
"""A number in a table of boxes; there are hundreds of rows a clip, so a row is read by one expression."""
NTSC_RATES = tuple(Fraction(rate * 1000, 1001) for rate in (24, 30, 60, 120))
ASPECT_TOLERANCE = 0.01
"""Sizes are whole and even pixels: 854x480 stands for 16:9 and is 0.08 % off."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box in a picture of a known size."""

    corners: tuple[float, float, float, float]
    """x0, y0, x1, y1, in the unit of `width` and `height`."""
    width: float | None
    """Width of the picture that the box was made for; 1 where the corners are fractions; None: only the height is."""
    height: float
    """Height of that picture; 1 where the corners are fractions."""

    def scaled(self, width_px: int, height_px: int) -> tuple[float, float, float, float] | None:
        """Return x0, y0, x1, y1 in pixels of a picture of another size, or None where its aspect is another one.

        Without a known width the box itself must fit into the picture.
        """
        # Without a width, pixels are taken for square: both directions are scaled alike.
        down = height_px / self.height
        across = down if self.width is None else width_px / self.width
        are_fractions = self.width == self.height == 1
        # Another aspect means another crop of the picture, in which the box lies elsewhere; fractions fit any picture.
        if not are_fractions and abs(across / down - 1) > ASPECT_TOLERANCE:
            return None
        x0, y0, x1, y1 = self.corners
        # An aspect cannot be compared here, but a box that sticks out tells that the picture is another one.
        if self.width is None and x1 * across > width_px * (1 + ASPECT_TOLERANCE):
            return None
        return x0 * across, y0 * down, x1 * across, y1 * down


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a file that its source annotates."""

    name: str
    """The source's own name of the clip."""
    where: str
    """The annotation's file and line or key, below the source folder."""
    start_s: Fraction = Fraction(0)
    """From the first frame of the file."""
    end_s: Fraction | None = None
    """Not included; None: the end of the file."""
    box: Box | None = None
    """The face or crop for the whole stretch, where the file shows the original picture."""
    boxes: bytes = b""
    """float32 [N, 5], the face in single frames where the source has them: seconds from `start_s` to the middle of the
    frame, ascending, and x0, y0, x1, y1 in the picture of `box`. Bytes, for there are hundreds of rows a clip."""
    identity: str | None = None
    transcript: str | None = None
    """Words that are said in the stretch."""
    language: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """An input file and what its source says about it, or a line or file of the source that cannot be used."""

    path: str
    """Below the source folder, `/` between parts; the annotation's own where `reason` is about it."""
    identity: str | None = None
    """Person who is seen, where the source says so."""
    youtube_id: str | None = None
    split: str | None = None
    """`train`, `val` or `test` where the source's authors fix it."""
    spans: tuple[Span, ...] = ()
    """Stretches to use; none: the whole file."""
    reason: str | None = None
    """Reason why there is nothing to probe, a member of `REASONS`."""
    detail: str | None = None


class UnreadableError(ValueError):
    """A line that does not follow the grammar; it is counted and reading goes on."""


def refuse(where: str, detail: object, reason: str = "annotation_unreadable") -> SourceVideo:
    """Return the record that counts something the source says but that cannot be used."""
    return SourceVideo(path=printable(where), reason=reason, detail=printable(str(detail)))


def printable(text: str) -> str:
    """Return text that any terminal, JSON and Parquet can hold, at most 300 characters."""
    shown = text.encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown[:300])


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers from 1, without BOM and line ends.

    A byte that is not UTF-8 becomes U+FFFD, which no grammar of ours accepts.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\n")


def number(text: object) -> Fraction:
    """Read a finite number exactly as it was written, `81.62` or `1e-3`; raise `UnreadableError` for anything else."""
    # A float of JSON is written again as the shortest text that means it, so that 81.62 stays 8162/100: its binary
    # fraction may lie on the other side of a frame's edge.
    word = json.dumps(text) if isinstance(text, int | float) and not isinstance(text, bool) else str(text).strip()
    if not re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d\d?)?", word, re.ASCII) or len(word) > MAX_DIGITS:
        raise UnreadableError(f"{printable(word)[:40]!r} is no number")
    return Fraction(word)


def seconds(value: object) -> Fraction:
    """Read a time from the start of a video; raise `UnreadableError` when none can be meant."""
    time = number(value)
    if not 0 <= time <= MAX_SECONDS:
        raise UnreadableError(f"{str(value)[:40]} is no time in a video")
    return time


def frame_rate(value: object) -> Fraction:
    """Read frames a second; 29.97, 23.98 and the like mean the NTSC rates over 1001, as no others exist near them."""
    rate = number(value)
    if not 1 <= rate <= 1000:
        raise UnreadableError(f"{str(value)[:40]} is no frame rate")
    # Annotations round: 23.98 taken for 24000/1001 as it stands would be 0.6 s off after an hour.
    near = [ntsc for ntsc in NTSC_RATES if abs(ntsc - rate) < Fraction(1, 200)]
    return near[0] if near else rate


def box(values: list[Fraction], width: float | None, height: float) -> Box:
    """Make a box of x0, y0, x1, y1; raise `UnreadableError` when it is empty or has no picture."""
    x0, y0, x1, y1 = map(float, values)
    if not (x0 < x1 and y0 < y1) or height <= 0 or (width is not None and width <= 0):
        raise UnreadableError(f"the box {x0:g} {y0:g} {x1:g} {y1:g} is empty")
    if not all(math.isfinite(value) and abs(value) < 10**6 for value in (x0, y0, x1, y1, height, width or 1)):
        raise UnreadableError("the box has no sensible size")
    return Box(corners=(x0, y0, x1, y1), width=width, height=height)


def youtube_id(text: object) -> str:
    """Check a YouTube id: eleven letters, digits, `_` and `-`, which may come first."""
    if not isinstance(text, str) or not YOUTUBE_ID.fullmatch(text):
        raise UnreadableError(f"{printable(str(text))[:40]!r} is no YouTube id")
    return text


def youtube_id_of(url: str) -> str:
    """Return the id in a YouTube address; times and other parameters are passed over."""
    found = re.search(r"(?:[?&]v=|youtu\.be/)([\w-]{11})(?![\w-])", url, re.ASCII)
    if not found:
        raise UnreadableError(f"{printable(url)[:60]!r} is no address of a YouTube video")
    return found[1]
