"""Audits with limits: what a dataset must not have more of, for a pipeline that stops when it has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from rich.table import Table

from ...manifests import settings
from ...manifests.dataset import Dataset
from ..select import SelectConfig
from . import audits
from .clip_columns import ClipColumns
from .duplicates import AlikePairs, mouth_traces

FLOOR = "leakage_static"
"""Column of what real head motion tells of the mouth, of a crop that stands still (docs/leakage.md)."""
LEAKY_EXCESS = 0.8
"""Leakage above its floor from which a single clip is called leaky. Of 42 real clips of 3 to 10 s that a build kept,
none came above .75 as `highsync` crops them (median .06): what is above is not the uncertainty of a short clip."""
MAX_EXAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class AuditLimits:
    """The most that passes."""

    max_leakage: float = 0.1
    """Mean leakage of the kept clips. The same 42 clips: highsync .03, centre .14, per_frame .25."""
    max_leaky_share: float = 0.01
    """Share of the kept clips whose leakage lies more than .8 above its floor."""
    max_shared_identities: int = 0
    """People with kept clips in more than one split."""
    max_shared_videos: int = 0
    """Files, and YouTube videos, with kept clips in more than one split."""
    max_near_duplicates: int = 0
    """Pairs of kept clips of different files whose mouths move alike."""
    max_duplicate_audio: int = 0
    """Pairs of kept clips with the same sound."""
    max_pairs_across: int = 0
    """Pairs of either kind that lie in different splits."""
    max_benchmark_clips: int = 0
    """Kept clips that stand in a list of a benchmark."""

    def __post_init__(self) -> None:
        negative = [field.name for field in fields(self) if getattr(self, field.name) < 0]
        if negative:
            raise ValueError(f"{negative[0]}: a limit of an audit must not be negative")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One audit against its limit."""

    audit: str
    found: float | None
    """None: nothing to measure it on."""
    limit: float
    passed: bool
    examples: list[str]
    """Clip ids, identities or paths, the worst first where they have an order."""


def check(dataset: Dataset, limits: AuditLimits, benchmarks: Sequence[Path] = ()) -> list[Finding]:
    """Run the report's audits on the kept clips and compare them with the limits.

    Raises:
        ConfigError: a list of a benchmark cannot be read.
        DatasetError: a table cannot be read.
    """
    clips, policy = ClipColumns(dataset), dataset.index.config["crop"]["policy"]
    rules = settings.build(SelectConfig, dataset.index.config["select"], path="select.")
    found = audits.audit(
        clips, mouth_traces(clips), policy=policy, max_leakage=rules.max_leakage, benchmarks=benchmarks
    )
    return [
        _finding("leakage, mean", _mean_leakage(found.leakage), limits.max_leakage, []),
        _leaky(clips, policy, limits.max_leaky_share),
        *_splits(clips, found.splits, limits),
        *_duplicates(found.near_duplicates, found.duplicate_audio, limits),
        *(
            _finding(f"clips of {row.list}", row.clips, limits.max_benchmark_clips, row.examples)
            for row in found.benchmarks
        ),
    ]


def _finding(audit: str, found: float | None, limit: float, examples: Sequence[str]) -> Finding:
    passed = found is None or found <= limit
    return Finding(audit=audit, found=found, limit=limit, passed=passed, examples=list(examples[:MAX_EXAMPLES]))


def _mean_leakage(leakage: audits.LeakageTable) -> float | None:
    return next(row.kept.mean for row in leakage.policies if row.in_use)


def _leaky(clips: ClipColumns, policy: str, limit: float) -> Finding:
    """Compare each kept clip's leakage with its floor; a clip that has no score says nothing."""
    excess = clips.numbers(f"leakage_{policy}") - clips.numbers(FLOOR)
    measured = np.flatnonzero(clips.is_kept & np.isfinite(excess))
    leaky = measured[excess[measured] > LEAKY_EXCESS]
    share = round(len(leaky) / len(measured), 6) if len(measured) else None
    return _finding("leaky clips, share", share, limit, clips.ids(leaky[np.argsort(-excess[leaky], kind="stable")]))


def _splits(clips: ClipColumns, overlap: Sequence[audits.SplitOverlap], limits: AuditLimits) -> Iterator[Finding]:
    people, files = overlap
    yield _finding("identities in two splits", people.shared, limits.max_shared_identities, people.examples)
    yield _finding("files in two splits", files.shared, limits.max_shared_videos, files.examples)
    (films,) = audits.split_overlap(clips, ["youtube_id"])  # some sources cut their films into files of their own
    yield _finding("YouTube ids in two splits", films.shared, limits.max_shared_videos, films.examples)


def _duplicates(near: AlikePairs, sound: AlikePairs, limits: AuditLimits) -> Iterator[Finding]:
    yield _finding("near-duplicates", near.pairs, limits.max_near_duplicates, _pairs(near))
    yield _finding("duplicate audio", sound.pairs, limits.max_duplicate_audio, _pairs(sound))
    across = [" ".join(pair.clips) for kind in (near, sound) for pair in kind.shown if pair.across_splits]
    number = near.across_splits + sound.across_splits
    yield _finding("pairs across splits", number, limits.max_pairs_across, across)


def _pairs(kind: AlikePairs) -> list[str]:
    return [" ".join(pair.clips) for pair in kind.shown]


def table(findings: Sequence[Finding]) -> Table:
    """Return findings as a terminal shows them."""
    shown = Table(box=None, pad_edge=False)
    for name, justify in (("audit", "left"), ("found", "right"), ("limit", "right"), ("", "left"), ("first", "left")):
        shown.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for finding in findings:
        found = "–" if finding.found is None else f"{finding.found:.3g}"
        state = "not measured" if finding.found is None else "ok" if finding.passed else "[bold red]above[/]"
        first = finding.examples[0] if finding.examples and not finding.passed else ""
        shown.add_row(finding.audit, found, f"{finding.limit:.3g}", state, first)
    return shown
