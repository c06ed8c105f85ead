"""HighSync: the folders that its own preprocessing leaves: `videos`, `images`, `audios`, and lists in JSON."""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from .annotations import Box, SourceVideo, Span, printable, refuse
from .folder import is_media, walk

IMAGE = re.compile(r"(?P<clip>(?:.*/)?images/(?P<stem>[^/]+))/\d{1,9}\.png", re.ASCII)
MEDIA = re.compile(r"(?:.*/)?(?P<kind>videos|audios)/(?P<stem>[^/]+)\.\w+")
LIST = re.compile(r".*_(?P<split>train|val)\.json")
YOUTUBE = re.compile(r"(?P<id>[\w-]{11})_C\d{1,6}", re.ASCII)
"""Names in the authors' releases of VFHQ."""
NUMBERED = re.compile(r"_C?\d{1,6}$", re.ASCII)
FACE = Box(corners=(0.1 / 1.2, 0.0, 1.1 / 1.2, 1 / 1.1), width=1, height=1)
"""The face in a crop, as shares of it: the crop is a tenth wider on each side and goes on below by a tenth."""


def list_highsync(root: Path) -> Iterator[SourceVideo]:
    """Yield the clips below a folder: a video, or else the folder of its pictures, whose sound is `audios/<stem>.wav`.

    Features in `audio_emb_whisper` are never opened.
    """
    videos: dict[str, str] = {}
    images: dict[str, str] = {}
    sounds: dict[str, str] = {}
    strays: list[str] = []
    splits: dict[str, str] = {}
    for path in sorted(walk(root)):
        if found := IMAGE.fullmatch(path):
            images[found["stem"]] = found["clip"]
        elif is_media(path):
            found = MEDIA.fullmatch(path)
            kind = {"videos": videos, "audios": sounds}[found["kind"]] if found else None
            strays.append(path) if found is None or kind is None else kind.setdefault(found["stem"], path)
        elif found := LIST.fullmatch(path):
            yield from _read_list(root, path, found["split"], splits)
    yield from _clips(videos, images, splits)
    for stem in sorted((set(sounds) | set(splits)) - set(videos) - set(images)):
        detail = f"{sounds.get(stem, 'a list of clips')} names it; neither videos/{stem}.mp4 nor images/{stem}"
        yield SourceVideo(path=f"images/{printable(stem)}", reason="unavailable", detail=detail)
    for path in strays:
        detail = "lies where this source has no clips; --source folder takes any file"
        yield SourceVideo(path=path, reason="annotation_missing", detail=detail)


def _clips(videos: dict[str, str], images: dict[str, str], splits: dict[str, str]) -> Iterator[SourceVideo]:
    for stem, path in {**images, **videos}.items():
        found = YOUTUBE.fullmatch(stem)
        identity = NUMBERED.sub("", stem)
        yield SourceVideo(
            path=path,
            identity=identity,
            youtube_id=found and found["id"],
            split=splits.get(stem),
            spans=(Span(name=stem, where=path, box=FACE, identity=identity),),
        )
    for stem in sorted(set(videos) & set(images)):
        # Its sound has times, which the wav made of it has lost.
        yield SourceVideo(path=images[stem], reason="duplicate", detail=f"made of {videos[stem]}, which is used")


def _read_list(root: Path, path: str, split: str, splits: dict[str, str]) -> Iterator[SourceVideo]:
    """Put the clips of a list into their split; its paths are those of another machine, so names alone count."""
    try:
        entries = json.loads((root / path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        yield refuse(path, f"not valid JSON ({error})")
        return
    for number, entry in enumerate(entries if isinstance(entries, list) else [None], start=1):
        image = entry.get("image_path") if isinstance(entry, dict) else None
        if isinstance(image, str) and PurePosixPath(image).name:
            splits[PurePosixPath(image).name] = split
        else:
            yield refuse(f"{path}:entry {number}", "no image_path")
