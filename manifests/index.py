"""The index of a dataset, `dataset.json`: its reader, its writer, and the hashes by which a changed byte is told.

The index holds the sha256 of the tables and, as its last field, that of its own text without this field.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import DatasetError
from .schema import SCHEMA_VERSION
from .storage import as_json, inside, read_json, sha256_file, write_json

INDEX = "dataset.json"
CLIPS, VIDEOS = TABLES = ("clips.parquet", "videos.parquet")
SEAL = "sha256"
PENDING = "pending_tables"
"""Hashes of tables that are about to take the place of those that `tables` states; gone when they have."""
UNSEALED = frozenset(
    {"schema_version", "hs_data_version", "key", "source", "preset", "config", "selection", "built_select"}
    | {"fingerprints", "models", "counts", "shards", "tables", "merged"}
)
"""Every field of an index that was written before it had a hash of its own."""
Index = dict[str, Any]


def read_index(root: Path) -> Index:
    """Read the index; every shard that it names lies in the dataset.

    Raises:
        DatasetError: missing, damaged, written by a newer version, or naming what lies elsewhere.
    """
    path = root / INDEX
    if not path.is_file():
        raise DatasetError(f"{root}: no {INDEX}; name a finished dataset, or let `hs-data build` finish it")
    index = read_json(path)
    try:
        version, names = index["schema_version"], [entry["path"] for entry in index["shards"]]
        is_newer = version > SCHEMA_VERSION
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: damaged ({error!r}); restore it or build again") from error
    if is_newer:
        raise DatasetError(f"{root}: schema {version} is newer than this hs-data; upgrade it")
    for name in names:
        inside(root, name, said_by=INDEX)
    return index


def write_index(root: Path, index: Mapping[str, Any]) -> None:
    """Write the index atomically, with its hash."""
    write_json(root / INDEX, _sealed(index))


def _sealed(index: Mapping[str, Any]) -> Index:
    body = {name: value for name, value in index.items() if name != SEAL}
    return {**body, SEAL: hashlib.sha256(as_json(body)).hexdigest()}


def index_fault(root: Path) -> str | None:
    """Say what is wrong with the text of the index; None where it is as it was written, or older than its hash."""
    index, content = read_json(root / INDEX), (root / INDEX).read_bytes()
    if SEAL not in index:
        strange = sorted(set(index) - UNSEALED)
        return f"holds {strange[0]!r}, which no version wrote" if strange else None
    try:
        # The text itself is compared: a tab for a space would leave the values as they are.
        is_whole = content == as_json(_sealed(index))
    except ValueError:  # numbers and letters that are never written
        is_whole = False
    return None if is_whole else "has another sha256 than it says of itself"


def hash_tables(root: Path) -> dict[str, str]:
    """Return the sha256 of the tables, by name."""
    return {name: sha256_file(root / name) for name in TABLES}


def tables_are_whole(root: Path) -> bool:
    """Tell whether index and tables are those that were written together; a kill may have come between."""
    if not all((root / name).is_file() for name in TABLES):
        return False
    return index_fault(root) is None and read_index(root).get("tables") == hash_tables(root)


def altered(root: Path, index: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables whose bytes are neither those that the index states nor those that were to replace them."""
    for name, sha256 in index.get("tables", {}).items():
        known = {sha256, index.get(PENDING, {}).get(name)}
        path = inside(root, name, said_by=INDEX)
        if path.is_file() and sha256_file(path) not in known:
            yield name


def require_unaltered(root: Path) -> None:
    """Refuse a dataset whose index or tables changed since they were written: what is written anew would hide it.

    Raises:
        DatasetError: names the file.
    """
    wrong = [INDEX] if index_fault(root) else list(altered(root, read_index(root)))
    if wrong:
        what = "not the bytes that were written"
        raise DatasetError(f"{root / wrong[0]}: {what}; see `hs-data verify {root}`, restore the file or build again")
