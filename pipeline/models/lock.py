"""`models.lock.json`: hashes of files that have no published one, recorded when they came, and checked from then on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from ...manifests.errors import ModelError
from ...manifests.storage import write_json

FILE = "models.lock.json"
GUARD_S = 60.0
"""Longest wait for another process that writes the file, which takes milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Facts of a file as it came."""

    filename: str
    sha256: str
    size_bytes: int
    source: str
    """Address that it was downloaded from, or a note that it was there."""


def read_lock(folder: Path) -> dict[str, Record]:
    """Return the records by model name.

    Raises:
        ModelError: the file is damaged.
    """
    file = folder / FILE
    try:
        return {name: Record(**entry) for name, entry in json.loads(file.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: damaged ({error}); restore it, or remove it to have hashes recorded anew") from error


def record(folder: Path, name: str, new: Record) -> None:
    """Record the hash of a model, for good.

    Raises:
        ModelError: another process has just recorded another hash.
        OSError: the folder cannot be written to.
    """
    with FileLock(folder / ".models.lock", timeout=GUARD_S):
        table = read_lock(folder)
        if table.setdefault(name, new).sha256 != new.sha256:
            raise ModelError(changed(folder, name, new.sha256))
        write_json(folder / FILE, {key: asdict(entry) for key, entry in sorted(table.items())})


def changed(folder: Path, name: str, sha256: str) -> str:
    """Say that a file is not the one that was recorded, and what to do."""
    recorded = read_lock(folder)[name].sha256
    return (
        f"{name}: has sha256 {sha256[:12]}…, and {recorded[:12]}… is recorded in {folder / FILE}; "
        f"if the new file is right, remove `{name}` there, otherwise remove the new file"
    )
