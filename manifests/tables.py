"""The one writer of a dataset's tables, counts, hashes and index."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .clip_rows import ROW_GROUP_ROWS, RowLocations, write_clips
from .commits import CommittedFile
from .counts import count_clips, count_videos
from .errors import DatasetError
from .index import CLIPS, INDEX, TABLES, VIDEOS, DatasetIndex, ShardEntry, index_fault, read_index, write_index
from .schema import VIDEO_SCHEMA
from .shards import describe_shard
from .storage import atomic_path, sha256_file

Row = dict[str, Any]
ORDER = (CLIPS, VIDEOS)


def write_tables(
    root: Path,
    index: DatasetIndex,
    *,
    clips: pa.Table,
    bulky: RowLocations,
    schema: pa.Schema,
    videos: pa.Table | None = None,
    order: Sequence[str] = ORDER,
) -> None:
    """Write the tables and, last of all, the index with their counts and hashes.

    Args:
        root: the dataset's folder.
        index: what it is to say, but for counts of the tables and hashes.
        clips: all candidates with the light columns of `schema`; other columns are left out.
        bulky: where their other columns lie.
        schema: columns of the table of clips, in order.
        videos: rows of `VIDEO_SCHEMA`; None: they stay as they are.
        order: in which the tables take the place of those that are there.

    Raises:
        DatasetError: a candidate has no known verdict, which is a bug of ours, or a file of scores cannot be read;
            nothing is written.
    """
    counts = replace(index.counts, **count_clips(clips), **(count_videos(videos) if videos is not None else {}))
    if counts.kept + counts.dropped + counts.errors != counts.candidates:
        raise DatasetError(f"{root}: candidates are not all accounted for ({counts}); report this")
    writers: dict[str, Callable[[Path], None]] = {CLIPS: lambda path: write_clips(path, clips, bulky, schema)}
    if videos is not None:
        writers[VIDEOS] = lambda path: _write_videos(path, videos)
    _replace(root, replace(index, counts=counts), {name: writers[name] for name in order if name in writers})


def _write_videos(path: Path, videos: pa.Table) -> None:
    pq.write_table(videos, path, compression="zstd", row_group_size=ROW_GROUP_ROWS)


def _replace(root: Path, index: DatasetIndex, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Write all tables beside the old ones, rename them in the given order, and write the index."""
    with ExitStack() as stack:
        # A stack ends with what it was given last, and the rename is the end of an atomic write.
        files = {name: stack.enter_context(atomic_path(root / name)) for name in reversed(list(writers))}
        for name, write in writers.items():
            write(files[name])
        hashes = {name: sha256_file(files[name]) for name in writers}
        if (root / INDEX).is_file() and index_fault(root) is None:
            # A kill between two renames leaves tables that the index does not state. It says beforehand which bytes are
            # to come, so that whoever goes on can tell them from bytes that somebody changed.
            write_index(root, replace(read_index(root), pending_tables=hashes))
    stated = {name: hashes.get(name) or sha256_file(root / name) for name in TABLES}
    write_index(root, replace(index, tables=stated, pending_tables={}))


def video_table(rows: Sequence[Row]) -> pa.Table:
    """Return rows of input files as a table of `VIDEO_SCHEMA`."""
    return pa.Table.from_pylist(list(rows), schema=VIDEO_SCHEMA)


def list_shards(root: Path, clips: pa.Table, known: Iterable[ShardEntry]) -> tuple[ShardEntry, ...]:
    """Return the index's entries for the shards that a clip table names, by path.

    Args:
        root: the dataset's folder.
        clips: with `shard` and `verdict`.
        known: shards whose facts are known; those that are not among them are read.
    """
    encoded = clips.select(["shard", "verdict"]).filter(pc.field("shard").is_valid())
    num_kept = Counter(encoded.filter(pc.field("verdict") == "kept")["shard"].to_pylist())
    entries = {entry.path: entry for entry in known}
    paths = sorted(set(encoded["shard"].to_pylist()))
    for path in paths:
        if path not in entries:
            entries[path] = shard_entry(describe_shard(root, path))
    return tuple(replace(entries[path], clips=num_kept[path]) for path in paths)


def shard_entry(file: CommittedFile) -> ShardEntry:
    """Return the index's entry for a shard, from what its commit says of it."""
    assert file.rows is not None  # it is no file of scores
    return ShardEntry(path=file.path, sha256=file.sha256, bytes=file.bytes, rows=file.rows)
