"""Purge: take what a dataset was told to forget out of its workings, shards and tables; killed, it goes on.

The tables go last: as long as a name stands anywhere else, they still say what belongs to it.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...manifests import selections
from ...manifests.clip_rows import RowLocations, write_clips
from ...manifests.commits import Commit, CommitLog, CommittedFile
from ...manifests.counts import recount_videos
from ...manifests.dataset import open_dataset
from ...manifests.forgotten import KINDS, Forgotten
from ...manifests.index import CLIPS, VIDEOS, require_unaltered
from ...manifests.shards import describe_shard
from ...manifests.status import counted
from ...manifests.storage import atomic_path, inside, read_json, sha256_file, write_json
from ...manifests.tables import list_shards, write_tables
from ..score.registry import CLIP_SCHEMA, LIGHT, SCORE_SCHEMA, SCORES
from .shard_rewrite import (
    ShardRewrite,
    move_rows,
    plan_rewrites,
    require_stated,
    rewrite_shard,
    stated_hashes,
    successor,
)

Receipt = dict[str, Any]
"""What a commit says of an item, of any phase."""
FILE_KINDS = ("video_id", "path", "youtube_id")
"""Names of whole files; a person may be one of several in a file."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names that go and names that stay, in plain words."""

    known: frozenset[str]
    """Ids of the clips that stay; what is of any other clip goes, for nobody can say whose it is."""
    video_ids: frozenset[str]
    """Files that go whole."""
    paths: frozenset[str]


def look_up(root: Path, forgotten: Forgotten) -> Names:
    """Find the clips and files that a list of hashes stands for, in the tables and in all scores."""
    dataset = open_dataset(root)
    videos = dataset.videos(["video_id", "path", "youtube_id"])
    tables = [dataset.clips(["clip_id", *KINDS])]
    tables += [pq.read_table(path, columns=["clip_id", *KINDS]) for path in _score_files(root)]
    gone: set[str] = set()
    every: set[str] = set()
    files = [videos.filter(forgotten.rows(videos))]
    for table in tables:
        every.update(table["clip_id"].to_pylist())
        gone.update(table.filter(forgotten.rows(table))["clip_id"].to_pylist())
        files.append(table.filter(forgotten.rows(table, FILE_KINDS)))
    return Names(
        known=frozenset(every - gone),
        video_ids=frozenset(name for table in files for name in table["video_id"].to_pylist() if name),
        paths=frozenset(name for table in files for name in table["path"].to_pylist()),
    )


def _score_files(root: Path) -> list[Path]:
    return sorted(inside(root, "work/scores").glob("[!.]*.parquet"))


def purge(root: Path, forgotten: Forgotten) -> None:
    """Write everything anew that holds something to be forgotten; old shards and scores are left for `stale`.

    Raises:
        DatasetError: one of these files is not the bytes that were written; nothing is changed.
    """
    names = look_up(root, forgotten)
    require_sources(root, names)
    # What is new is written before anything names it, and the tables, by which names are looked up, are changed last: a
    # kill at any line leaves whole files behind every name, and the next call finds the same names to go.
    rewrites, stated = plan_rewrites(root, shards_of(root), names.known), stated_hashes(root)
    for path, rewrite in counted(rewrites.items(), "shards"):
        rewrite_shard(root, path, rewrite, stated)
    _purge_scores(root, names)
    _purge_commits(root, names, forgotten, rewrites)
    _purge_plans(root, names)
    _purge_quarantine(root, names)
    _purge_selections(root, names)
    for beat in (root / "work" / "beats").glob("*"):
        beat.unlink()  # what a dead worker was at; it may say a path
    _purge_tables(root, forgotten, rewrites)


def require_sources(root: Path, names: Names) -> None:
    """Refuse to write anything anew out of files that changed since they were written: new hashes would hide it.

    Raises:
        DatasetError: names the file.
    """
    require_unaltered(root)
    stated = stated_hashes(root)
    for path, rewrite in plan_rewrites(root, shards_of(root), names.known).items():
        if rewrite.path is not None:
            require_stated(root, path, stated)
    for commit, _ in _changed_scores(root, names):
        assert commit.file is not None
        require_stated(root, commit.file.path, stated)
    for name in selections.names(root):
        selections.require_saved(root, name)


def shards_of(root: Path) -> set[str]:
    """Return the shards that the tables, the index or a commit names and that are there."""
    dataset = open_dataset(root)
    named = {shard.path for shard in dataset.index.shards}
    named |= set(dataset.clips(["shard"])["shard"].drop_null().to_pylist())
    named |= {commit.file.path for commit in CommitLog(root).load("encode") if commit.file is not None}
    return {path for path in named if (root / path).is_file()}


def _changed_scores(root: Path, names: Names) -> Iterator[tuple[Commit, list[bool]]]:
    """Yield the commits of scores that something goes of, with which rows of their files stay."""
    for commit in list(CommitLog(root).load("score")):
        if commit.file is None or not (root / commit.file.path).is_file():
            continue
        ids = pq.read_table(root / commit.file.path, columns=["clip_id"])["clip_id"].to_pylist()
        stays = [clip_id in names.known for clip_id in ids]
        if not all(stays):
            yield commit, stays


def _purge_scores(root: Path, names: Names) -> None:
    for commit, stays in _changed_scores(root, names):
        assert commit.file is not None
        old = root / commit.file.path
        left = pq.read_table(old, columns=list(SCORES), schema=SCORE_SCHEMA).filter(pa.array(stays, pa.bool_()))
        path = successor(commit.file.path, left["clip_id"].to_pylist())
        with atomic_path(root / path) as temporary:
            bulky = RowLocations.of_tables([old], [len(stays)]).take(np.array(stays, bool))
            write_clips(temporary, left, bulky, SCORE_SCHEMA)
        file = CommittedFile(path=path, sha256=sha256_file(root / path), bytes=(root / path).stat().st_size)
        receipts = {item: _moved(receipt, stays) for item, receipt in commit.receipts.items()}
        CommitLog(root).add(replace(commit, file=file, receipts=receipts), replace=True)


def _moved(receipt: Receipt, stays: list[bool]) -> Receipt:
    """Return a receipt whose rows are found where they lie once the others are gone."""
    if "first_row" not in receipt:
        return receipt
    first, end = receipt["first_row"], receipt["first_row"] + receipt["num_clips"]
    return receipt | {"first_row": sum(stays[:first]), "num_clips": sum(stays[first:end])}


def _purge_commits(root: Path, names: Names, forgotten: Forgotten, rewrites: dict[str, ShardRewrite]) -> None:
    log = CommitLog(root)
    for phase in ("probe", "score", "encode"):
        for commit in list(log.load(phase)):
            left = {i: r for i, r in commit.receipts.items() if not _is_gone(phase, i, r, names, forgotten)}
            changed = _follow_rewrite(root, replace(commit, receipts=left), rewrites)
            if not left:
                log.remove(commit)
            elif changed != commit:
                log.add(changed, replace=True)


def _is_gone(phase: str, item: str, receipt: Receipt, names: Names, forgotten: Forgotten) -> bool:
    if phase == "probe":  # a receipt may name a file that was never read; one too many is only probed again
        text = json.dumps(receipt, ensure_ascii=False)
        is_file = forgotten.holds("video_id", receipt.get("video_id")) or receipt.get("video_id") in names.video_ids
        return is_file or any(path in text for path in names.paths)
    return _owner(item) in names.video_ids if phase == "score" else _owner(item) not in names.known


def _owner(item: str) -> str:
    """Return the video or clip that an item is of: `VIDEO-0`, `VIDEO-0-75`, `CLIP+0`, `CLIP-1280`."""
    return re.split(r"[+-]", item, maxsplit=1)[0]


def _follow_rewrite(root: Path, commit: Commit, rewrites: dict[str, ShardRewrite]) -> Commit:
    if commit.phase != "encode" or commit.file is None or commit.file.path not in rewrites:
        return commit
    rewrite = rewrites[commit.file.path]
    receipts = {
        item: {**receipt, "row_group": rewrite.row_groups[receipt["row_group"]]} if "row_group" in receipt else receipt
        for item, receipt in commit.receipts.items()
    }
    return replace(commit, receipts=receipts, file=None if rewrite.path is None else describe_shard(root, rewrite.path))


def _purge_plans(root: Path, names: Names) -> None:
    for path in (root / "work" / "plan").glob("*.json"):
        plan = read_json(path)
        units = [unit for unit in plan["units"] if not _names_gone(plan["phase"], unit["items"], names)]
        write_json(path, {**plan, "units": units})


def _names_gone(phase: str, items: Collection[str], names: Names) -> bool:
    if phase == "probe":
        return False  # hashes of path, size and time
    owners = {_owner(item) for item in items}
    return bool(owners & names.video_ids) if phase == "score" else bool(owners - names.known)


def _purge_quarantine(root: Path, names: Names) -> None:
    for path in (root / "work" / "quarantine").glob("*/*.json"):
        entry = read_json(path)
        if entry["path"] in names.paths or _names_gone(path.parent.name, [entry["id"]], names):
            path.unlink()


def _purge_selections(root: Path, names: Names) -> None:
    for name in selections.names(root):
        path = selections.folder_of(root, name) / "verdicts.parquet"
        if not path.is_file():  # killed at its first save, between its two files
            continue
        table = pq.read_table(path, schema=selections.SCHEMA)
        stays = [clip_id in names.known for clip_id in table["clip_id"].to_pylist()]
        if not all(stays):
            selections.save(root, name, selections.load_facts(root, name), table.filter(pa.array(stays, pa.bool_())))


def _purge_tables(root: Path, forgotten: Forgotten, rewrites: dict[str, ShardRewrite]) -> None:
    dataset = open_dataset(root)
    clips, videos = dataset.clips(LIGHT, CLIP_SCHEMA), dataset.videos()
    numbered = clips.select(["clip_id", *KINDS]).append_column("row", pa.array(np.arange(len(clips))))
    stay = numbered.filter(~forgotten.rows(clips))["row"].to_numpy()
    bulky = RowLocations.of_tables([root / CLIPS], [len(clips)]).take(stay)
    clips = move_rows(clips.take(pa.array(stay)), rewrites)
    videos = recount_videos(videos.filter(~forgotten.rows(videos)), clips)
    index = replace(dataset.index, key="forgotten", shards=list_shards(root, clips, dataset.index.shards))
    # The clips last: a name that only they still say is found by whoever goes on after a kill.
    write_tables(root, index, clips=clips, schema=CLIP_SCHEMA, bulky=bulky, videos=videos, order=(VIDEOS, CLIPS))
