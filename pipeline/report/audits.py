"""Audits: does the crop tell the mouth, and do people, films, pictures or sounds stand on both sides of a split?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...manifests.errors import ConfigError
from ...manifests.schema import CROP_POLICIES
from .clip_columns import ClipColumns

LEAKAGE_LIMIT = 0.2
"""A correlation above which a crop is called leaky where `select.max_leakage` is off (docs/leakage.md)."""
HASH_BITS = 64
NEAR_BITS = 3
"""Bits in which the mouth hashes of two clips may differ to be called alike."""
BANDS = 4
"""16-bit bands: of at most three differing bits at least one band has none, so no pair is missed."""
MAX_STEPS = 100
"""How far apart two clips may lie among those that share a band; a million random hashes share one by 15."""
MAX_PAIRS = 200
"""Pairs that are listed; all are counted."""


def leakage_table(clips: ClipColumns, policy: str, max_leakage: float) -> dict[str, Any]:
    """Return how well the crop of each policy predicts the mouth, over the kept clips and over all with a face."""
    limit = max_leakage or LEAKAGE_LIMIT
    rows = []
    for name in CROP_POLICIES:
        values = clips.numbers(f"leakage_{name}")
        row: dict[str, Any] = {"policy": name, "in_use": name == policy}
        for label, mask in (("kept", clips.is_kept), ("all", clips.has_face)):
            found = values[mask & np.isfinite(values)].astype(np.float64)
            row[f"{label}_clips"] = len(found)
            if len(found):
                middle, high = np.percentile(found, (50, 95))
                row |= {f"{label}_mean": round(float(found.mean()), 4), f"{label}_median": round(float(middle), 4)}
                row |= {
                    f"{label}_p95": round(float(high), 4),
                    f"{label}_above": round(float((found > limit).mean()), 4),
                }
        rows.append(row)
    return {"limit": limit, "is_rule": max_leakage > 0, "policies": rows}


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


def split_overlap(clips: ClipColumns, names: Sequence[str] = ("identity", "video_id")) -> list[dict[str, Any]]:
    """Return which identities and source videos have kept clips in more than one split."""
    split, _ = clips.codes("split")
    rows = []
    for name in names:
        codes, words = clips.codes(name)
        named = clips.is_kept & (codes >= 0)
        pairs = np.unique(np.stack([codes[named], split[named]], axis=1), axis=0)
        owners, splits = np.unique(pairs[:, 0], return_counts=True)
        shared = [words[place] for place in owners[splits > 1]]
        rows.append({"what": name, "number": len(owners), "shared": len(shared), "examples": shared[:10]})
    return rows


def near_duplicates(clips: ClipColumns, hashes: np.ndarray) -> dict[str, Any]:
    """Return pairs of kept clips of different files whose mouths move alike: the same film in another encode or size.

    It finds copies that were cut at the same places; a copy that was cut elsewhere is not found.
    """
    places = np.flatnonzero(clips.is_kept & (hashes != 0))
    video, _ = clips.codes("video_id")
    found = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *_alike(hashes[places])]), axis=0)
    return _pairs(clips, places[found][video[places[found[:, 0]]] != video[places[found[:, 1]]]])


def _alike(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs [P, 2] of places whose hashes differ in at most `NEAR_BITS` bits, the smaller place first."""
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


def duplicate_audio(clips: ClipColumns) -> dict[str, Any]:
    """Return pairs of kept speaking clips whose sound has the same length, loudness and speech, to the last digit.

    That is the same recording, bit for bit; a recording in another encode is not found.
    """
    speaking = clips.is_kept & clips.equals("clip_class", "speech") & np.isfinite(clips.numbers("loudness_db"))
    places = np.flatnonzero(speaking)
    signature = np.stack(
        [clips.numbers(name)[places] for name in ("num_frames", "loudness_db", "speech_share")], axis=1
    )
    order = np.lexsort(signature.T)
    same = (signature[order[1:]] == signature[order[:-1]]).all(axis=1)
    return _pairs(clips, np.stack([places[order[:-1][same]], places[order[1:][same]]], axis=1))


def _pairs(clips: ClipColumns, pairs: np.ndarray) -> dict[str, Any]:
    """Describe pairs [P, 2] of places."""
    split, _ = clips.codes("split")
    across = split[pairs[:, 0]] != split[pairs[:, 1]]
    shown = pairs[np.argsort(~across, kind="stable")][:MAX_PAIRS]
    codes, paths = clips.codes("path")
    listed = [
        {
            "clips": ids,
            "paths": [paths[codes[place]] for place in pair],
            "across_splits": bool(split[pair[0]] != split[pair[1]]),
        }
        for pair, ids in ((pair, clips.ids(pair)) for pair in shown)
    ]
    return {"pairs": len(pairs), "across_splits": int(across.sum()), "shown": listed}


def read_benchmark(path: Path) -> set[str]:
    """Return the names in a list of a benchmark's clips: one a line, `#` begins a comment.

    Raises:
        ConfigError: the file cannot be read or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a list ({error}); write one id, path or sha256 a line") from error
    names = {name for line in lines if (name := line.split("#")[0].strip())}
    if not names:
        raise ConfigError(f"{path}: holds no id; write one clip id, identity, path or sha256 a line")
    return names


def benchmark_overlap(clips: ClipColumns, lists: Sequence[Path]) -> list[dict[str, Any]]:
    """Return which kept clips stand in lists of benchmark sets.

    A line may be a clip id, the sha256 of a file, an identity, a path, a file name, or a file name without its ending.
    """
    return [{"list": path.name, **_overlap(clips, read_benchmark(path))} for path in lists]


def _overlap(clips: ClipColumns, names: set[str]) -> dict[str, Any]:
    hit = np.zeros(len(clips), bool)
    by = Counter[str]()
    forms = {"video_id": lambda word: {word}, "identity": lambda word: {word}, "path": _forms}
    for column, spell in forms.items():
        codes, words = clips.codes(column)
        named = np.flatnonzero([not names.isdisjoint(spell(word)) for word in words])
        found = np.isin(codes, named) & clips.is_kept
        by[column] = int(found.sum())
        hit |= found
    found = clips.has_id(names) & clips.is_kept
    by["clip_id"] = int(found.sum())
    places = np.flatnonzero(hit | found)
    return {
        "names": len(names),
        "clips": len(places),
        "hours": round(float(clips.hours[places].sum()), 5),
        "by": dict(by),
        "examples": clips.ids(places[:10]),
    }


def _forms(path: str) -> set[str]:
    pure = PurePosixPath(path)
    return {path, pure.name, pure.stem}


def audit(
    clips: ClipColumns, traces: MouthTraces, *, policy: str, max_leakage: float, benchmarks: Sequence[Path]
) -> dict[str, Any]:
    """Return all audits as JSON values."""
    return {
        "leakage": leakage_table(clips, policy, max_leakage),
        "splits": split_overlap(clips),
        "near_duplicates": near_duplicates(clips, traces.hashes),
        "duplicate_audio": duplicate_audio(clips),
        "benchmarks": benchmark_overlap(clips, benchmarks),
    }
