"""The text files of VoxCeleb1, VoxCeleb2, LRS2 and LRS3: a few named lines, a table of boxes, a table of words."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from .annotations import COLUMN, Box, UnreadableError, number, read_lines

FRAME_RATE = 25
"""Frames a second of the frame numbers in all of these files, whatever the original had."""
VOXCELEB1_LINES = 360
"""VoxCeleb1's boxes are pixels of the picture scaled to so many lines (`REF_FRAME_SIZE` of crop_vox.py)."""
LARGEST_FRACTION = 1.5
"""Corners above this are pixels; fractions may reach a little below 0 and over 1."""
HEADER = re.compile(r"(Identity|Reference|Offset|FV Conf|ASD Conf|Text|Conf|Ref)\s*:\s*(.*?)\s*")
ROW = re.compile(rf"(\d{{1,9}})\s+{COLUMN}\s+{COLUMN}\s+{COLUMN}\s+{COLUMN}\s*", re.ASCII)
WORD_COLUMNS = 3
Corners = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word and when it is said, seconds from the start of the clip."""

    text: str
    start_s: Fraction
    end_s: Fraction


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """Content of one file; parts that it does not have are None or empty."""

    identity: str | None
    youtube_id: str | None
    transcript: str | None
    """Upper case, as stored; `{NS}` and `{LG}` mark noise and laughter."""
    frames: tuple[int, ...]
    """Frame numbers of the original video at 25 fps."""
    corners: tuple[Corners, ...]
    """One box a frame, in the original picture, not in the crop that is shipped: x0, y0, x1, y1, px or fractions."""
    words: tuple[Word, ...]
    faults: tuple[str, ...]
    """Lines that cannot be read, as `line N: why`."""

    @property
    def boxes(self) -> list[Box]:
        """The boxes with the size of their picture.

        Pixels are told from fractions by the largest value of the whole file, for a pixel box may lie near 0.
        """
        if any(max(values) > LARGEST_FRACTION for values in self.corners):
            return [Box(corners=values, width=None, height=VOXCELEB1_LINES) for values in self.corners]
        return [Box(corners=values, width=1, height=1) for values in self.corners]

    @property
    def start_s(self) -> Fraction | None:
        """Start in the original video."""
        return Fraction(self.frames[0], FRAME_RATE) if self.frames else None

    @property
    def end_s(self) -> Fraction | None:
        """End of the last frame in the original video."""
        return Fraction(self.frames[-1] + 1, FRAME_RATE) if self.frames else None


def read_utterance(path: Path) -> Utterance:
    """Read one file; lines that do not follow the grammar are told and passed over."""
    heads: dict[str, str] = {}
    frames: list[tuple[int, Corners]] = []
    words: list[Word] = []
    faults: list[str] = []
    # A line that begins with FRAME or WORD is the head of a table: the lines below are its rows until another begins.
    table = ""
    for line_number, line in read_lines(path):
        try:
            if line.startswith(("FRAME", "WORD")):
                table = line.split()[0]
            elif table == "FRAME" and line.strip():
                frames.append(_frame(line))
            elif table == "WORD" and line.strip():
                words.append(_word(line.split()))
            elif line.strip():
                _head(line, heads)
        except UnreadableError as error:
            faults.append(f"line {line_number}: {error}")
    return Utterance(
        identity=heads.get("Identity"),
        youtube_id=heads.get("Reference") or heads.get("Ref"),
        transcript=heads.get("Text"),
        frames=tuple(frame for frame, _ in frames),
        corners=tuple(corners for _, corners in frames),
        words=tuple(words),
        faults=tuple(faults),
    )


def _head(line: str, heads: dict[str, str]) -> None:
    found = HEADER.fullmatch(line)
    if not found or "\ufffd" in line:
        raise UnreadableError(f"{line[:40]!r} is not a name and a value")
    heads[found[1]] = found[2]


def _frame(line: str) -> tuple[int, Corners]:
    found = ROW.fullmatch(line)
    if not found:
        raise UnreadableError("not FRAME X Y W H")
    x, y, width, height = map(float, found.groups()[1:])
    if width <= 0 or height <= 0:
        raise UnreadableError("the box is empty")
    return int(found[1]), (x, y, x + width, y + height)


def _word(words: list[str]) -> Word:
    if len(words) < WORD_COLUMNS:
        raise UnreadableError("not WORD START END")
    start_s, end_s = number(words[1]), number(words[2])
    if end_s < start_s:
        raise UnreadableError(f"{words[0][:40]} ends before it begins")
    return Word(text=words[0], start_s=start_s, end_s=end_s)
