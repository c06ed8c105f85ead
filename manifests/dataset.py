"""A dataset on disk, opened for reading: its index, its tables, its shards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import DatasetError
from .schema import CLIP_SCHEMA, SCHEMA_VERSION, VIDEO_SCHEMA, Column
from .shards import Shard
from .storage import read_json


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A kept clip that is on disk; what it reads are views of a memory map, which nobody can write to."""

    clip_id: str
    shard: str
    row_group: int
    num_frames: int
    split: str | None = None
    """train, val or test."""
    dataset: "Dataset" = field(repr=False, compare=False)

    @property
    def columns(self) -> dict[str, Column]:
        """What is stored of each frame."""
        return self.dataset.shard(self.shard).columns

    def read(self, column: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read frames `start:stop` of a column as [T, *shape]; raise `KeyError` for one that the dataset has not."""
        return self.dataset.read(self, column, start, stop)

    def latents(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read latents: [T, 4, 64, 64] float16, posterior mean x scaling."""
        return self.read("latent", start, stop)

    def audio_features(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read the sound as the dataset's backend describes it, float16.

        Whisper's encoder states [T, 2, layers, width] at 50 Hz, or log-mel [T, 4, 80] at 100 Hz.

        Raises:
            DatasetError: the dataset has neither.
        """
        for name in ("whisper", "logmel"):
            if name in self.columns:
                return self.read(name, start, stop)
        raise DatasetError(f"{self.dataset.path}: has no audio features; build with audio.backend=whisper or logmel")

    def sound(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read the sound itself: [640 T] int16, 16 kHz mono."""
        return self.read("pcm", start, stop).reshape(-1)

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Yield each frame as its columns: name to [*shape]; files (JPEG crops) as `bytes`."""
        names = list(self.columns) if columns is None else columns
        arrays = {name: self.read(name) for name in names}
        for place in range(self.num_frames):
            yield {name: array[place] for name, array in arrays.items()}


class Dataset:
    """What `dataset.json` names, and nothing else.

    Args:
        path: the output folder of a build.

    Raises:
        DatasetError: not a dataset, not finished, or written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "dataset.json").is_file():
            raise DatasetError(f"{path}: no dataset.json; name a finished dataset, or let `hs-data build` finish it")
        self.index: dict[str, Any] = read_json(path / "dataset.json")
        if self.index["schema_version"] > SCHEMA_VERSION:
            raise DatasetError(f"{path}: schema {self.index['schema_version']} is newer than this hs-data; upgrade it")
        self._shards: dict[str, Shard] = {}

    def videos(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row per input file."""
        return self._table("videos.parquet", VIDEO_SCHEMA, columns)

    def clips(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row per candidate clip, kept or not."""
        return self._table("clips.parquet", CLIP_SCHEMA, columns)

    @cached_property
    def kept(self) -> list[Clip]:
        """The clips to train on, in the order of the table."""
        table = self.table(["clip_id", "shard", "row_group", "num_frames", "split"])
        return [Clip(**row, dataset=self) for row in table.to_pylist()]

    def split(self, name: str) -> list[Clip]:
        """Return the clips of one split: train, val or test."""
        return [clip for clip in self.kept if clip.split == name]

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of `clips.parquet` for the clips to train on, in the order of iteration."""
        names = None if columns is None else list(dict.fromkeys([*columns, "verdict", "shard"]))
        table = self.clips(names).filter((pc.field("verdict") == "kept") & pc.field("shard").is_valid())
        return table if columns is None else table.select(list(columns))

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


def open_dataset(path: Path | str) -> Dataset:
    """Open a dataset folder for reading."""
    return Dataset(Path(path))
