"""Restore: a finished dataset whose `work/` was deleted still knows what is done; say so again as commits."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...manifests.clip_rows import RowLocations, write_clips
from ...manifests.commits import Commit, CommitLog, CommittedFile
from ...manifests.index import CLIPS, INDEX, VIDEOS, ShardEntry, altered, index_fault, read_index
from ...manifests.schema import VIDEO_SCHEMA
from ...manifests.storage import create_if_absent, sha256_file
from ..annotations.spans import stretch_id
from ..config import Config
from ..score.registry import CLIP_SCHEMA, LIGHT, SCORE_SCHEMA

logger = logging.getLogger(__name__)
UNIT = "restored"


def restore_commits(dataset: Path, config: Config) -> None:
    """Write the score and encode commits of a finished dataset anew, if its commit log is gone.

    Only what was made with the same settings is taken; the files themselves are hashed again by the probe phase.
    """
    # The probe phase, which comes next, leaves the first commits of an ordinary run: until then all is tried again.
    if not (dataset / INDEX).is_file() or (dataset / "work" / "commits" / "probe").exists():
        return
    index = read_index(dataset)
    if index_fault(dataset) or list(altered(dataset, index)):
        logger.warning("%s: index or tables are not the bytes that were written; everything is made again", dataset)
        return
    log = CommitLog(dataset)
    clips = pq.read_table(dataset / CLIPS, columns=list(LIGHT), schema=CLIP_SCHEMA)
    if index.fingerprints.score == config.score_fingerprint():
        _restore_scores(dataset, log, clips, config.score_fingerprint())
    if index.fingerprints.encode == config.encode_fingerprint():
        for shard in index.shards:
            _restore_shard(log, clips, shard, config.encode_fingerprint())


def _restore_scores(dataset: Path, log: CommitLog, clips: pa.Table, fingerprint: str) -> None:
    path = dataset / "work" / "scores" / f"{UNIT}.parquet"
    bulky = RowLocations.of_tables([dataset / CLIPS], [len(clips)])
    create_if_absent(path, lambda temporary: write_clips(temporary, clips, bulky, SCORE_SCHEMA))
    receipts: dict[str, dict[str, Any]] = {}
    for video in pq.read_table(dataset / VIDEOS, schema=VIDEO_SCHEMA).to_pylist():
        starts = video["chunks"] or []
        ends = video["chunk_ends"] or [None] * len(starts)
        outcome = "ok" if video["outcome"] == "no_face" else video["outcome"]
        outcomes = video["chunk_outcomes"] or [outcome] * len(starts)
        for place, (start, end, outcome) in enumerate(zip(starts, ends, outcomes, strict=True)):
            receipt = {"outcome": outcome, "detail": video["detail"]}
            if place == 0:  # what was counted over the whole file is told once
                receipt |= {name: video[name] for name in ("num_decoded", "num_decode_errors", "cut_scores")}
                receipt["cuts"] = [round(time * 25) for time in video["cuts_s"]]
            receipts[stretch_id(video["video_id"], start, end)] = receipt
    file = CommittedFile(path=path.relative_to(dataset).as_posix(), sha256=sha256_file(path), bytes=path.stat().st_size)
    log.add(Commit(phase="score", unit=UNIT, fingerprint=fingerprint, receipts=receipts, file=file))


def _restore_shard(log: CommitLog, clips: pa.Table, shard: ShardEntry, fingerprint: str) -> None:
    rows = clips.filter(pc.field("shard") == shard.path)
    names = ["row_group", "audio_shift_samples", "residual_lead_ms", "psnr_db", "psnr_mouth_db"]
    receipts = {
        f"{row['clip_id']}{row['audio_shift_samples']:+d}": {name: row[name] for name in names}
        for row in rows.select(["clip_id", *names]).to_pylist()
    }
    file = CommittedFile(path=shard.path, sha256=shard.sha256, bytes=shard.bytes, rows=shard.rows)
    unit = Path(shard.path).stem
    log.add(Commit(phase="encode", unit=unit, fingerprint=fingerprint, receipts=receipts, file=file))
