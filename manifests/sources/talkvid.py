"""TalkVid: a JSON list of clips, of hundreds of megabytes, read entry by entry."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from .annotations import SourceVideo, Span, UnreadableError, refuse, seconds, youtube_id_of
from .folder import list_media, walk
from .matching import AnnotatedClip, match

CHUNK_CHARACTERS = 1 << 20
MAX_ENTRY_CHARACTERS = 16 << 20
NAME = re.compile(r"(?:video)*(?P<id>[\w-]{11})-scene\d+(-scene\d+)*", re.ASCII)
SECTION = re.compile(r"(?P<id>[\w-]{11})_\d{3}_(?P<start>\d+\.\d{3})_(?P<end>\d+\.\d{3})", re.ASCII)
"""Name that the authors' download script gives a cut clip: id, running number, start and end in seconds."""
OPENING = re.compile(r"\s*\[")
SPACE = re.compile(r"[\s,]*")


def list_talkvid(root: Path) -> Iterator[SourceVideo]:
    """Yield the videos of a TalkVid folder: annotated full videos, cut clips, and what is wrong."""
    refused: list[SourceVideo] = []
    files = sorted(path for path in walk(root) if _is_list(root / path))
    clips = (clip for path in files for clip in read_clips(root, path, refused))
    yield from match(list_media(root), clips, named=_by_name, alias=_alias)
    yield from refused


def _is_list(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.read(4096).lstrip().startswith("[")


def read_clips(root: Path, path: str, refused: list[SourceVideo]) -> Iterator[AnnotatedClip]:
    """Read the clips of a JSON list; entries that cannot be read, and damage, go to `refused`."""
    try:
        for line, entry in read_entries(root / path):
            where = f"{path}:{line}"
            try:
                yield read_clip(entry, where)
            except UnreadableError as error:
                refused.append(refuse(where, error))
    except UnreadableError as error:
        refused.append(refuse(path, error))


def read_entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the entries of a JSON list with the lines they begin at; memory holds one entry and a megabyte.

    Raises:
        UnreadableError: the list is damaged or ends early; what came before was yielded.
    """
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        text, line, index = file.read(CHUNK_CHARACTERS), 1, 0
        opening = OPENING.match(text)
        line, index = text.count("\n", 0, opening.end() if opening else 0) + 1, opening.end() if opening else 0
        while True:
            space = SPACE.match(text, index)
            assert space is not None
            line, index = line + space[0].count("\n"), space.end()
            if text.startswith("]", index):
                return
            try:
                entry, end = decoder.raw_decode(text, index)
            except (ValueError, RecursionError) as error:
                more = file.read(CHUNK_CHARACTERS)
                if not more or len(text) - index > MAX_ENTRY_CHARACTERS:
                    raise UnreadableError(f"line {line}: the list is damaged or cut off here ({error})") from error
                text, index = text[index:] + more, 0
                continue
            yield line, entry
            line, index = line + text.count("\n", index, end), end


def read_clip(entry: Any, where: str) -> AnnotatedClip:  # noqa: ANN401 - what JSON holds
    """Read one entry; raise `UnreadableError` that says what is wrong with it."""
    about = entry.get("info") if isinstance(entry, dict) else None
    if not isinstance(about, dict) or not isinstance(entry.get("id"), str):
        raise UnreadableError("no id and info")
    video = youtube_id_of(str(about.get("Video Link")))
    start, end = seconds(entry.get("start-time")), seconds(entry.get("end-time"))
    if end <= start:
        raise UnreadableError(f"ends at {float(end):g} s before it begins at {float(start):g} s")
    person = about.get("Person ID")
    span = Span(
        name=entry["id"][:120],
        where=where,
        start_s=start,
        end_s=end,
        identity=video if person in (None, "") else f"person {str(person)[:40]}",
        language=str(about["Language"])[:40] if about.get("Language") else None,
    )
    # The script cuts at whole milliseconds, rounded down.
    section = f"{video}@{math.floor(start * 1000)}-{math.floor(end * 1000)}"
    stems = (span.name, section)
    return AnnotatedClip(span=span, video=video, full_stems=(video,), cut_stems=stems, youtube_id=video)


def _alias(stem: str) -> str:
    """Leave the running number out of a section's name: it counts within one download."""
    section = SECTION.fullmatch(stem)
    if not section:
        return stem
    start, end = (section[side].replace(".", "") for side in ("start", "end"))
    return f"{section['id']}@{int(start)}-{int(end)}"


def _by_name(path: str) -> SourceVideo | None:
    stem = PurePosixPath(path).stem
    name = NAME.fullmatch(stem) or SECTION.fullmatch(stem)
    if not name:
        return None
    span = Span(name=stem, where=path, identity=name["id"])
    return SourceVideo(path=path, identity=name["id"], youtube_id=name["id"], spans=(span,))
