"""A dataset on disk, opened for reading: its index, its tables, its shards."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import selections
from .counts import count_clips, recount_videos
from .errors import DatasetError
from .index import CLIPS, VIDEOS, DatasetIndex, read_index
from .records import FRAME_RATE
from .schema import FIXED_CLIP_SCHEMA, VIDEO_SCHEMA, Column
from .selections import Selection
from .shards import Shard
from .storage import inside

SPLITS = ("train", "val", "test")
"""In the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A kept clip that is on disk; what it reads are views of a memory map, which nobody can write to."""

    clip_id: str
    shard: str
    row_group: int
    num_frames: int
    split: str | None = None
    """train, val or test."""
    dataset: "Dataset" = field(compare=False)

    def __repr__(self) -> str:
        """Return its id, length and split."""
        length = f"{self.num_frames} frames, {self.num_frames / FRAME_RATE:.2f} s"
        return f"<Clip {self.clip_id}: {length}, {self.split or 'in no split'}>"

    @property
    def columns(self) -> dict[str, Column]:
        """Column names and types that are stored of each frame."""
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
        for index in range(self.num_frames):
            yield {name: array[index] for name, array in arrays.items()}


class Dataset:
    """A dataset folder, opened for reading: all that `dataset.json` names, and nothing else.

    Args:
        path: the output folder of a build.
        selection: one of its named selections, whose limits, verdicts and counts then stand for the dataset's own.

    Raises:
        DatasetError: not a dataset, not finished, of another version, or naming what lies elsewhere; or there is no
            such selection.
        ConfigError: a selection's name that is none.
    """

    def __init__(self, path: Path, selection: str | None = None) -> None:
        self.path = path
        self.index: DatasetIndex = read_index(path)
        self._shards: dict[str, Shard] = {}
        self.selection = selections.load(path, selection) if selection else None
        if self.selection is not None:
            self._index_by(self.selection)

    def _index_by(self, selection: Selection) -> None:
        """Let the index state the limits and the counts of a selection."""
        if selection.facts.scores != self.index.fingerprints.score:
            how = f"run  hs-data select {self.path} --name {selection.name}"
            raise DatasetError(f"selection {selection.name}: made of other scores than {self.path} has now; {how}")
        config = {**self.index.config, "select": selection.facts.select}
        counts = count_clips(self.clips(["verdict", "shard", "num_frames"]))
        self.index = replace(self.index, config=config, counts=replace(self.index.counts, **counts))

    @property
    def own_folder(self) -> Path:
        """Where what is made of the verdicts lies: the dataset, or the named selection in it."""
        return self.path if self.selection is None else selections.folder_of(self.path, self.selection.name)

    def videos(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row per input file."""
        if self.selection is None:
            return self._table(VIDEOS, VIDEO_SCHEMA, columns)
        wanted = list(columns) if columns is not None else VIDEO_SCHEMA.names
        counted = list(dict.fromkeys([*wanted, "video_id", "num_clips", "num_kept"]))
        videos = self._table(VIDEOS, VIDEO_SCHEMA, counted)
        return recount_videos(videos, self.clips(["video_id", "verdict"])).select(wanted)

    def clips(self, columns: Sequence[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
        """Return one row per candidate clip, kept or not.

        Args:
            columns: names; None: all of `schema`.
            schema: a metric that the file is too old to have is null; None: that of the file.
        """
        asked: pa.Schema = self.clip_schema if schema is None else schema
        if self.selection is None:
            return self._table(CLIPS, asked, columns)
        wanted = list(asked.names if columns is None else columns)
        with_id = list(dict.fromkeys([*wanted, "clip_id"]))
        return self.judged(self._table(CLIPS, asked, with_id)).select(wanted)

    @cached_property
    def clip_schema(self) -> pa.Schema:
        """Columns of `clips.parquet`: those that every dataset has, and what was measured of its clips.

        Raises:
            DatasetError: the table cannot be read.
        """
        path = self.path / CLIPS
        try:
            there = pq.read_schema(path).remove_metadata()
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: cannot be read ({error}); build again") from error
        fixed = {field.name: field for field in FIXED_CLIP_SCHEMA}
        missing = [field for name, field in fixed.items() if name not in there.names]
        return pa.schema([*(fixed.get(field.name, field) for field in there), *missing])

    def judged(self, clips: pa.Table) -> pa.Table:
        """Return clips, read from the file with their ids, with the verdicts that count."""
        return clips if self.selection is None else self.selection.over(clips)

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
            self._shards[name] = Shard(self.shard_path(name))
        return self._shards[name]

    def shard_path(self, name: str) -> Path:
        """Return where a shard lies; raise `DatasetError` for a name that leads out of the dataset."""
        return inside(self.path, name, said_by=CLIPS)

    def read(self, clip: Clip, column: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read frames `start:stop` of a column of a clip as [T, *shape].

        Raises:
            DatasetError: another clip lies there, or one of another length.
        """
        shard = self.shard(clip.shard)
        shard.check(clip.row_group, clip.clip_id, clip.num_frames)
        return shard.read(clip.row_group, column, start, stop)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        """Return a kept clip by its index in the table, or several; raise `IndexError` beyond the last one."""
        return self.kept[index]

    def __repr__(self) -> str:
        """Return what one wants to know first: clips, hours, source, and how many clips each split has."""
        num_clips = Counter(clip.split for clip in self)
        hours = sum(clip.num_frames for clip in self) / FRAME_RATE / 3600
        splits = [f"{num_clips[name]} {name or 'in no split'}" for name in (*SPLITS, None) if num_clips[name]]
        facts = [f"{len(self)} clips", f"{hours:.3g} h", f"source {self.index.source}", *splits]
        chosen = f" selection {self.selection.name!r}" if self.selection else ""
        return f"<Dataset {str(self.path)!r}{chosen}: {', '.join(facts)}>"

    def _table(self, name: str, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
        names = list(columns) if columns is not None else None
        try:
            table = pq.read_table(self.path / name, columns=names, schema=schema)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{self.path / name}: cannot be read ({error}); build again") from error
        if "shard" in table.column_names:
            for shard in table["shard"].unique().drop_null().to_pylist():
                self.shard_path(shard)
        return table


def open_dataset(path: Path | str, selection: str | None = None) -> Dataset:
    """Open a dataset folder for reading, as it is or under one of its named selections."""
    return Dataset(Path(path), selection)
