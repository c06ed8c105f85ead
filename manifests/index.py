"""The index of a dataset, `dataset.json`: its record, its reader, its writer, and the hashes that tell a changed byte.

The index holds the sha256 of the tables and, as its last field, that of its own text without this field.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from .counts import Counts
from .errors import DatasetError
from .schema import SCHEMA_VERSION
from .settings import Table
from .storage import as_json, inside, read_json, sha256_file, write_json

INDEX = "dataset.json"
CLIPS, VIDEOS = TABLES = ("clips.parquet", "videos.parquet")
SEAL = "sha256"


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """A shard as the index states it."""

    path: str
    """Below the dataset."""
    sha256: str
    bytes: int
    rows: int
    """Frames, of clips that are no longer kept too."""
    clips: int = 0
    """Kept clips that lie in it."""


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Identity of the settings, models and code versions that made the scores and the shards."""

    score: str
    encode: str


@dataclass(frozen=True, kw_only=True)
class MergedDataset:
    """A dataset that another one was merged from."""

    source: str
    key: str
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class DatasetIndex:
    """All that a dataset states of itself."""

    schema_version: int = SCHEMA_VERSION
    hs_data_version: str
    key: str
    """Identity of what the tables say; `selected`, `split` or `forgotten` where a command changed them."""
    source: str
    preset: str
    config: Table
    """Settings by section."""
    selection: Table
    """Limits that `hs-data select` and `hs-data split` set, as a settings table."""
    built_select: Table
    """Keys of `[select]` without them."""
    fingerprints: Fingerprints
    models: tuple[Table, ...]
    """Name, sha256 and licence of each model in use."""
    counts: Counts = field(default_factory=Counts)
    shards: tuple[ShardEntry, ...] = ()
    """By path."""
    merged: tuple[MergedDataset, ...] = ()
    """Datasets that this one was merged from; of a build none."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """File name to sha256."""
    pending_tables: Mapping[str, str] = field(default_factory=dict)
    """Hashes of tables that are about to take the place of those that `tables` states; gone when they have."""

    def to_json(self) -> Table:
        """Return JSON values; `merged` and `pending_tables` only where there are any."""
        values = asdict(self)
        return {name: value for name, value in values.items() if value or name not in OPTIONAL}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the record of JSON values; a field that is missing or strange raises `KeyError` or `TypeError`."""
        values = {name: value for name, value in values.items() if name != SEAL}
        for name in (each.name for each in fields(cls) if each.name not in OPTIONAL):
            values[name]  # defaults are for those who make an index, not for what a file leaves out
        merged = [MergedDataset(**{**one, "counts": Counts(**one["counts"])}) for one in values.pop("merged", ())]
        return cls(
            fingerprints=Fingerprints(**values.pop("fingerprints")),
            models=tuple(values.pop("models")),
            counts=Counts(**values.pop("counts")),
            shards=tuple(ShardEntry(**entry) for entry in values.pop("shards")),
            merged=tuple(merged),
            **values,
        )


OPTIONAL = ("merged", "pending_tables")


def read_index(root: Path) -> DatasetIndex:
    """Read the index; every shard that it names lies in the dataset.

    Raises:
        DatasetError: missing, damaged, written by an older or a newer version, or naming what lies elsewhere.
    """
    path = root / INDEX
    if not path.is_file():
        raise DatasetError(f"{root}: no {INDEX}; name a finished dataset, or let `hs-data build` finish it")
    values = read_json(path)
    check_version(values.get("schema_version") if isinstance(values, dict) else None, root)
    try:
        index = DatasetIndex.from_json(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: damaged ({error!r}); restore it or build again") from error
    for shard in index.shards:
        inside(root, shard.path, said_by=INDEX)
    return index


def check_version(version: object, root: Path | str) -> None:
    """Raise `DatasetError` for the `schema_version` of a dataset that another version of hs-data made."""
    if type(version) is not int:
        raise DatasetError(f"{root}/{INDEX}: damaged (schema_version {version!r}); restore it or build again")
    if version > SCHEMA_VERSION:
        raise DatasetError(f"{root}: schema {version} is newer than this hs-data; upgrade it")
    if version < SCHEMA_VERSION:
        what = f"made by an earlier hs-data (schema {version}, this one has {SCHEMA_VERSION})"
        raise DatasetError(f"{root}: {what}; build it again into a new folder")


def write_index(root: Path, index: DatasetIndex) -> None:
    """Write the index atomically, with its hash."""
    write_json(root / INDEX, _sealed(index.to_json()))


def _sealed(values: Mapping[str, Any]) -> Table:
    body = {name: value for name, value in values.items() if name != SEAL}
    return {**body, SEAL: hashlib.sha256(as_json(body)).hexdigest()}


def index_fault(root: Path) -> str | None:
    """Say what is wrong with the text of the index; None where it is as it was written."""
    values, content = read_json(root / INDEX), (root / INDEX).read_bytes()
    if not isinstance(values, dict) or SEAL not in values:
        return "has no sha256 of itself"
    try:
        # The text itself is compared: a tab for a space would leave the values as they are.
        is_whole = content == as_json(_sealed(values))
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
    return index_fault(root) is None and read_index(root).tables == hash_tables(root)


def altered(root: Path, index: DatasetIndex) -> Iterator[str]:
    """Yield the tables whose bytes are neither those that the index states nor those that were to replace them."""
    for name, sha256 in index.tables.items():
        known = {sha256, index.pending_tables.get(name)}
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
