"""`hs-data merge`: one dataset of several that were built alike."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...manifests import settings
from ...manifests.clip_rows import RowLocations
from ...manifests.counts import recount_videos
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.forgotten import FILE, Forgotten
from ...manifests.index import CLIPS, INDEX, VIDEOS, DatasetIndex, MergedDataset, ShardEntry, require_unaltered
from ...manifests.status import counted
from ...manifests.storage import atomic_path, digest, inside, sha256_file
from ...manifests.tables import Row, list_shards, video_table, write_tables
from ..score.registry import CLIP_SCHEMA, LIGHT
from ..select import SelectConfig
from ..splits import overlaps
from .compatibility import check_agreement
from .forget import finish_forgetting
from .resplit import assign_anew

OURS = ("shards", CLIPS, VIDEOS, FILE)
"""Leftovers of a merge that was killed."""
Summary = dict[str, int]
"""JSON values that the command prints."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A shard on its way into the merged dataset."""

    file: Path
    entry: ShardEntry
    """Its entry in the index, with its path below the merged dataset."""


def merge(out: Path, paths: Sequence[Path], *, resplit: bool = False, copy: bool = False) -> Summary:
    """Lay datasets together; killed, the same command goes on.

    Shards are hard-linked where the file system can, so that they take no room twice, and else copied. A clip that
    several hold is taken from the first that keeps it. What any of them was told to forget is left out.

    Args:
        out: folder to write: a new one, or that of a merge that was killed.
        paths: two datasets or more.
        resplit: assign the splits anew, by the settings of the first, instead of keeping each clip's.
        copy: copy shards even where links are possible.

    Returns:
        Numbers: datasets, clips, kept, doubles, and how many shards were linked, copied or there already.

    Raises:
        ConfigError: fewer than two datasets, or `out` holds something else.
        DatasetError: they are not alike, one is not the bytes that were written, or somebody would be in two splits.
    """
    _check_out(out, paths)
    datasets = [open_dataset(path) for path in paths]
    for path in paths:
        require_unaltered(path)
    check_agreement(datasets)
    clips, bulky, num_doubles = _join_clips(datasets)
    clips, taken = _take(datasets, clips)
    if resplit:
        limits = settings.build(SelectConfig, datasets[0].index.config["select"], path="select.")
        clips = assign_anew(clips, limits)
    if shared := overlaps(clips):
        raise DatasetError(f"{out}: {shared[0]} ({len(shared)} such); merge with --resplit to assign splits anew")
    ways = Counter(_bring(out, shard, copy=copy) for shard in counted(taken, "shards"))
    _write(out, datasets, clips, bulky, taken)
    finish_forgetting(out)  # what one has forgotten may stand in another
    counts = open_dataset(out).index.counts
    told = {"datasets": len(datasets), "clips": counts.candidates, "kept": counts.kept, "doubles": num_doubles}
    return told | {f"shards_{way}": ways[way] for way in ("linked", "copied", "there")}


def _check_out(out: Path, paths: Sequence[Path]) -> None:
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ConfigError("merge: name two or more different datasets behind the folder to write")
    if (out / INDEX).is_file():
        raise ConfigError(f"{out}: is a dataset already; name a new folder")
    names = [path.name for path in out.iterdir()] if out.exists() else []
    if strange := sorted(name for name in names if name not in OURS and not name.startswith(".")):
        raise ConfigError(f"{out}: holds other things ({strange[0]}, ...); name a new folder")


def _join_clips(datasets: Sequence[Dataset]) -> tuple[pa.Table, RowLocations, int]:
    """Return the clips of all, each once, with the number of their dataset as `origin`.

    Returns:
        The clips without what is bulky, where that lies, and how many were doubles.
    """
    tables = [dataset.clips(LIGHT, CLIP_SCHEMA) for dataset in datasets]
    bulky = RowLocations.of_tables([dataset.path / CLIPS for dataset in datasets], [len(table) for table in tables])
    clips = pa.concat_tables(tables).append_column("origin", pa.array(bulky.file))
    is_kept = (verdict == "kept" for verdict in clips["verdict"].to_pylist())
    worth = list(zip(is_kept, clips["shard"].is_valid().to_pylist(), strict=True))
    best: dict[str, int] = {}
    # A kept clip stands before a dropped one, and one that lies in a shard before one that does not. Of equals the
    # first one counts: the order of the command decides.
    for index, clip_id in enumerate(clips["clip_id"].to_pylist()):
        if worth[index] > worth[best.setdefault(clip_id, index)]:
            best[clip_id] = index
    chosen = np.array(sorted(best.values()), np.int64)
    return clips.take(pa.array(chosen)), bulky.take(chosen), len(clips) - len(chosen)


def _take(datasets: Sequence[Dataset], clips: pa.Table) -> tuple[pa.Table, list[Taken]]:
    """Choose the shards that the clips lie in, and name them in the table.

    Of two with one name and other bytes, the second gets another name.
    """
    entries = [{entry.path: entry for entry in dataset.index.shards} for dataset in datasets]
    taken: dict[str, Taken] = {}
    name_of: dict[tuple[int, str], str] = {}
    pairs = list(zip(clips["origin"].to_pylist(), clips["shard"].to_pylist(), strict=True))
    for origin, path in sorted({pair for pair in pairs if pair[1] is not None}):
        entry, name = entries[origin][path], path
        if name in taken and taken[name].entry.sha256 != entry.sha256:
            name = f"shards/{Path(path).stem}-{digest('merged', entry.sha256)[:8]}.parquet"
        name_of[origin, path] = name
        taken.setdefault(name, Taken(file=datasets[origin].shard_path(path), entry=replace(entry, path=name)))
    shards = pa.array([name_of.get(pair) for pair in pairs], pa.string())
    index = clips.schema.get_field_index("shard")
    return clips.set_column(index, CLIP_SCHEMA.field("shard"), shards).select(LIGHT), list(taken.values())


def _bring(out: Path, shard: Taken, *, copy: bool) -> str:
    """Put a shard into the merged dataset and return how; a copy is compared with what the index says of it.

    Raises:
        DatasetError: it is not the bytes that were written.
    """
    target = inside(out, shard.entry.path)
    if target.is_file() and (target.samefile(shard.file) or sha256_file(target) == shard.entry.sha256):
        return "there"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not copy and _link(shard.file, target):
        return "linked"
    with atomic_path(target) as temporary:
        shutil.copyfile(shard.file, temporary)
        if sha256_file(temporary) != shard.entry.sha256:
            raise DatasetError(f"{shard.file}: not the bytes that were written; run `hs-data verify` on its dataset")
    return "copied"


def _link(file: Path, target: Path) -> bool:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or a file system without links; the result tells that it was copied
        return False
    return True


def _join_videos(datasets: Sequence[Dataset], clips: pa.Table) -> pa.Table:
    """Return the input files of all; a content that several hold is the first's, other paths of it are duplicates."""
    rows = [row for dataset in datasets for row in dataset.videos().to_pylist()]
    first: dict[str, Row] = {}
    for row in rows:
        if row["video_id"] and row["num_clips"] > first.setdefault(row["video_id"], row)["num_clips"]:
            first[row["video_id"]] = row
    joined: dict[tuple[str | None, str, str], Row] = {}
    for row in rows:
        owner = first[row["video_id"]] if row["video_id"] else row
        if row["path"] != owner["path"]:
            about = {"outcome": "duplicate", "detail": f"same content as {owner['path']}"}
            owner = {**row, **about, "num_clips": 0, "num_kept": 0}
        joined.setdefault((owner["video_id"], owner["path"], owner["source"]), owner)
    return recount_videos(video_table(list(joined.values())), clips)


def _write(
    out: Path, datasets: Sequence[Dataset], clips: pa.Table, bulky: RowLocations, taken: Sequence[Taken]
) -> None:
    requests = [request for dataset in datasets for request in Forgotten(dataset.path).requests]
    if requests:
        Forgotten(out).add(requests)
    videos = _join_videos(datasets, clips)
    index = _index([dataset.index for dataset in datasets], list_shards(out, clips, [shard.entry for shard in taken]))
    write_tables(out, index, clips=clips, schema=CLIP_SCHEMA, bulky=bulky, videos=videos)


def _index(indexes: Sequence[DatasetIndex], shards: tuple[ShardEntry, ...]) -> DatasetIndex:
    """Return what the merged dataset says of itself: what all have in common, and what it was merged from."""
    first = indexes[0]
    models = {model["name"]: model for index in indexes for model in index.models}
    return replace(
        first,
        key=digest("merged", [index.key for index in indexes]),
        source=", ".join(dict.fromkeys(index.source for index in indexes)),
        preset=", ".join(dict.fromkeys(index.preset for index in indexes)),
        models=tuple(models.values()),
        shards=shards,
        merged=tuple(MergedDataset(source=index.source, key=index.key, counts=index.counts) for index in indexes),
    )
