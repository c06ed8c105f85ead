"""Shards: ordinary Parquet (row = frame, row group = clip) laid out so that a trainer can slice it as a memory map.

Blob columns are required `FixedSizeBinary`, uncompressed, without dictionary or statistics, one PLAIN page per column
chunk. The reader proves that layout for each row group before it trusts it, and otherwise reads through Parquet. A
column of files (JPEG crops) is required `Binary`, written the same way and always read through Parquet.
"""

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .commits import CommittedFile
from .errors import DatasetError
from .schema import SCHEMA_VERSION, Column
from .storage import sha256_file

FOOTER_KEY = b"hs_data"
ONE_PAGE_BYTES = 1 << 30
"""Page size limit far above any row group, so that a column chunk is one page."""
MAX_HEADER_BYTES = 64
"""A page header without statistics takes about 20 bytes; more than this means the layout is not ours."""


class ShardWriter:
    """Write clips into one shard, one row group each; use as a context manager.

    Args:
        path: file to create; the caller renames it when it is whole.
        columns: per-frame columns in order.
        contract: what a trainer must agree with, above all the latent contract; stored in the footer.
    """

    def __init__(self, path: Path, columns: Mapping[str, Column], contract: Mapping[str, Any]) -> None:
        self._columns = dict(columns)
        fields = [pa.field("clip_id", pa.string(), nullable=False), pa.field("frame", pa.int32(), nullable=False)]
        fields += [pa.field(name, column.stored_as, nullable=False) for name, column in columns.items()]
        footer = {
            "schema_version": SCHEMA_VERSION,
            "columns": {name: asdict(column) for name, column in columns.items()},
            "contract": dict(contract),
        }
        self._schema = pa.schema(fields, metadata={FOOTER_KEY: json.dumps(footer, sort_keys=True)})
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="NONE",
            use_dictionary=["clip_id"],  # type: ignore[arg-type] - takes columns too
            write_statistics=["clip_id", "frame"],  # type: ignore[arg-type]
            data_page_size=ONE_PAGE_BYTES,
        )
        self.num_clips = 0
        self.num_rows = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write_clip(self, clip_id: str, arrays: Mapping[str, np.ndarray]) -> int:
        """Append one clip and return its row group.

        Args:
            clip_id: the clip's id.
            arrays: column name to an array [T, ...] of the column's dtype and shape; [T] of `bytes` for files.

        Raises:
            ValueError: columns missing or too many, a wrong dtype or shape, lengths that differ.
        """
        if set(arrays) != set(self._columns):
            raise ValueError(f"{clip_id}: columns {sorted(arrays)} given, {sorted(self._columns)} expected")
        num_frames = len(next(iter(arrays.values())))
        if num_frames == 0:
            raise ValueError(f"{clip_id}: has no frames")
        data: list[pa.Array] = [
            pa.array([clip_id] * num_frames, pa.string()),
            pa.array(np.arange(num_frames, dtype=np.int32)),
        ]
        for name, column in self._columns.items():
            array = arrays[name]
            if array.dtype != np.dtype(column.dtype) or array.shape != (num_frames, *column.shape):
                raise ValueError(f"{clip_id}.{name}: {array.dtype}{array.shape}, expected {column} x {num_frames}")
            if column.is_file:
                data.append(pa.array(list(array), pa.binary()))
                continue
            blob = pa.py_buffer(np.ascontiguousarray(array))
            data.append(pa.FixedSizeBinaryArray.from_buffers(column.stored_as, num_frames, [None, blob]))
        table = pa.Table.from_arrays(data, schema=self._schema)
        self._writer.write_table(table, row_group_size=num_frames)
        self.num_clips += 1
        self.num_rows += num_frames
        return self.num_clips - 1


class Shard:
    """Read one shard. Arrays are read-only views of a memory map where the layout allows, else copies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
            footer = json.loads(self._file.schema_arrow.metadata[FOOTER_KEY])
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{path}: not a shard of hs-data ({error}); run `hs-data verify`") from error
        self.contract: dict[str, Any] = footer["contract"]
        self.columns = {
            name: Column(dtype=spec["dtype"], shape=tuple(spec["shape"])) for name, spec in footer["columns"].items()
        }
        self._check_widths()
        self._index = {self._file.metadata.schema.column(i).name: i for i in range(self._file.metadata.num_columns)}
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets: dict[tuple[int, str], int | None] = {}
        self._checked: set[tuple[int, str, int]] = set()

    def _check_widths(self) -> None:
        """Refuse a footer that promises other columns than the file has: its bytes would be read as other frames."""
        schema = self._file.schema_arrow
        for name, column in self.columns.items():
            if name not in schema.names or schema.field(name).type != column.stored_as:
                size = "of any size" if column.is_file else f"{column.width} bytes"
                raise DatasetError(f"{self.path}: {name} is not {size} a frame; run `hs-data verify`")

    def close(self) -> None:
        """Close the file; views that were read stay valid until they are dropped."""
        self._file.close()

    @property
    def num_row_groups(self) -> int:
        """Clips in the shard."""
        return self._file.metadata.num_row_groups

    @property
    def num_rows(self) -> int:
        """Frames in the shard."""
        return self._file.metadata.num_rows

    def num_frames(self, row_group: int) -> int:
        """Frames of one clip."""
        return self._file.metadata.row_group(row_group).num_rows

    def clip_id(self, row_group: int) -> str:
        """Return the id of the clip in a row group, from the column itself."""
        return self._file.read_row_group(row_group, columns=["clip_id"])["clip_id"][0].as_py()

    def check(self, row_group: int, clip_id: str, num_frames: int) -> None:
        """Raise `DatasetError` unless a row group holds this clip; asked once each, of the footer where it tells."""
        if (row_group, clip_id, num_frames) in self._checked:
            return
        there = 0 <= row_group < self.num_row_groups
        if not there or self.num_frames(row_group) != num_frames or self._stated_id(row_group) != clip_id:
            what = f"row group {row_group} is not clip {clip_id} of {num_frames} frames"
            raise DatasetError(f"{self.path}: {what}; run `hs-data verify`, then build again")
        self._checked.add((row_group, clip_id, num_frames))

    def _stated_id(self, row_group: int) -> str:
        """Return the id of the clip in a row group by its statistics, which cost no read, or else by its column."""
        stated = self._file.metadata.row_group(row_group).column(self._index["clip_id"]).statistics
        if stated is None or not stated.has_min_max or stated.min != stated.max:
            return self.clip_id(row_group)
        return stated.min

    def is_mapped(self, row_group: int, name: str) -> bool:
        """Tell whether a column chunk has the layout that can be sliced in place."""
        return self._offset(row_group, name) is not None

    def read(self, row_group: int, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read frames `start:stop` of one column of one clip as [T, *shape]; files as [T] of `bytes`."""
        column, rows = self.columns[name], self.num_frames(row_group)
        start, stop, _ = slice(start, stop).indices(rows)
        offset = self._offset(row_group, name)
        if offset is None:
            return self._read_slowly(row_group, name)[start:stop]
        count = max(0, stop - start) * math.prod(column.shape)
        flat = np.frombuffer(self._map, column.dtype, count=count, offset=offset + start * column.width)
        return flat.reshape(-1, *column.shape)

    def _read_slowly(self, row_group: int, name: str) -> np.ndarray:
        column = self.columns[name]
        chunk = self._file.read_row_group(row_group, columns=[name])[name].combine_chunks()
        if column.is_file:
            return np.array(chunk.to_pylist(), object)
        blob = b"".join(value.as_py() for value in chunk)
        return np.frombuffer(blob, column.dtype).reshape(-1, *column.shape)

    def _offset(self, row_group: int, name: str) -> int | None:
        key = (row_group, name)
        if key not in self._offsets:
            self._offsets[key] = self._find_blob(row_group, name)
        return self._offsets[key]

    def _find_blob(self, row_group: int, name: str) -> int | None:
        """Return where the raw bytes of a column chunk begin, or None when its layout is not the one we write."""
        if self.columns[name].is_file:
            return None
        group = self._file.metadata.row_group(row_group)
        chunk = group.column(self._index[name])
        size = group.num_rows * self.columns[name].width
        header_bytes = chunk.total_uncompressed_size - size
        if (
            chunk.compression != "UNCOMPRESSED"
            or chunk.has_dictionary_page
            or not {"PLAIN"} <= set(chunk.encodings) <= {"PLAIN", "RLE"}
            or not 0 < header_bytes <= MAX_HEADER_BYTES
            or self._file.schema_arrow.field(name).nullable
        ):
            return None
        header = self._map[chunk.data_page_offset : chunk.data_page_offset + header_bytes]
        return chunk.data_page_offset + header_bytes if _is_one_data_page(header, size) else None


def _is_one_data_page(header: bytes, size: int) -> bool:
    """Parse the first fields of a Thrift-compact PageHeader: type must be DATA_PAGE (0), both sizes the whole chunk."""
    position, numbers = 0, []
    for _ in range(3):
        if header[position : position + 1] != b"\x15":  # the next field, an i32
            return False
        value = shift = 0
        position += 1
        while position < len(header):
            byte = header[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append((value >> 1) ^ -(value & 1))
    return numbers == [0, size, size]


def describe_shard(root: Path, path: str) -> CommittedFile:
    """Return what commits and the index say of a shard."""
    whole = root / path
    metadata = pq.read_metadata(whole)
    return CommittedFile(
        path=path,
        sha256=sha256_file(whole),
        bytes=whole.stat().st_size,
        rows=metadata.num_rows,
        row_groups=metadata.num_row_groups,
    )
