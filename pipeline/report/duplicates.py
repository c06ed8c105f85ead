"""Duplicates: pairs of kept clips whose mouths move alike, or whose sound is the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .clip_columns import ClipColumns

HASH_BITS = 64
NEAR_BITS = 3
"""Bits in which the mouth hashes of two clips may differ to be called alike."""
BANDS = 4
"""16-bit bands: of at most three differing bits at least one band has none, so no pair is missed."""
MAX_STEPS = 100
"""How far apart two clips may lie among those that share a band; a million random hashes share one by 15."""
MAX_PAIRS = 200
"""Pairs that are listed; all are counted."""


@dataclass(frozen=True, kw_only=True)
class MouthTraces:
    """Sums that one pass over the mouth openings leaves."""

    span: np.ndarray
    """[N] float32 largest less least opening; NaN where there is none."""
    hashes: np.ndarray
    """[N] uint64: whether the mouth opens or closes from each 65th of the clip to the next; 0 where there is none."""


def mouth_traces(clips: ClipColumns) -> MouthTraces:
    """Read every mouth opening once and keep its range and a hash of its movement."""
    spans, hashes = [], []
    for values, lengths in clips.pieces("mouth_opening"):
        span, hashed = np.full(len(lengths), np.nan, np.float32), np.zeros(len(lengths), np.uint64)
        long = np.flatnonzero(lengths > HASH_BITS)
        starts = np.cumsum(lengths) - lengths
        present = np.flatnonzero(lengths > 0)
        if len(present):
            edges = starts[present]
            span[present] = np.maximum.reduceat(values, edges) - np.minimum.reduceat(values, edges)
        if len(long):
            hashed[long] = _hash(values, starts[long], lengths[long])
        spans.append(span)
        hashes.append(hashed)
    return MouthTraces(
        span=np.concatenate([*spans, np.zeros(0, np.float32)]), hashes=np.concatenate([*hashes, np.zeros(0, np.uint64)])
    )


def _hash(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Hash the curves that begin at `starts`: means over 65 equal parts, a bit for each rise."""
    parts = HASH_BITS + 1
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    edges = starts[:, None] + (lengths[:, None] * np.arange(parts + 1)) // parts
    means = np.diff(sums[edges], axis=1) / np.diff(edges, axis=1)
    rises = (np.diff(means, axis=1) > 0).astype(np.uint64)
    return (rises << np.arange(HASH_BITS, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class AlikePair:
    """Two clips that are alike."""

    clips: Sequence[str]
    """Their ids."""
    paths: Sequence[str]
    across_splits: bool


@dataclass(frozen=True, kw_only=True)
class AlikePairs:
    """Pairs of clips that are alike: all counted, the first ones listed."""

    pairs: int
    across_splits: int
    shown: Sequence[AlikePair]
    """Those across splits first."""


def near_duplicates(clips: ClipColumns, hashes: np.ndarray) -> AlikePairs:
    """Return pairs of kept clips of different files whose mouths move alike: the same film in another encode or size.

    It finds copies that were cut at the same frames; a copy that was cut elsewhere is not found.
    """
    indices = np.flatnonzero(clips.is_kept & (hashes != 0))
    video, _ = clips.codes("video_id")
    found = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *_alike(hashes[indices])]), axis=0)
    pairs = indices[found]
    return _pairs(clips, pairs[video[pairs[:, 0]] != video[pairs[:, 1]]])


def _alike(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs [P, 2] of indices whose hashes differ in at most `NEAR_BITS` bits, the smaller index first."""
    for band in range(BANDS):
        keys = (hashes >> np.uint64(HASH_BITS // BANDS * band)).astype(np.uint16)
        order = np.argsort(keys, kind="stable")
        for step in range(1, min(MAX_STEPS, len(order))):
            one, two = order[:-step], order[step:]
            same = keys[one] == keys[two]
            if not same.any():
                break
            one, two = one[same], two[same]
            close = np.bitwise_count(hashes[one] ^ hashes[two]) <= NEAR_BITS
            yield np.sort(np.stack([one[close], two[close]], axis=1), axis=1)


def duplicate_audio(clips: ClipColumns) -> AlikePairs:
    """Return pairs of kept speaking clips whose sound has the same length, loudness and speech, to the last digit.

    That is the same recording, bit for bit; a recording in another encode is not found.
    """
    speaking = clips.is_kept & clips.equals("clip_class", "speech") & np.isfinite(clips.numbers("loudness_db"))
    indices = np.flatnonzero(speaking)
    signature = np.stack(
        [clips.numbers(name)[indices] for name in ("num_frames", "loudness_db", "speech_share")], axis=1
    )
    order = np.lexsort(signature.T)
    same = (signature[order[1:]] == signature[order[:-1]]).all(axis=1)
    return _pairs(clips, np.stack([indices[order[:-1][same]], indices[order[1:][same]]], axis=1))


def _pairs(clips: ClipColumns, pairs: np.ndarray) -> AlikePairs:
    """Describe pairs [P, 2] of indices."""
    split, _ = clips.codes("split")
    across = split[pairs[:, 0]] != split[pairs[:, 1]]
    shown = np.argsort(~across, kind="stable")[:MAX_PAIRS]
    codes, paths = clips.codes("path")
    listed = [
        AlikePair(
            clips=clips.ids(pairs[index]),
            paths=[paths[code] for code in codes[pairs[index]]],
            across_splits=bool(across[index]),
        )
        for index in shown
    ]
    return AlikePairs(pairs=len(pairs), across_splits=int(across.sum()), shown=listed)
