"""A dataset on disk, opened for reading: its index, its tables, its shards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import selections
from .errors import DatasetError
from .schema import CLIP_SCHEMA, SCHEMA_VERSION, VIDEO_SCHEMA
from .selections import Selection
from .shards import Shard
from .storage import read_json


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A kept clip that is on disk."""

    clip_id: str
    shard: str
    row_group: int
    num_frames: int


class Dataset:
    """What `dataset.json` names, and nothing else.

    Args:
        path: the output folder of a build.
        selection: one of its named selections, whose limits, verdicts and counts then stand for the dataset's own.

    Raises:
        DatasetError: not a dataset, not finished, or written by a newer version; or there is no such selection.
        ConfigError: a selection's name that is none.
    """

    def __init__(self, path: Path, selection: str | None = None) -> None:
        self.path = path
        if not (path / "dataset.json").is_file():
            raise DatasetError(f"{path}: no dataset.json; name a finished dataset, or let `hs-data build` finish it")
        self.index: dict[str, Any] = read_json(path / "dataset.json")
        if self.index["schema_version"] > SCHEMA_VERSION:
            raise DatasetError(f"{path}: schema {self.index['schema_version']} is newer than this hs-data; upgrade it")
        self._shards: dict[str, Shard] = {}
        self.selection = selections.load(path, selection) if selection else None
        if self.selection is not None:
            self._index_by(self.selection)

    def _index_by(self, selection: Selection) -> None:
        """Let the index state the limits and the counts of a selection."""
        if selection.facts["scores"] != self.index["fingerprints"].get("score"):
            how = f"run  hs-data select {self.path} --name {selection.name}"
            raise DatasetError(f"selection {selection.name}: made of other scores than {self.path} has now; {how}")
        config = {**self.index["config"], "select": selection.facts["select"]}
        counts = selections.count_clips(self.clips(["verdict", "shard", "num_frames"]))
        self.index |= {"config": config, "counts": self.index["counts"] | counts}

    @property
    def own_folder(self) -> Path:
        """Where what is made of the verdicts lies: the dataset, or the named selection in it."""
        return self.path if self.selection is None else selections.folder_of(self.path, self.selection.name)

    def videos(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row per input file."""
        if self.selection is None:
            return self._table("videos.parquet", VIDEO_SCHEMA, columns)
        wanted = list(columns) if columns is not None else VIDEO_SCHEMA.names
        counted = list(dict.fromkeys([*wanted, "video_id", "num_clips", "num_kept"]))
        videos = self._table("videos.parquet", VIDEO_SCHEMA, counted)
        return selections.count_kept(videos, self.clips(["video_id", "verdict"])).select(wanted)

    def clips(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row per candidate clip, kept or not."""
        if self.selection is None:
            return self._table("clips.parquet", CLIP_SCHEMA, columns)
        wanted = list(columns) if columns is not None else CLIP_SCHEMA.names
        with_id = list(dict.fromkeys([*wanted, "clip_id"]))
        return self.judged(self._table("clips.parquet", CLIP_SCHEMA, with_id)).select(wanted)

    def judged(self, clips: pa.Table) -> pa.Table:
        """Return clips, read from the file with their ids, with the verdicts that count."""
        return clips if self.selection is None else self.selection.over(clips)

    @cached_property
    def kept(self) -> list[Clip]:
        """The clips to train on, in the order of the table."""
        table = self.clips(["clip_id", "shard", "row_group", "num_frames", "verdict"])
        table = table.filter((pc.field("verdict") == "kept") & pc.field("shard").is_valid())
        return [Clip(**row) for row in table.drop_columns(["verdict"]).to_pylist()]

    def shard(self, name: str) -> Shard:
        """Open a shard by its path below the dataset; it stays open."""
        if name not in self._shards:
            self._shards[name] = Shard(self.path / name)
        return self._shards[name]

    def read(self, clip: Clip, column: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read frames `start:stop` of a column of a clip as [T, *shape]."""
        return self.shard(clip.shard).read(clip.row_group, column, start, stop)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    def _table(self, name: str, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
        names = list(columns) if columns is not None else None
        try:
            # Columns that came later are null in an older dataset.
            return pq.read_table(self.path / name, columns=names, schema=schema)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{self.path / name}: cannot be read ({error}); build again") from error


def open_dataset(path: Path | str, selection: str | None = None) -> Dataset:
    """Open a dataset folder for reading, as it is or under one of its named selections."""
    return Dataset(Path(path), selection)
