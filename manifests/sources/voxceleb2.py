"""VoxCeleb2: clips that are cut already, in a folder for each speaker and video; or the originals and the texts."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from .annotations import YOUTUBE_ID, Box, SourceVideo, Span, refuse
from .folder import list_media
from .utterance_clips import UtteranceLayout, list_clips
from .utterances import Utterance, read_utterance

CLIP = re.compile(
    r"(?:(?:.*/)?(?:vox2_)?(?P<part>dev|test)(?:_mp4|_txt)?/|(?:.*/)?)"
    r"(?:mp4|txt|aac)/(?P<identity>id\d{5})/(?P<id>[\w-]{11})/\d{5}\.\w+",
    re.ASCII,
)


def list_voxceleb2(root: Path) -> Iterator[SourceVideo]:
    """Yield the clips below a VoxCeleb2 folder; those of `test` are held out, as in the official split.

    Of a text whose clip is not there, the stretch of the original `<YouTube id>.*` is used where that is.
    """
    layout = UtteranceLayout(
        clip=CLIP, splits={"test": "test"}, note=lambda path: re.sub(r"(^|/)mp4/", r"\1txt/", path)
    )
    media = [path for path in list_media(root) if not CLIP.fullmatch(path)]
    originals = {PurePosixPath(path).stem: path for path in media if YOUTUBE_ID.fullmatch(PurePosixPath(path).stem)}
    used: dict[str, SourceVideo] = {}
    strays: list[SourceVideo] = []
    for video in list_clips(root, layout):
        original = originals.get(video.youtube_id or "")
        if video.reason == "unavailable" and original is not None:
            found = _stretch(root, video, original)
            if found.reason is not None:
                yield found
            else:
                used[original] = _joined(used.get(original), found)
        elif video.reason == "annotation_missing":
            strays.append(video)
        else:
            yield video
    yield from used.values()
    yield from (video for video in strays if video.path not in used)


def _text_beside(path: str) -> str:
    """Return the path of a clip's text, but for the ending: `mp4/` and `txt/` are trees of the same shape."""
    return re.sub(r"(^|/)mp4/", r"\1txt/", path)


def _stretch(root: Path, missing: SourceVideo, original: str) -> SourceVideo:
    """Return the original with the one stretch that a text names."""
    note = str(PurePosixPath(missing.path).with_suffix(".txt"))
    try:
        said = read_utterance(root / note)
    except OSError as error:
        return refuse(note, error.strerror)
    if not said.frames:
        return refuse(note, f"no frames{': ' + said.faults[0] if said.faults else ''}")
    name = str(PurePosixPath(*PurePosixPath(note).parts[-3:]).with_suffix(""))
    found = CLIP.fullmatch(note)
    assert found is not None  # it was listed by it
    span = Span(
        name=name,
        where=f"{note}:1",
        start_s=said.start_s or Span.start_s,
        end_s=said.end_s,
        box=_around(said),
        identity=missing.identity,
    )
    return replace(
        missing,
        path=original,
        spans=(span,),
        split="test" if found["part"] == "test" else None,
        reason=None,
        detail=None,
    )


def _joined(known: SourceVideo | None, more: SourceVideo) -> SourceVideo:
    """Add stretches; a video of which any is of the official test split is held out."""
    return more if known is None else replace(known, spans=known.spans + more.spans, split=known.split or more.split)


def _around(said: Utterance) -> Box:
    """Return the box that holds the face through the whole stretch."""
    lefts, tops, rights, bottoms = zip(*said.corners, strict=True)
    return replace(said.boxes[0], corners=(min(lefts), min(tops), max(rights), max(bottoms)))
