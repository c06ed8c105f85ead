"""Audits: does the crop tell the mouth, and do people, films, pictures or sounds stand on both sides of a split?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ...manifests.errors import ConfigError
from ...manifests.schema import CROP_POLICIES
from .clip_columns import ClipColumns
from .duplicates import AlikePairs, MouthTraces, duplicate_audio, near_duplicates

LEAKAGE_LIMIT = 0.2
"""A correlation above which a crop is called leaky where `select.max_leakage` is off (docs/leakage.md)."""


@dataclass(frozen=True, kw_only=True)
class LeakageSummary:
    """How well a crop predicts the mouth; None where no clip has a score."""

    clips: int
    """Those with a score."""
    mean: float | None = None
    median: float | None = None
    p95: float | None = None
    above: float | None = None
    """Share above the limit."""


@dataclass(frozen=True, kw_only=True)
class PolicyLeakage:
    """Leakage of the crop of one policy."""

    policy: str
    in_use: bool
    kept: LeakageSummary
    with_face: LeakageSummary
    """Over all clips with a face."""

    def to_json(self) -> dict[str, object]:
        """Return one flat row; what was not measured is missing."""
        named = [(label, vars(found)) for label, found in (("kept", self.kept), ("all", self.with_face))]
        values = {f"{label}_{name}": value for label, found in named for name, value in found.items()}
        return {"policy": self.policy, "in_use": self.in_use} | {k: v for k, v in values.items() if v is not None}


@dataclass(frozen=True, kw_only=True)
class LeakageTable:
    """Leakage of every policy."""

    limit: float
    is_rule: bool
    """Whether clips above the limit are dropped."""
    policies: Sequence[PolicyLeakage]


@dataclass(frozen=True, kw_only=True)
class SplitOverlap:
    """Owners of kept clips, such as people or videos, that stand in more than one split."""

    what: str
    """Column that names them."""
    number: int
    shared: int
    examples: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class BenchmarkOverlap:
    """Kept clips that stand in a list of a benchmark."""

    list: str
    """File name of the list."""
    names: int
    """Names in it."""
    clips: int
    hours: float
    by: Mapping[str, int]
    """Clips by the column that named them."""
    examples: Sequence[str]
    """Clip ids."""


@dataclass(frozen=True, kw_only=True)
class Audits:
    """All audits of a report."""

    leakage: LeakageTable
    splits: Sequence[SplitOverlap]
    near_duplicates: AlikePairs
    duplicate_audio: AlikePairs
    benchmarks: Sequence[BenchmarkOverlap]


def leakage_table(clips: ClipColumns, policy: str, max_leakage: float) -> LeakageTable:
    """Return how well the crop of each policy predicts the mouth, over the kept clips and over all with a face."""
    limit = max_leakage or LEAKAGE_LIMIT
    rows = []
    for name in CROP_POLICIES:
        values = clips.numbers(f"leakage_{name}")
        kept, with_face = (_summary(values[mask], limit) for mask in (clips.is_kept, clips.has_face))
        rows.append(PolicyLeakage(policy=name, in_use=name == policy, kept=kept, with_face=with_face))
    return LeakageTable(limit=limit, is_rule=max_leakage > 0, policies=rows)


def _summary(values: np.ndarray, limit: float) -> LeakageSummary:
    found = values[np.isfinite(values)].astype(np.float64)
    if not len(found):
        return LeakageSummary(clips=0)
    median, high = np.percentile(found, (50, 95))
    return LeakageSummary(
        clips=len(found),
        mean=round(float(found.mean()), 4),
        median=round(float(median), 4),
        p95=round(float(high), 4),
        above=round(float((found > limit).mean()), 4),
    )


def split_overlap(clips: ClipColumns, names: Sequence[str] = ("identity", "video_id")) -> list[SplitOverlap]:
    """Return which identities and source videos have kept clips in more than one split."""
    split, _ = clips.codes("split")
    rows = []
    for name in names:
        codes, words = clips.codes(name)
        named = clips.is_kept & (codes >= 0)
        pairs = np.unique(np.stack([codes[named], split[named]], axis=1), axis=0)
        owners, splits = np.unique(pairs[:, 0], return_counts=True)
        shared = [words[code] for code in owners[splits > 1]]
        rows.append(SplitOverlap(what=name, number=len(owners), shared=len(shared), examples=shared[:10]))
    return rows


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


def benchmark_overlap(clips: ClipColumns, lists: Sequence[Path]) -> list[BenchmarkOverlap]:
    """Return which kept clips stand in lists of benchmark sets.

    A line may be a clip id, the sha256 of a file, an identity, a path, a file name, or a file name without its ending.
    """
    return [_overlap(clips, path.name, read_benchmark(path)) for path in lists]


def _overlap(clips: ClipColumns, list_name: str, names: set[str]) -> BenchmarkOverlap:
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
    indices = np.flatnonzero(hit | found)
    return BenchmarkOverlap(
        list=list_name,
        names=len(names),
        clips=len(indices),
        hours=round(float(clips.hours[indices].sum()), 5),
        by=dict(by),
        examples=clips.ids(indices[:10]),
    )


def _forms(path: str) -> set[str]:
    pure = PurePosixPath(path)
    return {path, pure.name, pure.stem}


def audit(
    clips: ClipColumns, traces: MouthTraces, *, policy: str, max_leakage: float, benchmarks: Sequence[Path]
) -> Audits:
    """Run all audits."""
    return Audits(
        leakage=leakage_table(clips, policy, max_leakage),
        splits=split_overlap(clips),
        near_duplicates=near_duplicates(clips, traces.hashes),
        duplicate_audio=duplicate_audio(clips),
        benchmarks=benchmark_overlap(clips, benchmarks),
    )
