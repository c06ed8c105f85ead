"""Compare a file with the one that was probed: by size, time of change and inode, else by its hash."""

from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path

from ...manifests.errors import MediaError
from ...manifests.storage import sha256_file
from . import image_folder


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """Facts that tell a file from one that was put in its place, without reading it."""

    size_bytes: int
    changed_ns: int
    inode: int | None = None
    """None: not known, and not compared."""

    def to_list(self) -> list[int | None]:
        """Return JSON values."""
        return list(astuple(self))

    @staticmethod
    def of_list(values: list[int | None]) -> "FileFacts":
        """Turn JSON values back into facts."""
        size_bytes, changed_ns, inode = values
        return FileFacts(size_bytes=size_bytes or 0, changed_ns=changed_ns or 0, inode=inode)

    def agrees(self, other: "FileFacts") -> bool:
        """Tell whether nothing speaks for another file."""
        same = (self.size_bytes, self.changed_ns) == (other.size_bytes, other.changed_ns)
        return same and (None in (self.inode, other.inode) or self.inode == other.inode)


def facts_of(path: Path) -> FileFacts:
    """Return the facts of a file, or of a folder of pictures and its sound; raise `OSError` when it is not there."""
    stat = path.stat()
    if path.is_dir():
        size_bytes, changed_ns = image_folder.facts(path)
        return FileFacts(size_bytes=size_bytes, changed_ns=changed_ns, inode=stat.st_ino)
    return FileFacts(size_bytes=stat.st_size, changed_ns=stat.st_mtime_ns, inode=stat.st_ino)


def content_hash(path: Path) -> str:
    """Return the identity of a content: the sha256 of a file, or of a folder's pictures and sound."""
    return image_folder.sha256(path) if path.is_dir() else sha256_file(path)


def check_content(path: Path, probed: FileFacts | None, video_id: str) -> FileFacts | None:
    """Return the facts of a file that is about to be read; None when it was never probed and nothing is compared.

    A file that looks otherwise than when it was probed (a copy, another mount) is hashed, once per process.

    Raises:
        MediaError: `source_changed`, it holds something else now; `unavailable`, it is gone or cannot be read.
    """
    if probed is None:
        return None
    try:
        now = facts_of(path)
        if not probed.agrees(now) and (probed.size_bytes != now.size_bytes or not _holds(path, now, video_id)):
            raise MediaError("source_changed", "holds something else than when it was probed; build again")
    except OSError as error:
        raise MediaError("unavailable", f"cannot be read ({error.strerror or error})") from error
    return now


def check_unchanged(path: Path, before: FileFacts | None) -> None:
    """Raise `MediaError` when a file is not the one any more that `check_content` returned the facts of."""
    try:
        if before is not None and not before.agrees(facts_of(path)):
            raise MediaError("source_changed", "was replaced or written to while it was read; build again")
    except OSError as error:
        raise MediaError("unavailable", f"cannot be read ({error.strerror or error})") from error


@lru_cache(maxsize=4096)
def _holds(path: Path, _now: FileFacts, video_id: str) -> bool:
    """Tell whether a file holds a content; its facts make another file under the same path another question."""
    return content_hash(path) == video_id
