"""`hs-data forget`: take everything of a source video or of a person out of a dataset, for good."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ...manifests import selections
from ...manifests.commits import total_costs
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.forgotten import KINDS, ForgetRequest, Forgotten, hash_name
from ...manifests.index import require_unaltered
from ...manifests.tables import Row
from ..report.page import write_report
from .purge import look_up, purge, require_sources, shards_of
from .shard_rewrite import plan_rewrites
from .stale import stale_previews, temporary_files, unnamed_files

Rows = Sequence[Row]
Summary = dict[str, bool | int | float | str]
"""JSON values that the command prints."""


def forget(root: Path, *, source: str | None, identity: str | None, dry_run: bool) -> Summary:
    """Remove a source video or a person, and have later builds leave them out; no build may run meanwhile.

    Args:
        root: the dataset's folder.
        source: sha256 of a file, its path below the source folder, or a YouTube id.
        identity: name of a person as the source gives it. With neither, a removal that was killed is finished.
        dry_run: only say what would go.

    Returns:
        Numbers of what goes: videos, clips, kept clips and their seconds, shards written anew and removed.

    Raises:
        ConfigError: both or nothing named, or nothing of that name is there.
        DatasetError: no finished dataset, or a file that would be written anew is not the bytes that were written.
    """
    if source is not None and identity is not None:
        raise ConfigError("forget: --source and --identity name two things; give one at a time")
    dataset, forgotten = open_dataset(root), Forgotten(root)
    require_unaltered(root)
    if source is None and identity is None:
        if forgotten.is_finished:
            raise ConfigError("forget: nothing is named; give --source ID or --identity ID")
        finish_forgetting(root)
        return {"finished": True}
    request = _of_source(dataset, source) if source is not None else _of_person(dataset, identity or "")
    if request is None:
        if not _was_asked(forgotten.requests, source or identity or ""):
            raise ConfigError(f"{root}: nothing is named {source or identity}; see videos.parquet and clips.parquet")
        if not dry_run:
            finish_forgetting(root)
        return {"videos": 0, "clips": 0, "note": "forgotten before"}
    summary = _summary(dataset, request)
    if not dry_run:
        require_sources(root, look_up(root, _Wanted(root, request)))  # before the request stands anywhere
        forgotten.add([request])
        finish_forgetting(root)
    return summary


def finish_forgetting(root: Path) -> None:
    """Do what is left of the removals that were asked for; nothing when all is done."""
    forgotten = Forgotten(root)
    if forgotten.is_finished:
        return
    purge(root, forgotten)
    # Only now does nothing name the old shards and scores: unlinked before, a kill would have lost what stays of them.
    for path in [*unnamed_files(root), *temporary_files(root), *stale_previews(root)]:
        path.unlink()
    _write_reports(root)
    forgotten.finish()  # last of all: until then every command that writes goes on from here


def _write_reports(root: Path) -> None:
    """Write the reports that are there anew: the dataset's, and those of named selections."""
    if (root / "report" / "index.html").is_file():
        write_report(open_dataset(root), total_costs(root))
    for name in selections.names(root):
        report = selections.folder_of(root, name) / "report"
        if not (report / "index.html").is_file():
            continue
        try:
            write_report(open_dataset(root, name), total_costs(root))
        except DatasetError:  # of scores that are no longer the dataset's: nobody can open it, nor its report anew
            shutil.rmtree(report)


def _was_asked(requests: Sequence[ForgetRequest], name: str) -> bool:
    asked = {request.name for request in requests}
    return any(hash_name(kind, name) in asked for kind in KINDS)


def _of_source(dataset: Dataset, name: str) -> ForgetRequest | None:
    videos = dataset.videos(["video_id", "path", "youtube_id"]).to_pylist()
    kind = next((k for k in ("video_id", "path", "youtube_id") if any(row[k] == name for row in videos)), None)
    if kind is None:
        return None
    ids = {row["video_id"] for row in videos if row[kind] == name and row["video_id"]}
    if kind == "path" and len(ids) > 1:
        raise ConfigError(f"{name}: {len(ids)} files have this path; name one by its sha256: {', '.join(sorted(ids))}")
    rows = [row for row in videos if row[kind] == name or row["video_id"] in ids]
    clips = dataset.clips(["clip_id", "video_id"])
    clips = clips.filter(pc.field("video_id").isin(pa.array(sorted(ids), pa.string())))
    return _request(kind, name, rows, videos, len(clips))


def _of_person(dataset: Dataset, name: str) -> ForgetRequest | None:
    clips = dataset.clips(["clip_id", "video_id", "identity"])
    is_mine = pc.field("identity").isin(pa.array([name]))
    mine, others = clips.filter(is_mine), clips.filter(~is_mine)
    if not len(mine):
        return None
    alone = set(mine["video_id"].to_pylist()) - set(others["video_id"].to_pylist())
    videos = dataset.videos(["video_id", "path", "youtube_id"]).to_pylist()
    return _request("identity", name, [row for row in videos if row["video_id"] in alone], videos, len(mine))


def _request(kind: str, name: str, rows: Rows, videos: Rows, num_clips: int) -> ForgetRequest:
    """Say what is forgotten in hashes: the name, and content and path of each file that goes whole."""
    ids = {row["video_id"] for row in rows} - {None}
    staying = {row["path"] for row in videos if row["video_id"] not in ids and row not in rows}
    names = {hash_name(kind, name)} | {hash_name("video_id", video_id) for video_id in ids}
    names |= {hash_name("path", row["path"]) for row in rows if row["path"] not in staying}
    if kind == "path" and name in staying:
        names.remove(hash_name(kind, name))
    return ForgetRequest(
        asked=kind, name=hash_name(kind, name), names=tuple(sorted(names)), videos=len(rows), clips=num_clips
    )


def _summary(dataset: Dataset, request: ForgetRequest) -> Summary:
    forgotten = _Wanted(dataset.path, request)
    clips = dataset.clips(["clip_id", "verdict", "duration_s", "shard", *KINDS])
    going = clips.filter(forgotten.rows(clips))
    kept = going.filter((pc.field("verdict") == "kept") & pc.field("shard").is_valid())
    rewrites = plan_rewrites(dataset.path, shards_of(dataset.path), look_up(dataset.path, forgotten).known)
    return {
        "videos": request.videos,
        "clips": len(going),
        "kept_clips": len(kept),
        "kept_seconds": round(sum(kept["duration_s"].to_pylist()), 2),
        "shards_written_anew": sum(one.path is not None for one in rewrites.values()),
        "shards_removed": sum(one.path is None for one in rewrites.values()),
    }


class _Wanted(Forgotten):
    """The list with one more request, without writing it: what a removal would take is told before it begins."""

    def __init__(self, dataset: Path, request: ForgetRequest) -> None:
        super().__init__(dataset)
        self._names = {*self._names, *request.names}
