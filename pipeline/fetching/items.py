"""Items to fetch, and the interface of what fetches them."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from ...manifests.errors import SourceError
from ...manifests.sources import Source
from ...manifests.sources.annotations import YOUTUBE_ID, SourceVideo
from ...manifests.sources.folder import AUDIO_SUFFIXES, is_media, list_media, walk
from ...manifests.storage import atomic_path

VIDEO_FOLDER = "videos"
"""Below the output; readers find full videos at any depth, by the YouTube id."""
SPLIT_LISTS = ("train.txt", "val.txt", "test.txt")
"""At the root of a source: what HDTF's and LRS2's readers take official splits from."""

FollowBytes = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes there will be, if the server says."""


@dataclass(frozen=True, kw_only=True)
class FetchItem:
    """One file to fetch."""

    id: str
    """YouTube id, or path in a repository of the Hub; unique in a run."""
    name: str
    """Name that the source has for it."""
    path: str
    """Its path below the output, `/` between parts, without ending."""
    size_bytes: int | None = None
    sha256: str | None = None
    status: str = "waiting"
    """`waiting`, or why there is nothing to fetch."""


class Downloader(Protocol):
    """Interface of what brings the bytes of an item."""

    pause_s: float
    """Rest between two items, so that a site is not pressed."""

    def download(self, item: FetchItem, folder: Path, follow: FollowBytes) -> Sequence[Path]:
        """Put the file or files of an item into a folder of its own, going on with what an earlier try left there.

        Returns:
            The files: one with picture and sound, or one of each.

        Raises:
            FetchFault: how it ended instead.
            OSError: the disk.
        """
        ...


def listed_items(source: Source, root: Path, output: Path) -> tuple[list[FetchItem], int]:
    """Return the videos that a source names, in the order of its reader, each YouTube id once.

    Args:
        source: one whose annotations name YouTube ids.
        root: the folder with the annotations.
        output: where the videos go; what its reader finds there is `already_there`.

    Returns:
        The items, and how many records of the annotations cannot be read.

    Raises:
        SourceError: there is no such folder, or no annotation that names a video.
    """
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; name the one with the annotations. {source.guide()}")
    there = _found_ids(source, output)
    items: dict[str, FetchItem] = {}
    counts: Counter[str] = Counter()
    for video in source.list_videos(root):
        counts[video.reason or "ok"] += 1
        if video.reason in (None, "unavailable"):
            item = _item(video, there)
            items.setdefault(item.id, item)
    if not items:
        raise SourceError(f"{root}: no annotation of --source {source.name} names a video. {source.guide()}")
    return list(items.values()), counts["annotation_unreadable"]


def _item(video: SourceVideo, there: set[str]) -> FetchItem:
    youtube_id = video.youtube_id
    name = str(PurePosixPath(video.path).with_suffix(""))
    if youtube_id is None or not YOUTUBE_ID.fullmatch(youtube_id):
        return FetchItem(id=video.path, name=name, path=name, status="no_address" if video.reason else "already_there")
    status = "already_there" if youtube_id in there else "waiting"
    return FetchItem(id=youtube_id, name=name, path=f"{VIDEO_FOLDER}/{youtube_id}", status=status)


def _found_ids(source: Source, output: Path) -> set[str]:
    """Return the YouTube ids of which nothing is missing in a folder."""
    if not output.is_dir():
        return set()
    videos = list(source.list_videos(output))
    missing = {video.youtube_id for video in videos if video.reason == "unavailable"}
    found = {video.youtube_id for video in videos if video.reason is None and video.youtube_id} - missing
    paths = [PurePosixPath(path) for path in list_media(output)]
    full = {
        path.stem for path in paths if path.suffix.lower() not in AUDIO_SUFFIXES and YOUTUBE_ID.fullmatch(path.stem)
    }
    return {*filter(None, found), *full}


def bring_annotations(source: Source, root: Path, output: Path) -> None:
    """Copy annotations and split lists into the output, so that the source's reader has all in one folder."""
    if root.resolve() == output.resolve():
        return
    for path in sorted(walk(root)):
        if not is_media(path) and (source.is_annotation(path) or path in SPLIT_LISTS):
            old, new = root / path, output / path
            if not new.is_file() or new.stat().st_size != old.stat().st_size or new.read_bytes() != old.read_bytes():
                with atomic_path(new) as temporary:
                    shutil.copyfile(old, temporary)
