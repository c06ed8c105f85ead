"""Verify: does a dataset hold what it says, byte for byte and frame for frame?"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from . import selections, sums
from .dataset import Clip, Dataset
from .errors import DatasetError
from .forgotten import FILE, KINDS, Forgotten
from .index import INDEX, ShardEntry, index_fault
from .records import SAMPLES_PER_FRAME
from .shards import Shard
from .status import counted
from .storage import inside, sha256_file

Decoder = Callable[[np.ndarray], float]
"""Takes latents [T, 4, 64, 64], returns the standard deviation of the decoded pixels, grey levels."""
FLAT = 1.0
"""A decoded picture with less variation than this shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that is not as the dataset says."""

    where: str
    what: str


def verify(dataset: Dataset, *, decode: Decoder | None = None, num_decoded: int = 0) -> Iterator[Fault]:
    """Yield every fault found; one shard at a time is open.

    Checks the sha256 of index, tables, report and card; each shard's size, sha256 and row counts; each kept clip's
    place, id, length, finiteness and sound; that no clip is there twice; that the counts of the index are those of the
    tables; that nothing is there that was forgotten. With `decode`, `num_decoded` clips, spread over the dataset, are
    turned back into pictures.
    """
    if fault := index_fault(dataset.path):
        yield Fault(where=INDEX, what=f"{fault}; nothing that it names was looked at")
        return
    yield from _check_tables(dataset)
    yield from _check_sums(dataset)
    yield from _check_counts(dataset)
    yield from _check_forgotten(dataset)
    clips_of: dict[str, list[Clip]] = defaultdict(list)
    for clip in dataset.kept:
        clips_of[clip.shard].append(clip)
    chosen: set[Clip] = set()
    if decode is not None and dataset.kept and num_decoded:
        step = max(1, len(dataset.kept) // num_decoded)
        chosen = set(dataset.kept[::step][:num_decoded])
    for entry in counted(dataset.index.shards, "shards"):
        clips = clips_of.pop(entry.path, [])
        faults = list(_check_shard(dataset.path, entry, clips))
        yield from faults
        if faults:
            continue
        with closing(Shard(dataset.path / entry.path)) as shard:
            for clip in clips:
                faults = list(_check_clip(shard, clip))
                yield from faults
                # What lies in the wrong place or is not finite was told already.
                if decode is not None and not faults and clip in chosen:
                    yield from _check_picture(shard, clip, decode)
    for name, clips in clips_of.items():
        for clip in clips:
            yield Fault(where=clip.clip_id, what=f"lies in {name}, which dataset.json does not name")


def _check_tables(dataset: Dataset) -> Iterator[Fault]:
    for name, sha256 in dataset.index.tables.items():
        path = inside(dataset.path, name, said_by=INDEX)
        if not path.is_file():
            yield Fault(where=name, what="is missing")
        elif (found := sha256_file(path)) != sha256:
            pending = dataset.index.pending_tables.get(name)
            killed = "is new and dataset.json is not: a command was killed; run it again"
            yield Fault(where=name, what=killed if found == pending else "has another sha256 than dataset.json says")


def _check_sums(dataset: Dataset) -> Iterator[Fault]:
    """Check what people read: report and card, and those of named selections, whose verdicts have a hash too."""
    for name, what in sums.changed(dataset.path):
        yield Fault(where=name, what=f"{what}; write it anew with `hs-data report`")
    for selection in selections.names(dataset.path):
        folder = selections.folder_of(dataset.path, selection)
        where = folder.relative_to(dataset.path).as_posix()
        try:
            selections.require_saved(dataset.path, selection)
        except DatasetError as error:
            yield Fault(where=f"{where}/verdicts.parquet", what=str(error))
        for name, what in sums.changed(folder):
            yield Fault(where=f"{where}/{name}", what=f"{what}; write it anew with `hs-data report --selection`")


def _check_counts(dataset: Dataset) -> Iterator[Fault]:
    counts = asdict(dataset.index.counts)
    clips = dataset.clips(["clip_id", "verdict", "reason"])
    verdicts = Counter(clips["verdict"].to_pylist())
    found = {"candidates": len(clips), "kept": verdicts["kept"], "dropped": verdicts["dropped"]}
    found |= {"errors": verdicts["error"], "inputs": len(dataset.videos(["path"])), "encoded": len(dataset.kept)}
    for name, number in found.items():
        if counts[name] != number:
            yield Fault(where="dataset.json", what=f"says {counts[name]} {name}, the tables hold {number}")
    for clip_id, times in Counter(clips["clip_id"].to_pylist()).items():
        if times > 1:
            yield Fault(where=clip_id, what=f"stands {times} times in clips.parquet")
    for (shard, group), times in Counter((clip.shard, clip.row_group) for clip in dataset.kept).items():
        if times > 1:
            yield Fault(where=f"{shard} row group {group}", what=f"is claimed by {times} clips")


def _check_forgotten(dataset: Dataset) -> Iterator[Fault]:
    forgotten = Forgotten(dataset.path)
    if not forgotten.is_finished:
        yield Fault(where=FILE, what=f"is not finished; run `hs-data forget {dataset.path}`")
    elif forgotten.requests:
        clips = dataset.clips(["clip_id", *KINDS])
        for clip_id in clips.filter(forgotten.rows(clips))["clip_id"].to_pylist():
            yield Fault(where=clip_id, what="was to be forgotten")


def _check_shard(root: Path, entry: ShardEntry, clips: Sequence[Clip]) -> Iterator[Fault]:
    path, name = root / entry.path, entry.path
    if not path.is_file():
        yield Fault(where=name, what="is missing")
        return
    if path.stat().st_size != entry.bytes:
        yield Fault(where=name, what=f"has {path.stat().st_size} bytes instead of {entry.bytes}")
    if sha256_file(path) != entry.sha256:
        held = ", ".join(clip.clip_id for clip in clips) or "no clip that is kept"
        yield Fault(where=name, what=f"has another sha256; it holds {held}")
        return
    try:
        with closing(Shard(path)) as shard:
            if shard.num_rows != entry.rows:
                yield Fault(where=name, what=f"has {shard.num_rows} rows instead of {entry.rows}")
    except DatasetError as error:
        yield Fault(where=name, what=str(error))


def _check_clip(shard: Shard, clip: Clip) -> Iterator[Fault]:
    if clip.row_group >= shard.num_row_groups or shard.clip_id(clip.row_group) != clip.clip_id:
        yield Fault(where=clip.clip_id, what=f"is not row group {clip.row_group} of {clip.shard}")
        return
    if shard.num_frames(clip.row_group) != clip.num_frames:
        yield Fault(where=clip.clip_id, what=f"has {shard.num_frames(clip.row_group)} frames, not {clip.num_frames}")
    for name, column in shard.columns.items():
        array = shard.read(clip.row_group, name)
        if array.shape[1:] != column.shape:
            yield Fault(where=clip.clip_id, what=f"{name} has shape {array.shape[1:]}, not {column.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield Fault(where=clip.clip_id, what=f"{name} is not finite")
    num_samples = shard.read(clip.row_group, "pcm").size if "pcm" in shard.columns else 0
    if num_samples != SAMPLES_PER_FRAME * clip.num_frames:
        yield Fault(where=clip.clip_id, what=f"has {num_samples} samples, not 640 x {clip.num_frames}")


def _check_picture(shard: Shard, clip: Clip, decode: Decoder) -> Iterator[Fault]:
    if decode(shard.read(clip.row_group, "latent", 0, 1)) < FLAT:
        yield Fault(where=clip.clip_id, what="decodes to a flat picture")
