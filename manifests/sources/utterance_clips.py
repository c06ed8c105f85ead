"""Clips of one utterance with a text file each: how VoxCeleb2, LRS2 and LRS3 are listed."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .annotations import SourceVideo, Span, refuse
from .folder import is_media, list_media, walk
from .utterances import read_utterance


def _beside(path: str) -> str:
    return path


@dataclass(frozen=True, kw_only=True)
class UtteranceLayout:
    """Paths of the clips of a source."""

    clip: re.Pattern[str]
    """Path of a clip or its text; groups `part`, `identity` and, where the source has them, `id` of YouTube."""
    splits: Mapping[str, str]
    """Part to official split."""
    note: Callable[[str], str] = _beside
    """Turns the path of a clip into that of its text, but for the ending."""
    listed: Mapping[str, str] = field(default_factory=dict)
    """`part/folder/number` to official split, where lists say it."""


def list_clips(root: Path, layout: UtteranceLayout) -> Iterator[SourceVideo]:
    """Yield the clips that lie where the source puts them, with the text of those that have one, and what is wrong.

    A clip without a text is used; a text without a clip, and a media file that lies elsewhere, are counted.
    """
    notes = {path for path in walk(root) if path.endswith(".txt") and layout.clip.fullmatch(path)}
    for path in list_media(root):
        found = layout.clip.fullmatch(path)
        if not found:
            detail = "lies where this source has no clips; --source folder takes any file"
            yield SourceVideo(path=path, reason="annotation_missing", detail=detail)
            continue
        note = str(PurePosixPath(layout.note(path)).with_suffix(".txt"))
        yield from _clip(root, path, note if note in notes else None, found.groupdict(), layout)
        notes.discard(note)
    for note in sorted(notes):
        if not is_media(note):
            found = layout.clip.fullmatch(note)
            assert found is not None
            groups = found.groupdict()
            about = {"identity": groups["identity"], "youtube_id": groups.get("id")}
            detail = f"{note}:1 describes a clip that is not there"
            path = str(PurePosixPath(note).with_suffix(".mp4"))
            yield SourceVideo(path=path, reason="unavailable", detail=detail, **about)


def _clip(
    root: Path, path: str, note: str | None, groups: Mapping[str, str | None], layout: UtteranceLayout
) -> Iterator[SourceVideo]:
    part, identity = groups["part"], groups["identity"]
    name = str(PurePosixPath(*PurePosixPath(path).parts[-3:]).with_suffix(""))
    transcript = None
    if note is not None:
        try:
            said = read_utterance(root / note)
        except OSError as error:
            yield refuse(note, error.strerror)
        else:
            transcript = said.transcript
            if said.faults:
                yield refuse(note, f"{len(said.faults)} lines, the first is {said.faults[0]}")
    yield SourceVideo(
        path=path,
        identity=identity,
        youtube_id=groups.get("id"),
        split=layout.listed.get(name) or layout.splits.get(part or ""),
        spans=(Span(name=name, where=note or path, identity=identity, transcript=transcript),),
    )
