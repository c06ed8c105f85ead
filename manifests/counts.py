"""Counts that a dataset states of itself, from its tables."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from .schema import VIDEO_SCHEMA


def count_clips(clips: pa.Table) -> dict[str, int]:
    """Return the numbers of candidates, verdicts and stored clips, from `verdict`, `shard` and `num_frames`."""
    verdicts = Counter(clips["verdict"].to_pylist())
    stored = clips.select(["verdict", "shard", "num_frames"]).filter(
        (pc.field("verdict") == "kept") & pc.field("shard").is_valid()
    )
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
