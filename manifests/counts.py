"""Counts that a dataset states of itself, from its tables."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from .schema import VIDEO_SCHEMA


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of files, candidate clips and frames."""

    inputs: int = 0
    inputs_ok: int = 0
    """Input files without a fault."""
    candidates: int = 0
    kept: int = 0
    dropped: int = 0
    errors: int = 0
    encoded: int = 0
    """Kept clips that lie in a shard."""
    encoded_frames: int = 0
    """At 25 fps."""


def count_clips(clips: pa.Table) -> dict[str, int]:
    """Return the numbers of candidates, verdicts and stored clips, from `verdict`, `shard` and `num_frames`."""
    verdicts = Counter(clips["verdict"].to_pylist())
    stored = clips.select(["verdict", "shard", "num_frames"])
    stored = stored.filter((pc.field("verdict") == "kept") & pc.field("shard").is_valid())
    frames = stored["num_frames"].to_pylist()
    return {
        "candidates": len(clips),
        "kept": verdicts["kept"],
        "dropped": verdicts["dropped"],
        "errors": verdicts["error"],
        "encoded": len(frames),
        "encoded_frames": sum(frames),
    }


def count_videos(videos: pa.Table) -> dict[str, int]:
    """Return the numbers of input files and of those without a fault, from `outcome`."""
    outcomes = videos["outcome"].to_pylist()
    return {"inputs": len(outcomes), "inputs_ok": outcomes.count("ok")}


def recount_videos(videos: pa.Table, clips: pa.Table) -> pa.Table:
    """Return the rows of files with the numbers of their clips as these clips have it.

    Args:
        videos: with `video_id`, `num_clips` and `num_kept`; copies of a file that comes before them have no clips.
        clips: all candidates, with `video_id` and `verdict`.
    """
    found = Counter(clips["video_id"].to_pylist())
    kept = Counter(clips.select(["video_id", "verdict"]).filter(pc.field("verdict") == "kept")["video_id"].to_pylist())
    owners = list(zip(videos["video_id"].to_pylist(), videos["num_clips"].to_pylist(), strict=True))
    for name, number in (("num_clips", found), ("num_kept", kept)):
        values = [number[video_id] if num_clips else 0 for video_id, num_clips in owners]
        index = videos.schema.get_field_index(name)
        videos = videos.set_column(index, VIDEO_SCHEMA.field(name), pa.array(values, pa.int32()))
    return videos
