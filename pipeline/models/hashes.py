"""Hashes of weight files, remembered beside them: the largest takes a second or more, at each start of each worker."""

import json
from functools import cache
from pathlib import Path
from typing import TypedDict

from ...manifests.storage import sha256_file, write_json

FILE = ".hashes.json"
REMEMBER_BYTES = 16 << 20
"""Smaller files are hashed in the time that reading and writing the memory takes."""
Stamp = tuple[int, int, int, int]
"""Size, time of content, time of change and inode of a file."""


class Remembered(TypedDict):
    """Hash of a file, and the stamp that the file had."""

    stamp: list[int]
    sha256: str


def hash_file(path: Path, *, trust: bool = True) -> str:
    """Return the hex SHA-256 of a file.

    Args:
        path: the file.
        trust: whether to believe what was found before, as long as size, times and inode are the same.
    """
    stat = path.stat()
    stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    if not trust or stat.st_size < REMEMBER_BYTES:
        return sha256_file(path)
    known = _read(path.parent).get(path.name)
    if known is not None and known["stamp"] == list(stamp):
        return known["sha256"]
    sha256 = _hash_once(path, stamp)
    _remember(path, stamp, sha256)
    return sha256


@cache
def _hash_once(path: Path, stamp: Stamp) -> str:
    """Hash a file once in this process, for folders that cannot be written to."""
    return sha256_file(path)


def _read(folder: Path) -> dict[str, Remembered]:
    try:
        table = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it is a memory only: without it, files are hashed
    return table if isinstance(table, dict) else {}


def _remember(path: Path, stamp: Stamp, sha256: str) -> None:
    kept = {name: entry for name, entry in _read(path.parent).items() if (path.parent / name).is_file()}
    try:
        write_json(path.parent / FILE, {**kept, path.name: {"stamp": list(stamp), "sha256": sha256}})
    except OSError:
        return  # a folder that cannot be written to: hashed again next time
