"""Shards without some of their clips: written anew beside the old ones, which stay until nothing names them."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ...manifests.commits import CommitLog
from ...manifests.errors import DatasetError
from ...manifests.index import read_index
from ...manifests.shards import Shard, ShardWriter
from ...manifests.storage import atomic_path, digest, sha256_file

Stated = Mapping[str, Collection[str]]
"""Path below the dataset to the sha256 that were written down of it."""


@dataclass(frozen=True, kw_only=True)
class ShardRewrite:
    """A shard that is written anew without some of its clips."""

    path: str | None
    """Its successor below the dataset; None where nothing is left."""
    row_groups: dict[int, int]
    """Shards: old to new row group, of the clips that stay."""


def stated_hashes(root: Path) -> Stated:
    """Return the sha256 that commits and the index state of each shard and score file."""
    log = CommitLog(root)
    files = [commit.file for phase in ("score", "encode") for commit in log.load(phase) if commit.file is not None]
    pairs = [(file.path, file.sha256) for file in files]
    stated: dict[str, set[str]] = {}
    for path, sha256 in [*pairs, *((shard.path, shard.sha256) for shard in read_index(root).shards)]:
        stated.setdefault(path, set()).add(sha256)
    return stated


def require_stated(root: Path, path: str, stated: Stated) -> Path:
    """Return the file that rows are to be copied out of, once its bytes are those that were written.

    Raises:
        DatasetError: another sha256, or none is stated: a copy with a hash of its own would hide what is wrong.
    """
    if sha256_file(root / path) not in stated.get(path, ()):
        what = "not the bytes that were written"
        raise DatasetError(f"{root / path}: {what}; see `hs-data verify {root}`, remove the file and build again")
    return root / path


def successor(path: str, stay: Collection[str]) -> str:
    """Return the name of what is left of a file: the same again after a kill."""
    old = Path(path)
    unit = old.stem.partition("-")[0]
    return (old.parent / f"{unit}-{digest('cut', old.stem, sorted(stay))[:8]}.parquet").as_posix()


def plan_rewrites(root: Path, paths: Iterable[str], known: Collection[str]) -> dict[str, ShardRewrite]:
    """Return the shards that hold a clip that is not known, and what is left of each; nothing is written."""
    rewrites = {}
    for path in sorted(paths):
        with closing(Shard(root / path)) as shard:
            ids = [shard.clip_id(group) for group in range(shard.num_row_groups)]
        stay = [group for group, clip_id in enumerate(ids) if clip_id in known]
        if len(stay) < len(ids):
            name = successor(path, [ids[group] for group in stay]) if stay else None
            rewrites[path] = ShardRewrite(path=name, row_groups={old: new for new, old in enumerate(stay)})
    return rewrites


def rewrite_shard(root: Path, path: str, rewrite: ShardRewrite, stated: Stated) -> None:
    """Write what is left of a shard, byte for byte the same frames; one that a commit names is there already.

    Raises:
        DatasetError: the shard is not the bytes that were written.
    """
    if rewrite.path is None or (rewrite.path in stated and (root / rewrite.path).is_file()):
        return
    with (
        closing(Shard(require_stated(root, path, stated))) as shard,
        atomic_path(root / rewrite.path) as temporary,
        ShardWriter(temporary, shard.columns, shard.contract) as writer,
    ):
        for group in rewrite.row_groups:
            writer.write_clip(shard.clip_id(group), {name: shard.read(group, name) for name in shard.columns})


def move_rows(clips: pa.Table, rewrites: dict[str, ShardRewrite]) -> pa.Table:
    """Return a clip table that names the successors of the shards that were written anew."""
    shards, groups = clips["shard"].to_pylist(), clips["row_group"].to_pylist()
    for row, shard in enumerate(shards):
        if shard in rewrites:
            rewrite = rewrites[shard]
            shards[row], groups[row] = rewrite.path, rewrite.row_groups[groups[row]]
    for name, values in (("shard", shards), ("row_group", groups)):
        index = clips.schema.get_field_index(name)
        field = clips.schema.field(name)
        clips = clips.set_column(index, field, pa.array(values, field.type))
    return clips
