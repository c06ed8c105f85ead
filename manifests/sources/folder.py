"""Any tree of video files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ..errors import SourceError
from .annotations import SourceVideo

AUDIO_SUFFIXES = frozenset({".flac", ".m4a", ".mp3", ".ogg", ".wav"})
MEDIA_SUFFIXES = AUDIO_SUFFIXES | {
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"),
    *(".ogv", ".ts", ".vob", ".webm", ".wmv"),
}
"""Endings of inputs; audio files too, so that they end with a reason instead of unseen."""


def list_folder(root: Path) -> Iterator[SourceVideo]:
    """Yield the media files below a folder, sorted by path."""
    for path in list_media(root):
        yield SourceVideo(path=path)


def list_media(root: Path) -> list[str]:
    """Return the media files below a folder, sorted by path."""
    # Neither JSON nor Parquet holds a name that is not UTF-8: its bytes are spelled out, and the probe says so.
    found = sorted(path for path in walk(root) if is_media(path))
    return [os.fsencode(path).decode(errors="backslashreplace") for path in found]


def is_media(path: str) -> bool:
    """Tell by its ending whether a file is an input."""
    return os.path.splitext(path)[1].lower() in MEDIA_SUFFIXES


def walk(root: Path) -> Iterator[str]:
    """Yield the files below a folder by their paths below it, in no order.

    Hidden files and folders and datasets of our own are passed over; linked folders are followed, each once.
    """
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        if real in seen or is_dataset(Path(folder)):
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        below = Path(folder).relative_to(root)
        yield from ((below / name).as_posix() for name in files if not name.startswith("."))


def _refuse(error: OSError) -> NoReturn:
    raise SourceError(f"{error.filename}: cannot be listed ({error.strerror}); mend its rights or take it out")


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder is an output of ours, finished or under way."""
    return (folder / "dataset.json").is_file() or (folder / "work" / "plan").is_dir()
