"""Finalize: the ledgers of all phases become the tables and the index of a dataset, written last and atomically."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...manifests import settings
from ...manifests.clip_rows import RowLocations
from ...manifests.errors import DatasetError
from ...manifests.index import INDEX, DatasetIndex, Fingerprints, read_index, tables_are_whole
from ...manifests.records import unpack
from ...manifests.schema import VIDEO_SCHEMA
from ...manifests.storage import digest
from ...manifests.tables import list_shards, shard_entry, video_table, write_tables
from ..config import Config
from ..models import registry
from ..score.registry import CLIP_SCHEMA
from ..splits import overlaps
from ..workers.outcomes import outcome_of
from ..workers.units import Item
from .ledger import Ledger

Row = dict[str, Any]


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
    """Scores and verdicts without what is bulky, and where the scores lie."""
    items: Mapping[str, str]
    """Clip id to the id of its item in the encode phase, for the kept clips."""
    encoded: Ledger


SAID = ("path", "identity", "youtube_id", "official_split", "spans")
"""What a source says of an input."""


def finalize(dataset: Path, result: Result) -> None:
    """Write the tables unless those on disk were made of the very same things."""
    key = key_of(result)
    index = dataset / INDEX
    if not index.is_file() or not tables_are_whole(dataset) or read_index(dataset).key != key:
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
        [file.path for file in result.encoded.files(stored_items(result.clips, result.items))],
    ]
    return digest("dataset", config, made_by, result.selection, result.source, receipts)


def write_dataset(dataset: Path, result: Result, key: str) -> None:
    """Write `clips.parquet`, `videos.parquet` and, last of all, `dataset.json`.

    Raises:
        DatasetError: an input or a candidate is not accounted for, or somebody is in two splits; a bug of ours, and
            nothing is written.
    """
    clips = join_shards(result.clips, result.items, result.encoded)
    videos = video_table(video_rows(result, clips))
    if shared := overlaps(clips):
        raise DatasetError(f"{dataset}: {shared[0]} ({len(shared)} such); report this")
    index = _index(dataset, result, clips, key)
    write_tables(
        dataset, index, clips=clips, schema=CLIP_SCHEMA, bulky=RowLocations.of_scores(dataset, clips), videos=videos
    )


def join_shards(clips: pa.Table, items: Mapping[str, str], encoded: Ledger) -> pa.Table:
    """Return clips with where their latents lie; a kept clip that could not be encoded is dropped with that reason.

    A dropped clip that was kept and encoded before keeps its place, so that keeping it again costs nothing.
    """
    places: dict[str, list[int]] = {name: [] for name in _JOINED}
    values: dict[str, list[Any]] = {name: [] for name in _JOINED}
    kept = pc.call_function("equal", [clips["verdict"], "kept"]).to_pylist()
    for place, (item, is_kept) in enumerate(zip(stored_items(clips, items), kept, strict=True)):
        receipt = encoded.receipts.get(item)
        if receipt is not None and (is_kept or outcome_of(receipt) == "ok"):
            for name, value in _joined(item, receipt, encoded).items():
                places[name].append(place)
                values[name].append(value)
    columns = {name: clips[name] for name in clips.column_names}
    for name in _JOINED:
        columns[name] = _with_values(columns.get(name), len(clips), name, places[name], values[name])
    names = [name for name in CLIP_SCHEMA.names if name in columns]
    rest = [name for name in columns if name not in CLIP_SCHEMA.names]
    fields = [*(CLIP_SCHEMA.field(name) for name in names), *(clips.schema.field(name) for name in rest)]
    return pa.table([columns[name] for name in [*names, *rest]], schema=pa.schema(fields))


def _with_values(
    column: pa.ChunkedArray | None, number: int, name: str, places: Sequence[int], values: Sequence[Any]
) -> pa.Array:
    """Return a column, or one of nulls, with other values at some places."""
    kind = CLIP_SCHEMA.field(name).type
    before = pa.nulls(number, kind) if column is None else column.combine_chunks()
    where = np.arange(number)
    where[np.asarray(places, np.int64)] = number + np.arange(len(places))
    return pa.concat_arrays([before, pa.array(values, kind)]).take(pa.array(where))


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
    return {**found, "shard": file.path, "row_group": receipt["row_group"]}


def video_rows(result: Result, clips: pa.Table) -> list[Row]:
    """Return one row per input file, in the order of their paths."""
    ids = clips.select(["video_id", "verdict", "track"])
    num_clips = Counter(ids["video_id"].to_pylist())
    num_kept = Counter(ids.filter(pc.field("verdict") == "kept")["video_id"].to_pylist())
    has_face = set(ids.filter(pc.field("track").is_valid())["video_id"].to_pylist())
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
        "chunk_outcomes": [receipt["outcome"] for receipt in receipts],
        "cuts_s": [frame / 25 for frame, _ in cuts],
        "cut_scores": [score for _, score in cuts],
        "num_decoded": sum(receipt.get("num_decoded", 0) for receipt in receipts),
        "num_decode_errors": sum(receipt.get("num_decode_errors", 0) for receipt in receipts),
    }
    if bad and not has_face:
        return {**row, "outcome": bad[0]["outcome"], "detail": bad[0].get("detail")}
    some = f"{len(bad)} of {len(receipts)} stretches: {bad[0]['outcome']} ({bad[0].get('detail')})" if bad else None
    return {**row, "outcome": "ok" if has_face else "no_face", "detail": some}


def _index(dataset: Path, result: Result, clips: pa.Table, key: str) -> DatasetIndex:
    config, files = result.config, result.encoded.files(list(result.encoded.receipts))
    return DatasetIndex(
        hs_data_version=metadata.version("hs-data"),
        key=key,
        source=result.source,
        preset=result.preset,
        config=settings.to_table(config),
        selection=result.selection,
        built_select=result.built_select,
        fingerprints=Fingerprints(score=config.score_fingerprint(), encode=config.encode_fingerprint()),
        models=tuple(registry.as_used(config.model_names, config.models)),
        shards=list_shards(dataset, clips, [shard_entry(file) for file in files]),
    )
