"""The plan: which items there are, which are done, and the units of the rest, written down before anything runs."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...manifests.errors import SourceError
from ...manifests.records import FRAME_RATE, Video, unpack
from ...manifests.sources import Source
from ...manifests.storage import digest, read_json, write_json
from ..config import Config
from .units import Item, Phase, Unit, group

PROBE_FINGERPRINT = "probe-1"
PROBE_UNIT_FILES = 32
PROBE_TIMEOUT_S = 30.0
PROBE_BYTES_PER_S = 5e6
"""A probe reads a file twice; one that takes longer than at this rate has stalled."""
Receipts = Mapping[str, Mapping[str, Any]]


def list_inputs(source: Source, root: Path, *, limit: int | None, shard: tuple[int, int] | None) -> list[Item]:
    """List the input files as items of the probe phase, told apart by path, size and time of change.

    Args:
        source: the reader.
        root: the source folder.
        limit: only the first so many files.
        shard: `(i, n)`, 1 <= i <= n: only the i-th of n parts; a file's part depends on its path alone.

    Raises:
        SourceError: the folder is missing or holds no media file.
    """
    check_root(source, root)
    listed = list(source.list_videos(root))
    if not listed:
        raise SourceError(f"{root}: no media files for --source {source.name}. Expected:\n{source.layout.strip()}")
    if shard is not None:
        listed = [video for video in listed if _part_of(video.path, shard[1]) == shard[0] - 1]
    return [_input_item(root, video.path, video.identity, source.name) for video in listed[:limit]]


def check_root(source: Source, root: Path) -> None:
    """Raise `SourceError` when there is no source folder, which is known before anything is listed."""
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; name the source with --input. Expected:\n{source.layout.strip()}")


def _part_of(path: str, num_parts: int) -> int:
    return int(hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest(), 16) % num_parts


def _input_item(root: Path, path: str, identity: str | None, source: str) -> Item:
    try:
        facts = (root / path).stat()
        size, changed = facts.st_size, facts.st_mtime_ns
    except OSError:
        size, changed = 0, 0  # the probe will say `unavailable`
    item_id = digest("input", path, size, changed)[:20]
    return {
        "id": item_id,
        "path": path,
        "size_bytes": size,
        "identity": identity,
        "source": source,
        "seconds": 0.0,
        "timeout_s": max(PROBE_TIMEOUT_S, size / PROBE_BYTES_PER_S),
        "files": 1,
    }


def score_items(inputs: Sequence[Item], probed: Receipts, config: Config) -> list[Item]:
    """Return the stretches to score: every readable content once, long files in chunks."""
    items: list[Item] = []
    seen: set[str] = set()
    for source in inputs:
        receipt = probed[source["id"]]
        if receipt["outcome"] != "ok" or receipt["video_id"] in seen:
            continue
        seen.add(receipt["video_id"])
        for start, end in chunks(unpack(dict(receipt["video"])), config.run.chunk_s):
            items.append(
                {
                    "id": f"{receipt['video_id']}-{start}",
                    "video_id": receipt["video_id"],
                    "path": source["path"],
                    "source": source["source"],
                    "identity": source["identity"],
                    "video": receipt["video"],
                    "start_frame": start,
                    "end_frame": end,
                    "seconds": (end - start) / FRAME_RATE,
                    "timeout_s": config.decode.timeout_s(end - start),
                }
            )
    return items


def chunks(video: Video, chunk_s: float) -> Iterator[tuple[int, int]]:
    """Cut a video at clean key frames into stretches of at least `chunk_s`, as 25 fps frame ranges."""
    start = 0
    for time in video.keyframes_s:
        # The first frame that shows the key frame's picture or a later one: its slot's middle is not before it.
        frame = math.ceil(time * FRAME_RATE - Fraction(1, 2))
        if (frame - start) / FRAME_RATE >= chunk_s and (video.num_frames - frame) / FRAME_RATE >= chunk_s / 2:
            yield start, frame
            start = frame
    yield start, video.num_frames


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
