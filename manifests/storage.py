"""Durable writes: a file is whole or absent, a marker is created once, and nothing is written outside its folder."""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import DatasetError
from .json_values import json_values

CHUNK_BYTES = 1 << 20
ABANDONED_S = 24 * 3600
"""No unit takes a day; a temporary file that old has no writer."""


def below(folder: Path, name: object) -> Path:
    """Return the path of a source file by its name relative to the source folder, where links are the user's own.

    Raises:
        DatasetError: an absolute name, or one with `..`.
    """
    path = _plain(name)
    if path is None:
        raise DatasetError(f"{folder}: {_shown(name)} leads out of the folder; do not use this dataset")
    return folder / path


def inside(root: Path, name: object, *, said_by: str = "") -> Path:
    """Return the path of what a dataset names below itself: every name out of an index, table or commit comes here.

    Args:
        root: the dataset's folder; it may be a link itself.
        name: relative, `/` between parts, without `..`; no link on the way leads out.
        said_by: the file below the dataset that says the name, for the message.

    Raises:
        DatasetError: a name that leads elsewhere.
    """
    path = _plain(name)
    if path is None or not Path(os.path.realpath(root / path)).is_relative_to(os.path.realpath(root)):
        what = "do not use it, or bring the file inside"
        raise DatasetError(f"{root / said_by}: {_shown(name)} leads out of the dataset; {what}")
    return root / path


def _plain(name: object) -> PurePosixPath | None:
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath()
    is_plain = path.parts and not path.is_absolute() and ".." not in path.parts and "\0" not in str(path)
    return path if is_plain else None


def _shown(name: object) -> str:
    return name if isinstance(name, str) and name and name.isprintable() else repr(name)


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest(*parts: object) -> str:
    """Return the hex SHA-256 of the canonical JSON of `parts`: the identity of units, clips and fingerprints."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """Write JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed, on failure removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_by_content(folder: Path, stem: str, write: Callable[[Path], None]) -> tuple[Path, str]:
    """Write `STEM-SHA12.parquet`, named by its own bytes, so that no attempt can overwrite what another one wrote.

    Returns:
        Its path, and its sha256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{stem}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        write(temporary)
        sync(temporary)
        sha256 = sha256_file(temporary)
        path = folder / f"{stem}-{sha256[:12]}.parquet"
        temporary.replace(path)  # over equal bytes, or over a file that was cut
        sync(folder)
    finally:
        temporary.unlink(missing_ok=True)
    return path, sha256


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically; a file that already holds these bytes is left untouched."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write JSON for people and programs, atomically: indented, in the order given."""
    write_bytes(path, as_json(value))


def as_json(value: object) -> bytes:
    """Return the bytes that `write_json` writes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=json_values)
    return (text + "\n").encode()


def read_json(path: Path) -> Any:  # noqa: ANN401 - what JSON holds
    """Read JSON; raise `DatasetError` that names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); is this a dataset made by hs-data?") from error
    except ValueError as error:
        raise DatasetError(f"{path}: damaged ({error}); restore it or build again") from error


def create_if_absent(path: Path, write: Callable[[Path], None]) -> bool:
    """Create `path` with the content that `write` puts into a temporary file, unless it exists.

    Returns:
        True when this call created it, False when another one had. `os.link` decides, so two racing writers on one
        file system cannot both win, and a reader never sees half a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(temporary)
        sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        sync(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed writers left in a folder; recent ones may belong to a writer that lives."""
    for path in folder.glob(".*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
        except FileNotFoundError:
            continue  # its writer has just finished


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
