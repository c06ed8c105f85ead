"""Claims: which of several faces in a picture the box of an annotation means."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .boxes import Item

BATCH_ROWS = 1024
SHARED_TIME = 0.5
"""A clip belongs to an annotation, and two faces are seen together, for at least this share of the clip."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A clip's face as the annotated boxes see it."""

    annotation: int | None
    """Place of the annotation whose box is nearest to this face, of all faces seen with it; None: it means others."""
    num_faces: int
    """Faces seen together that boxes mean, this one included; 0: this one is not among them."""


def find_claims(clips: pa.Table, annotations: Mapping[str, Sequence[Item]]) -> dict[int, Claim]:
    """Return the claim of each row of the score table that has a face and lies in an annotation with a box.

    Args:
        clips: candidates, with the `face_centre` [2] of those whose video has a box.
        annotations: placed annotations by video.
    """
    boxed = {video for video, found in annotations.items() if any(a["box"] for a in found)}
    rows: dict[str, list[int]] = defaultdict(list)
    names = ("video_id", "track")
    for index, (video, track) in enumerate(zip(*(clips[name].to_pylist() for name in names), strict=True)):
        if video in boxed and track is not None:
            rows[video].append(index)
    if not rows:
        return {}
    found: dict[int, Claim] = {}
    clips = clips.select(["start_frame", "num_frames", "face_centre"]).combine_chunks()
    for video, indices in rows.items():
        found |= _of_video(clips.take(indices), indices, annotations[video])
    return found


def _of_video(clips: pa.Table, indices: Sequence[int], annotations: Sequence[Item]) -> dict[int, Claim]:
    start = clips["start_frame"].to_numpy()
    length = clips["num_frames"].to_numpy()
    centres = np.stack([np.asarray(row.values) for row in clips["face_centre"]])
    together = _share(start, length, start, start + length) >= SHARED_TIME  # [N, N]: for that share of the row's clip
    shares = {
        number: _share(start, length, a["start_frame"], a["end_frame"])[:, 0]
        for number, a in enumerate(annotations)
        if a["box"]
    }
    mine: list[list[int]] = [[] for _ in indices]
    for number, share in shares.items():
        inside = share >= SHARED_TIME
        # Compared by centres and with rivals alone: sources draw their boxes tight or wide, so overlap says little, but
        # whose face lies nearest to the box is plain even where the box is far too large.
        off = np.hypot(*(centres - _centre(np.asarray([annotations[number]["box"]]))).T)
        nearest = np.where(together & inside, off, np.inf).min(axis=1)
        for row in np.flatnonzero(inside & (off <= nearest)):  # a tie goes to both: neither is the wrong face
            mine[row].append(number)
    means = np.array([bool(numbers) for numbers in mine])
    count = (together & means).sum(axis=1)
    return {
        index: Claim(
            annotation=max(mine[row], key=lambda number: shares[number][row], default=None),
            num_faces=int(count[row]) if means[row] else 0,
        )
        for row, index in enumerate(indices)
        if any(share[row] >= SHARED_TIME for share in shares.values())
    }


def face_centres(path: Path, videos: Sequence[str], boxed: Collection[str]) -> Sequence[np.ndarray | None]:
    """Return the median centre [2] float32 of the face of each row of a file of scores; boxes are read a few at a time.

    Args:
        path: the file.
        videos: the video of each row.
        boxed: those that it is needed of.
    """
    if not set(videos) & set(boxed):
        return [None] * len(videos)
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(BATCH_ROWS, columns=["boxes"])
        rows = (row for batch in batches for row in batch["boxes"])
        return [
            _centre(np.asarray(row.values).reshape(-1, 4))
            if video in boxed and row.is_valid and len(row.values)
            else None
            for row, video in zip(rows, videos, strict=True)
        ]


def _centre(boxes: np.ndarray) -> np.ndarray:
    """Return the median centre [2] of boxes [T, 4]."""
    return np.median((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0)


def _share(start: np.ndarray, length: np.ndarray, low: np.ndarray | int, high: np.ndarray | int) -> np.ndarray:
    """Return the share [N, M] of clips [N] that M stretches cover."""
    first = np.maximum(start[:, None], np.atleast_1d(low)[None])
    last = np.minimum((start + length)[:, None], np.atleast_1d(high)[None])
    return np.clip(last - first, 0, None) / length[:, None]
