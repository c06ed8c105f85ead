"""Rows of clips on their way to disk: what is bulky of a clip is copied row group by row group from where it lies.

A driver holds the light columns of all clips, some 500 bytes each, and of the bulky ones a row group at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import DatasetError
from .schema import BULKY, BULKY_FIELDS
from .storage import inside

ROW_GROUP_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class RowLocations:
    """Files and rows that hold the bulky columns of clips, in the order of the clips."""

    files: Sequence[Path]
    file: np.ndarray
    """[N] index into `files`."""
    row: np.ndarray
    """[N] int64, row in that file."""

    @staticmethod
    def of_scores(dataset: Path, clips: pa.Table) -> "RowLocations":
        """Return the locations that `read_scores` noted."""
        names = clips["scores_file"].combine_chunks().dictionary_encode()
        files = [inside(dataset, name) for name in names.dictionary.to_pylist()]
        return RowLocations(files=files, file=names.indices.to_numpy(), row=clips["scores_row"].to_numpy())

    @staticmethod
    def of_tables(files: Sequence[Path], lengths: Sequence[int]) -> "RowLocations":
        """Return the locations of all rows of some tables, one table after the other."""
        rows = [np.arange(length) for length in lengths]
        file = np.repeat(np.arange(len(files)), lengths)
        return RowLocations(files=files, file=file, row=np.concatenate([*rows, np.zeros(0, np.int64)]))

    def take(self, chosen: np.ndarray) -> "RowLocations":
        """Return the locations of some clips, chosen by their numbers or by a mask."""
        return RowLocations(files=self.files, file=self.file[chosen], row=self.row[chosen])


def write_clips(path: Path, clips: pa.Table, locations: RowLocations, schema: pa.Schema) -> None:
    """Write `clips.parquet`, or a file of scores.

    Args:
        path: file to write; the caller renames it when it is whole.
        clips: the light columns of `schema`; other columns are left out.
        locations: where the others lie.
        schema: columns of the file, in order.

    Raises:
        DatasetError: a file of scores cannot be read.
    """
    reader = _BulkyRows(locations)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, max(1, len(clips)), ROW_GROUP_ROWS):  # of no clips an empty group, as of a whole table
            light = clips.slice(start, ROW_GROUP_ROWS).combine_chunks()
            bulky = reader.read(start, len(light))
            columns = [(bulky if field.name in BULKY else light)[field.name] for field in schema]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP_ROWS)


class _BulkyRows:
    """Rows of many files; neighbours share files, so the row group that was read last is kept."""

    def __init__(self, locations: RowLocations) -> None:
        self._locations = locations
        self._open: tuple[int, pq.ParquetFile] | None = None
        self._last: tuple[tuple[int, int], pa.Table] | None = None

    def read(self, start: int, number: int) -> pa.Table:
        """Return the bulky columns of some clips that follow each other."""
        file, row = self._locations.file[start : start + number], self._locations.row[start : start + number]
        found, order = [_NO_ROWS], [np.zeros(0, np.int64)]
        for one in dict.fromkeys(file.tolist()):
            mine = np.flatnonzero(file == one)
            for group, first, inside_group in self._groups(one, row[mine]):
                found.append(self._group(one, group).take(pa.array(row[mine][inside_group] - first)))
                order.append(mine[inside_group])
        table, indices = pa.concat_tables(found), np.concatenate(order)
        if not np.array_equal(indices, np.arange(number)):
            table = table.take(pa.array(np.argsort(indices)))
        return table.combine_chunks()

    def _groups(self, file: int, rows: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield each row group that holds some of the rows: its number, its first row, and which of them."""
        metadata = self._file(file).metadata
        ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
        groups = np.searchsorted(ends, rows, side="right")
        for group in dict.fromkeys(groups.tolist()):
            yield group, int(ends[group - 1]) if group else 0, np.flatnonzero(groups == group)

    def _file(self, number: int) -> pq.ParquetFile:
        if self._open is None or self._open[0] != number:
            path = self._locations.files[number]
            try:
                self._open = number, pq.ParquetFile(path)
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{path}: cannot be read ({error}); remove it and build again") from error
        return self._open[1]

    def _group(self, file: int, group: int) -> pa.Table:
        if self._last is None or self._last[0] != (file, group):
            self._last = None
            self._last = (file, group), _read_bulky(self._file(file), group)
        return self._last[1]


_BULKY_SCHEMA = pa.schema([pa.field(name, kind) for name, kind in BULKY_FIELDS.items()])
_NO_ROWS = _BULKY_SCHEMA.empty_table()


def _read_bulky(file: pq.ParquetFile, group: int) -> pa.Table:
    """Read the bulky columns of a row group."""
    return file.read_row_group(group, columns=list(BULKY)).select(BULKY).cast(_BULKY_SCHEMA)
