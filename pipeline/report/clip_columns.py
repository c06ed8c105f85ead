"""The clip table by columns, as arrays: what a report of a million clips is computed from without a Python row each."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...manifests.dataset import Dataset
from ...manifests.errors import DatasetError
from ..score.columns import ScoreColumns
from ..score.registry import CLIP_SCHEMA

PER_FRAME = ("boxes", "landmarks", "mouth_opening", "sync_curve", "thumbnail", "failures")
"""Columns that are read for single clips, or in one pass that keeps nothing of them."""
REPEATED = (
    *("video_id", "path", "source", "identity", "start_kind", "end_kind", "sync_trust", "detail", "language"),
    *("verdict", "reason", "clip_class", "split", "crop_policy", "shard"),
)
"""Text columns that say the same many times."""


class ClipColumns(ScoreColumns):
    """All candidate clips of a dataset; about 300 bytes a clip are held.

    Args:
        dataset: an opened dataset.

    Raises:
        DatasetError: the table cannot be read.
    """

    def __init__(self, dataset: Dataset) -> None:
        path = dataset.path / "clips.parquet"
        try:
            self._file = pq.ParquetFile(path, read_dictionary=sorted(REPEATED))
            names = [name for name in self._file.schema_arrow.names if name not in PER_FRAME]
            super().__init__(dataset.judged(self._file.read(columns=names).unify_dictionaries()))
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: cannot be read ({error}); build again") from error
        self._dataset = dataset
        self._row_group_rows = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]

    def has_id(self, names: set[str]) -> np.ndarray:
        """Tell which clips go by one of these ids, [N] bool."""
        wanted = pc.SetLookupOptions(pa.array(sorted(names), pa.string()))
        return pc.call_function("is_in", [self._table["clip_id"]], wanted).to_numpy()

    @cached_property
    def order(self) -> np.ndarray:
        """Indices [N] of all clips, sorted by clip id."""
        return self.by_id(np.arange(len(self)))

    @cached_property
    def is_kept(self) -> np.ndarray:
        """[N] bool."""
        return self.equals("verdict", "kept")

    @cached_property
    def hours(self) -> np.ndarray:
        """[N] length of each clip, hours."""
        return self.numbers("duration_s") / 3600

    def rows(self, places: np.ndarray, names: list[str]) -> pa.Table:
        """Read columns of a few clips, bulky ones too, in the order of `places`; only their row groups are read."""
        ends = np.cumsum(self._row_group_rows)
        order = np.argsort(places, kind="stable")
        wanted = np.asarray(places, np.int64)[order]
        groups = np.searchsorted(ends, wanted, side="right")
        found = []
        for group in np.unique(groups):
            inside = wanted[groups == group] - (ends[group] - self._row_group_rows[group])
            rows = self._file.read_row_group(int(group), columns=[*dict.fromkeys([*names, "clip_id"])])
            found.append(self._dataset.judged(rows.take(pa.array(inside))).select(names))
        if not found:
            return CLIP_SCHEMA.empty_table().select(names)
        return pa.concat_tables(found).take(pa.array(np.argsort(order)))

    def pieces(self, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield a per-frame column row group by row group: its values, flat, and the length for each clip."""
        for group in range(self._file.num_row_groups):
            column = self._file.read_row_group(group, columns=[name])[name].combine_chunks()
            chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            lengths = chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            yield chunk.flatten().to_numpy(zero_copy_only=False), lengths
