"""Any tree of video files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..errors import SourceError

MEDIA_SUFFIXES = frozenset(
    {
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"),
        *(".ogv", ".ts", ".vob", ".webm", ".wmv"),
        *(".flac", ".m4a", ".mp3", ".ogg", ".wav"),
    }
)
"""What counts as an input; audio files too, so that they end with a reason instead of unseen."""


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """An input file, and what its source says about it."""

    path: str
    """Below the source folder, `/` between parts."""
    identity: str | None = None
    """Who is seen, where the source says so."""


def list_folder(root: Path) -> Iterator[SourceVideo]:
    """Yield the media files below a folder, sorted by path.

    Hidden files and folders and datasets of our own are passed over; linked folders are followed, each once.
    """
    found: list[str] = []
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        if real in seen or is_dataset(Path(folder)):
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        media = [name for name in files if Path(name).suffix.lower() in MEDIA_SUFFIXES and not name.startswith(".")]
        found += [Path(folder, name).relative_to(root).as_posix() for name in media]
    for path in sorted(found):
        # Neither JSON nor Parquet holds a name that is not UTF-8: its bytes are spelled out, and the probe says so.
        yield SourceVideo(path=os.fsencode(path).decode(errors="backslashreplace"))


def _refuse(error: OSError) -> NoReturn:
    raise SourceError(f"{error.filename}: cannot be listed ({error.strerror}); mend its rights or take it out")


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder is an output of ours, finished or under way."""
    return (folder / "dataset.json").is_file() or (folder / "work" / "plan").is_dir()
