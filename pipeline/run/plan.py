"""The plan: which items there are, which are done, and the units of the rest, written down before anything runs."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...manifests.errors import SourceError
from ...manifests.records import FRAME_RATE, Video, unpack
from ...manifests.sources import Source, SourceVideo
from ...manifests.storage import digest, read_json, write_json
from ..annotations.boxes import annotated_faces, key_of
from ..annotations.spans import frame_at, merge, pack_span, place_spans, stretch_id
from ..config import Config
from ..media.limits import MediaLimits, special_kind
from ..media.source_file import FileFacts, facts_of
from ..workers.units import Item, Phase, Unit, group

PROBE_VERSION = 2
"""Raise it when a probe says something else of the same file: what was probed before is then probed again."""
PROBE_TIMEOUT_S = 30.0
PROBE_BYTES_PER_S = 5e6
"""A probe reads a file twice; one that takes longer than at this rate has stalled."""
Receipts = Mapping[str, Mapping[str, Any]]


def probe_fingerprint(limits: MediaLimits) -> str:
    """Return the identity of what a probe says: another limit refuses other files."""
    return digest("probe", PROBE_VERSION, [getattr(limits, field.name) for field in fields(MediaLimits)])


def list_inputs(source: Source, root: Path, *, limit: int | None, shard: tuple[int, int] | None) -> list[Item]:
    """List the input files as items of the probe phase, told apart by path, size and time of change.

    What the source names but is not there, or cannot be read of its annotations, is an item too: with its outcome in
    `refused`, and not to be probed.

    Args:
        source: the reader.
        root: the source folder.
        limit: only the first so many files, and nothing that is refused.
        shard: `(i, n)`, 1 <= i <= n: only the i-th of n parts; a file's part depends on its path alone.

    Raises:
        SourceError: the folder is missing or holds no media file of this source.
    """
    check_root(source, root)
    listed = sorted(source.list_videos(root), key=lambda video: video.path)
    if all(video.reason for video in listed):
        raise SourceError(f"{root}: no media files for --source {source.name}{_why(listed)}. {source.guide()}")
    if limit is not None:
        listed = [video for video in listed if not video.reason]
    if shard is not None:
        listed = [video for video in listed if _part_of(video.path, shard[1]) == shard[0] - 1]
    return [_input_item(root, video, source.name) for video in listed[:limit]]


def _why(refused: Sequence[SourceVideo]) -> str:
    """Say what there is instead of media files."""
    counts = Counter(video.reason for video in refused)
    shown = [f"{number} {reason}" for reason, number in counts.most_common()]
    return f" ({', '.join(shown)}; first {refused[0].path}: {refused[0].detail})" if refused else ""


def check_root(source: Source, root: Path) -> None:
    """Raise `SourceError` when there is no source folder or nothing in it, which is known before anything is listed."""
    if root.is_file():
        raise SourceError(f"{root}: is a file; name the folder that holds it: --source folder --input {root.parent}")
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; name the source with --input. {source.guide()}")
    if not any(root.iterdir()):
        raise SourceError(f"{root}: no media files for --source {source.name}. {source.guide()}")


def _part_of(path: str, num_parts: int) -> int:
    return int(hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest(), 16) % num_parts


def _input_item(root: Path, video: SourceVideo, source: str) -> Item:
    facts = FileFacts(size_bytes=0, changed_ns=0) if video.reason else _facts(root / video.path)
    size, changed = facts.size_bytes, facts.changed_ns
    kind = None if video.reason else _special_kind(root / video.path)
    refused = {"outcome": video.reason, "detail": video.detail} if video.reason else None
    if kind:
        refused = {"outcome": "not_media", "detail": f"{kind} is no file"}
    return {
        "id": digest("input", video.path, size, changed, *([video.detail] if video.reason else []))[:20],
        "path": video.path,
        "size_bytes": size,
        "changed_ns": changed,
        "identity": video.identity,
        "youtube_id": video.youtube_id,
        "official_split": video.split,
        "spans": [pack_span(span) for span in video.spans],
        "refused": refused,
        "source": source,
        "seconds": 0.0,
        "timeout_s": max(PROBE_TIMEOUT_S, size / PROBE_BYTES_PER_S),
        "files": 1,
    }


def _facts(path: Path) -> FileFacts:
    try:
        return facts_of(path)
    except OSError:
        return FileFacts(size_bytes=0, changed_ns=0)  # the probe will say `unavailable`


def _special_kind(path: Path) -> str | None:
    """Return what it is where that is neither file nor folder; nothing is opened."""
    try:
        return special_kind(path.stat().st_mode)
    except OSError:
        return None


def check(item: Item, receipt: dict, config: Config, source: Source) -> dict:
    """Return what is known of an input of a source before anything is decoded."""
    if item["refused"] is not None:
        return item["refused"]
    placed = place_spans(
        refuse_early(receipt, config),
        item["spans"],
        check_boxes=config.run.check_boxes,
        need_boxes=config.faces.backend == "annotated",
    )
    late = source.late_note(Fraction(placed["video"]["audio_start_s"])) if placed["outcome"] == "ok" else None
    return placed if late is None else {**placed, "note": "; ".join(filter(None, (placed.get("note"), late)))}


def refuse_early(receipt: dict, config: Config) -> dict:
    """Give a readable file that can never give a clip its reason before anything is decoded."""
    if receipt["outcome"] != "ok":
        return receipt
    video = receipt["video"]
    if video["audio_codec"] is None:
        return {**receipt, "outcome": "no_audio_stream", "detail": "the file has no audio stream"}
    num_frames, least = video["num_frames"], config.select.min_clip_s
    if num_frames < least * 25:
        detail = f"{num_frames} frames at 25 fps; a clip needs {least:g} s"
        return {**receipt, "outcome": "too_short", "detail": detail}
    return receipt


def score_items(inputs: Sequence[Item], probed: Receipts, config: Config) -> list[Item]:
    """Return the stretches to score: every readable content once, long ones in chunks.

    Where a source annotates spans, those and nothing else, over all files of the same content.
    """
    copies: dict[str, list[Item]] = {}
    for source in inputs:
        if probed[source["id"]]["outcome"] == "ok":
            copies.setdefault(probed[source["id"]]["video_id"], []).append(source)
    return [item for same in copies.values() for item in _stretches(same, probed, config)]


def _stretches(same: Sequence[Item], probed: Receipts, config: Config) -> Iterator[Item]:
    source, receipts = same[0], [probed[item["id"]] for item in same]
    video = unpack(dict(receipts[0]["video"]))
    annotations = [a for receipt in receipts for a in receipt.get("annotations", [])]
    is_whole = not all(receipt.get("annotations") for receipt in receipts)
    is_span = not is_whole and merge(annotations) != [(0, video.num_frames)]
    for first, last in merge(annotations) if is_span else [(0, video.num_frames)]:
        for start, end in chunks(video, config.run.chunk_s, first, last):
            inside = [a for a in annotations if a["start_frame"] < end and start < a["end_frame"]]
            faces = annotated_faces(inside) if config.faces.backend == "annotated" else []
            stretch = stretch_id(receipts[0]["video_id"], start, end if is_span else None)
            yield {
                "id": f"{stretch}-{key_of(faces)}" if faces else stretch,
                "video_id": receipts[0]["video_id"],
                "path": source["path"],
                "source": source["source"],
                "identity": source["identity"],
                "youtube_id": source["youtube_id"],
                "official_split": source["official_split"],
                "annotations": inside,
                "faces": faces,
                "is_span": is_span,
                "video": receipts[0]["video"],
                "facts": receipts[0]["facts"],
                "start_frame": start,
                "end_frame": end,
                "seconds": (end - start) / FRAME_RATE,
                "timeout_s": config.decode.timeout_s(end - start),
                "compute_s": config.compute_s(end - start),
            }


def chunks(video: Video, chunk_s: float, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int]]:
    """Cut a video, or its frames `first:last`, at clean key frames into stretches of at least `chunk_s`.

    Yields:
        25 fps frame ranges.
    """
    start, stop = first, video.num_frames if last is None else last
    for time in video.keyframes_s:
        frame = frame_at(time)
        if (frame - start) / FRAME_RATE >= chunk_s and (stop - frame) / FRAME_RATE >= chunk_s / 2:
            yield start, frame
            start = frame
    yield start, stop


class PlanFile:
    """The units of one phase as they were planned, under `work/plan`; an unfinished run goes on with the same units."""

    def __init__(self, dataset: Path, phase: Phase, shard: tuple[int, int] | None) -> None:
        part = "" if shard is None else f"-{shard[0]}of{shard[1]}"
        self._path = dataset / "work" / "plan" / f"{phase}{part}.json"
        self._phase: Phase = phase

    def units(
        self, items: Sequence[Item], done: set[str], fingerprint: str, *, most: float, weight: str = "seconds"
    ) -> list[Unit]:
        """Return the units of all items that are not done, and write them down.

        Units of an earlier plan that are still wanted whole are taken as they are, so that a resumed run makes the
        same shards as one that was never stopped.
        """
        todo = {item["id"]: item for item in items if item["id"] not in done}
        planned = read_json(self._path)["units"] if self._path.is_file() else []
        units: list[Unit] = []
        taken: set[str] = set()
        for table in planned:
            ids = table["items"]
            if ids and table["fingerprint"] == fingerprint and all(i in todo and i not in taken for i in ids):
                taken.update(ids)
                units.append(Unit.of(self._phase, fingerprint, [todo[i] for i in ids]))
        rest = [item for item in items if item["id"] in todo and item["id"] not in taken]
        units += [Unit.of(self._phase, fingerprint, part) for part in group(rest, most=most, weight=weight)]
        if units:
            self._write(units)
        return units

    def _write(self, units: Sequence[Unit]) -> None:
        tables = [
            {"fingerprint": u.fingerprint, "unit": u.unit_id, "items": [item["id"] for item in u.items]} for u in units
        ]
        write_json(self._path, {"phase": self._phase, "units": tables})
