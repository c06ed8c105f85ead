"""Columns of candidate clips, as arrays: what limits judge without a Python object for each of a million clips."""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class ScoreColumns:
    """Candidate clips by columns.

    Args:
        table: columns of the score table; what is bulky may be missing.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def numbers(self, name: str) -> np.ndarray:
        """Return a number column, [N]; NaN where nothing was measured.

        float32 stays float32, so that a value that equals its limit passes.
        """
        column = self._table[name]
        return (column if column.type == pa.float32() else column.cast(pa.float64())).to_numpy()

    def codes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """Return a text column as codes [N] int32 and the words they stand for; -1: null."""
        column = self._table[name].combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        return chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False), chunk.dictionary.to_pylist()

    def equals(self, name: str, word: str) -> np.ndarray:
        """Tell where a text column says `word`, [N] bool."""
        codes, words = self.codes(name)
        return codes == words.index(word) if word in words else np.zeros(len(self), bool)

    def ids(self, indices: np.ndarray | list[int]) -> list[str]:
        """Return the ids of the clips at these indices."""
        return self._table["clip_id"].take(pa.array(indices, pa.int64())).to_pylist()

    def by_id(self, indices: np.ndarray) -> np.ndarray:
        """Return indices sorted by clip id: ids are hashes, so the first ones are a sample that stays as data grow."""
        ids = self._table["clip_id"].take(pa.array(indices, pa.int64()))
        order = pc.call_function("sort_indices", [ids], pc.SortOptions()).to_numpy().astype(np.int64)
        return indices[order]

    @cached_property
    def has_face(self) -> np.ndarray:
        """[N] bool."""
        return self._table["track"].is_valid().to_numpy()
