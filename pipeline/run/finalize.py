"""Finalize: the ledgers of all phases become the tables and the index of a dataset, written last and atomically."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...manifests import settings
from ...manifests.errors import DatasetError
from ...manifests.records import unpack
from ...manifests.schema import CLIP_SCHEMA, SCHEMA_VERSION, VIDEO_SCHEMA
from ...manifests.selections import count_clips
from ...manifests.storage import atomic_path, digest, read_json, sha256_file, write_json
from ..config import Config
from ..models import registry
from ..splits import overlaps
from .ledger import Ledger
from .outcomes import outcome_of
from .units import Item

Row = dict[str, Any]
TABLE_ROW_GROUP = 4096


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that the phases found out."""

    source: str
    preset: str
    config: Config
    inputs: Sequence[Item]
    probed: Mapping[str, Row]
    stretches: Sequence[Item]
    scored: Ledger
    selection: Row
    """Limits that `hs-data select` left, to be left for the next build too."""
    built_select: Row
    """The limits without them."""
    clips: pa.Table
    """Scores and verdicts, and where the scores lie."""
    items: Mapping[str, str]
    """Clip id to the id of its item in the encode phase, for the kept clips."""
    encoded: Ledger


SAID = ("path", "identity", "youtube_id", "official_split", "spans")
"""What a source says of an input."""


def finalize(dataset: Path, result: Result) -> None:
    """Write the tables unless those on disk were made of the very same things."""
    key = key_of(result)
    index = dataset / "dataset.json"
    if not index.is_file() or read_json(index)["key"] != key or not tables_are_whole(dataset):
        write_dataset(dataset, result, key)


def key_of(result: Result) -> str:
    """Return the identity of what the tables say."""
    config = settings.to_table(result.config)
    config.pop("models")  # where weights lie does not change what they make; which they are is in the fingerprints
    made_by = [result.config.score_fingerprint(), result.config.encode_fingerprint()]
    receipts = [
        # By content, not by item: those know the time of change, which a copy of the same folder has not.
        [(result.probed[item["id"]].get("video_id"), [item[name] for name in SAID]) for item in result.inputs],
        [outcome_of(result.probed[item["id"]]) for item in result.inputs],
        [(item["id"], outcome_of(result.scored.receipts[item["id"]])) for item in result.stretches],
        [(item, outcome_of(result.encoded.receipts[item])) for item in result.items.values()],
        [file["path"] for file in result.encoded.files(stored_items(result.clips, result.items))],
    ]
    return digest("dataset", config, made_by, result.selection, result.source, receipts)


def write_dataset(dataset: Path, result: Result, key: str) -> None:
    """Write `clips.parquet`, `videos.parquet` and, last of all, `dataset.json`.

    Raises:
        DatasetError: an input or a candidate is not accounted for, or somebody is in two splits; a bug of ours, and
            nothing is written.
    """
    clips = join_shards(result.clips, result.items, result.encoded)
    videos = video_rows(result, clips)
    counts = count(videos, clips)
    if counts["kept"] + counts["dropped"] + counts["errors"] != counts["candidates"]:
        raise DatasetError(f"{dataset}: candidates are not all accounted for ({counts}); report this")
    if shared := overlaps(clips):
        raise DatasetError(f"{dataset}: {shared[0]} ({len(shared)} such); report this")
    write_table(dataset / "clips.parquet", clips)
    write_table(dataset / "videos.parquet", videos)
    write_json(dataset / "dataset.json", _index(result, clips, counts, key) | {"tables": hash_tables(dataset)})


TABLES = ("clips.parquet", "videos.parquet")


def hash_tables(dataset: Path) -> dict[str, str]:
    """Return the sha256 of the tables, by name."""
    return {name: sha256_file(dataset / name) for name in TABLES}


def tables_are_whole(dataset: Path) -> bool:
    """Tell whether the tables are those that `dataset.json` was written for; a kill may have come between."""
    there = all((dataset / name).is_file() for name in TABLES)
    return there and read_json(dataset / "dataset.json").get("tables") == hash_tables(dataset)


def join_shards(clips: pa.Table, items: Mapping[str, str], encoded: Ledger) -> pa.Table:
    """Add to each clip where its latents lie; a kept clip that could not be encoded is dropped with that reason.

    A dropped clip that was kept and encoded before keeps its place, so that keeping it again costs nothing.
    """
    rows = clips.select([name for name in clips.column_names if name in _JOINED or name == "clip_id"]).to_pylist()
    for row, item in zip(rows, stored_items(clips, items), strict=True):
        receipt = encoded.receipts.get(item)
        if receipt is not None and (row["verdict"] == "kept" or outcome_of(receipt) == "ok"):
            row.update(_joined(item, receipt, encoded))
    columns = {name: clips[name] for name in clips.column_names if name in CLIP_SCHEMA.names}
    for name in _JOINED:
        columns[name] = pa.chunked_array([pa.array([row.get(name) for row in rows], CLIP_SCHEMA.field(name).type)])
    return pa.table([columns[field.name] for field in CLIP_SCHEMA], schema=CLIP_SCHEMA)


def stored_items(clips: pa.Table, items: Mapping[str, str]) -> list[str]:
    """Return for each clip the item of the encode phase that its place is taken from."""
    return [items.get(clip_id, f"{clip_id}+0") for clip_id in clips["clip_id"].to_pylist()]


_MEASURED = ("audio_shift_samples", "residual_lead_ms", "psnr_db", "psnr_mouth_db", "detail")
_JOINED = ("verdict", "reason", "value", "threshold", "failures", *_MEASURED, "shard", "row_group")


def _joined(item: str, receipt: Row, encoded: Ledger) -> Row:
    found: Row = {name: receipt.get(name) for name in _MEASURED}
    if (reason := outcome_of(receipt)) != "ok":
        failure = {"reason": reason, "value": receipt.get("value"), "threshold": receipt.get("threshold")}
        verdict = "error" if reason == "internal_error" else "dropped"
        return {**found, **failure, "verdict": verdict, "failures": [failure]}
    file = encoded.file_of(item)
    assert file is not None  # a receipt without a reason has rows
    return {**found, "shard": file["path"], "row_group": receipt["row_group"]}


def video_rows(result: Result, clips: pa.Table) -> list[Row]:
    """Return one row per input file, in the order of their paths."""
    num_clips = Counter(clips["video_id"].to_pylist())
    num_kept = Counter(clips.filter(pc.field("verdict") == "kept")["video_id"].to_pylist())
    has_face = set(clips.filter(pc.field("track").is_valid())["video_id"].to_pylist())
    by_video: dict[str, list[Item]] = {}
    for item in result.stretches:
        by_video.setdefault(item["video_id"], []).append(item)
    first_path = {items[0]["video_id"]: items[0]["path"] for items in by_video.values()}
    rows = []
    for source in result.inputs:
        receipt = result.probed[source["id"]]
        row: Row = {name: source[name] for name in ("path", "source", "size_bytes", "youtube_id")}
        row |= {
            "outcome": receipt["outcome"],
            "detail": receipt.get("detail") or receipt.get("note"),
            "num_clips": 0,
            "num_kept": 0,
        }
        video_id = receipt.get("video_id")
        if "video" in receipt:
            row |= _streams(receipt) | {"video_id": video_id}
        if video_id in first_path and first_path[video_id] != source["path"]:
            row |= {"outcome": "duplicate", "detail": f"same content as {first_path[video_id]}"}
        elif video_id in by_video:
            row |= _scored(by_video[video_id], result.scored, has_face=video_id in has_face)
            row |= {"num_clips": num_clips[video_id], "num_kept": num_kept[video_id]}
            row["detail"] = "; ".join(filter(None, (row["detail"], receipt.get("note")))) or None
        rows.append(row)
    return rows


def _streams(receipt: Row) -> Row:
    video = unpack(receipt["video"])
    row = {name: getattr(video, name) for name in VIDEO_SCHEMA.names if hasattr(video, name)}
    for name in ("duration_s", "audio_start_s", "audio_duration_s"):
        row[name] = float(row[name])
    return {**row, "video_start_s": float(video.start_s)}


def _scored(items: Sequence[Item], scored: Ledger, *, has_face: bool) -> Row:
    receipts = [scored.receipts[item["id"]] for item in items]
    bad = [receipt for receipt in receipts if receipt["outcome"] != "ok"]
    cuts = [
        (frame, score)
        for r in receipts
        for frame, score in zip(r.get("cuts", []), r.get("cut_scores", []), strict=True)
    ]
    row: Row = {
        "chunks": [item["start_frame"] for item in items],
        "chunk_ends": [item["end_frame"] for item in items] if items[0]["is_span"] else None,
        "cuts_s": [frame / 25 for frame, _ in cuts],
        "cut_scores": [score for _, score in cuts],
        "num_decoded": sum(receipt.get("num_decoded", 0) for receipt in receipts),
        "num_decode_errors": sum(receipt.get("num_decode_errors", 0) for receipt in receipts),
    }
    if bad and not has_face:
        return {**row, "outcome": bad[0]["outcome"], "detail": bad[0].get("detail")}
    some = f"{len(bad)} of {len(receipts)} stretches: {bad[0]['outcome']} ({bad[0].get('detail')})" if bad else None
    return {**row, "outcome": "ok" if has_face else "no_face", "detail": some}


def count(videos: Sequence[Row], clips: pa.Table) -> dict[str, Any]:
    """Return the counts that a dataset states of itself."""
    return {
        "inputs": len(videos),
        "inputs_ok": sum(row["outcome"] == "ok" for row in videos),
        **count_clips(clips),
    }


def _index(result: Result, clips: pa.Table, counts: Row, key: str) -> Row:
    encoded = clips.filter(pc.field("shard").is_valid())
    used = Counter(encoded.filter(pc.field("verdict") == "kept")["shard"].to_pylist())
    files = {file["path"]: file for file in result.encoded.files(list(result.encoded.receipts))}
    return {
        "schema_version": SCHEMA_VERSION,
        "hs_data_version": metadata.version("hs-data"),
        "key": key,
        "source": result.source,
        "preset": result.preset,
        "config": settings.to_table(result.config),
        "selection": result.selection,
        "built_select": result.built_select,
        "fingerprints": {
            "score": result.config.score_fingerprint(),
            "encode": result.config.encode_fingerprint(),
        },
        "models": registry.as_used(result.config.model_names, result.config.models),
        "counts": counts,
        "shards": [
            {**{name: files[path][name] for name in ("path", "sha256", "bytes", "rows")}, "clips": used[path]}
            for path in sorted(set(encoded["shard"].to_pylist()))
        ],
    }


def write_table(path: Path, rows: pa.Table | Sequence[Row]) -> None:
    """Write one of the tables atomically; rows of plain values are those of `videos.parquet`."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=VIDEO_SCHEMA)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=TABLE_ROW_GROUP)
