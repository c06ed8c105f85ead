"""The clips of one dataset that a run may use, and their frames out of memory-mapped shards.

Conditions such as `sync_confidence>5` on `clips.parquet` choose among them: one column, one comparison, one value.
"""

import logging
import operator
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...manifests.dataset import open_dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.settings import Table
from ...manifests.shards import Shard
from ...manifests.storage import digest

COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|!=|==|>|<)\s*(.+?)\s*")


def parse_conditions(texts: Sequence[str], schema: pa.Schema) -> pc.Expression | None:
    """Turn conditions into one expression that holds where all of them do; a clip without the value does not pass.

    Raises:
        ConfigError: not of the form `column>value`, a column that the table has not, a value of another type.
    """
    expression = None
    for text in texts:
        condition = _parse(text, schema)
        expression = condition if expression is None else expression & condition
    return expression


def columns_of(texts: Sequence[str]) -> list[str]:
    """Return the columns that conditions name."""
    return [match[1] for text in texts if (match := CONDITION.fullmatch(text))]


def _parse(text: str, schema: pa.Schema) -> pc.Expression:
    match = CONDITION.fullmatch(text)
    if match is None:
        raise ConfigError(f"data.where: {text} cannot be read; write column>value, such as sync_confidence>5")
    name, sign, value = match.groups()
    if name not in schema.names:
        raise ConfigError(f"data.where: clips.parquet has no column {name}; see docs/dataset.md for those it has")
    kind = schema.field(name).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind)):
        raise ConfigError(f"data.where: {name} holds no single number or word; choose another column")
    try:
        # A float32 is compared with a float32, so that a value that equals its limit passes; integers may meet 1.5.
        exact = kind if pa.types.is_floating(kind) else pa.float64()
        typed = pa.scalar(value) if pa.types.is_string(kind) else pa.scalar(float(value), exact)
    except ValueError:
        raise ConfigError(f"data.where: {name} is a number and {value} is none; write one") from None
    return COMPARISONS[sign](pc.field(name), pc.scalar(typed))


log = logging.getLogger(__name__)

Split = Literal["train", "val"]
COLUMNS = ("clip_id", "shard", "row_group", "num_frames", "verdict", "split")


class ClipFrames:
    """The frames of one clip; indexing by a column gives [L, *shape], a read-only view that costs no read by itself."""

    def __init__(self, shard: Shard, row_group: int, num_frames: int) -> None:
        self._shard = shard
        self._row_group = row_group
        self.num_frames = num_frames

    def __contains__(self, column: str) -> bool:
        return column in self._shard.columns

    def __getitem__(self, column: str) -> np.ndarray:
        return self._shard.read(self._row_group, column)


class ClipPool:
    """The kept clips of one split of one dataset, in the order of their ids.

    Args:
        path: a dataset's folder.
        split: `train` or `val`.
        selection: a named selection of the dataset; empty for its own verdicts.
        where: conditions on `clips.parquet`; see `conditions`.
        min_frames: shorter clips are left out, counted and warned of.
        max_open_shards: two files stay open for each.

    Raises:
        DatasetError: no dataset, no such selection, or no clip is left.
        ConfigError: a condition that cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        split: Split,
        selection: str = "",
        where: Sequence[str] = (),
        min_frames: int = 1,
        max_open_shards: int = 400,
    ) -> None:
        self.path = path
        self.split = split
        self._dataset = open_dataset(path, selection or None)
        condition = parse_conditions(where, self._dataset.clip_schema)
        wanted = (pc.field("verdict") == "kept") & pc.field("shard").is_valid() & (pc.field("split") == split)
        table = self._dataset.clips(list(dict.fromkeys([*COLUMNS, *columns_of(where)])))
        table = table.filter(wanted if condition is None else wanted & condition)
        table = self._long_enough(table, min_frames).sort_by("clip_id")
        if not len(table):
            raise DatasetError(
                f"{path}: no {split} clip of {min_frames} frames or more is left; "
                "widen data.where, or build with other limits (select.val_share makes val clips)"
            )
        shards = table["shard"].combine_chunks().dictionary_encode()
        self._names: list[str] = shards.dictionary.to_pylist()
        self._ids = table["clip_id"].combine_chunks()
        self._places = np.stack([shards.indices, table["row_group"], table["num_frames"]], axis=1).astype(np.int32)
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._max_open = max_open_shards
        self._lock = Lock()

    def _long_enough(self, table: pa.Table, min_frames: int) -> pa.Table:
        kept = table.filter(pc.field("num_frames") >= min_frames)
        self.num_short = len(table) - len(kept)
        if self.num_short:
            log.warning("%s: %d %s clips are shorter than %d frames; left out",
                        self.path, self.num_short, self.split, min_frames)  # fmt: skip
        return kept

    def __len__(self) -> int:
        return len(self._places)

    def clip_id(self, index: int) -> str:
        """Return the id of a clip."""
        return self._ids[index].as_py()

    def frames(self, index: int) -> ClipFrames:
        """Return the frames of a clip; safe to call from several threads.

        Raises:
            DatasetError: its shard holds another clip in its place.
        """
        shard, row_group, num_frames = self._places[index].tolist()
        opened = self._open(shard)
        opened.check(row_group, self.clip_id(index), num_frames)
        return ClipFrames(opened, row_group, num_frames)

    def any_shard(self) -> Shard:
        """Return the shard of the first clip."""
        return self._open(int(self._places[0, 0]))

    @property
    def build(self) -> Table:
        """Settings that the dataset was built with."""
        return dict(self._dataset.index.config)

    def fingerprint(self) -> str:
        """Return the identity of these clips and of the bytes of their shards: equal ones give equal samples."""
        hashes = {shard.path: shard.sha256 for shard in self._dataset.index.shards}
        return digest("clips", self._ids.to_pylist(), self._places[:, 1:].tolist(), [hashes[n] for n in self._names])

    def _open(self, number: int) -> Shard:
        with self._lock:
            shard = self._shards.get(number)
            if shard is None:
                shard = self._shards[number] = Shard(self._dataset.shard_path(self._names[number]))
                if len(self._shards) > self._max_open:
                    self._shards.popitem(last=False)  # its files close with its last view
            else:
                self._shards.move_to_end(number)
            return shard
