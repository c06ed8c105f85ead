"""Facts: all that a report says of a dataset, as it stands in `report.json`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...manifests.counts import Counts
from ...manifests.dataset import Dataset
from ...manifests.sources import find_source
from . import calibrate, figures
from .audits import Audits, audit
from .best_change import best_change, large_losses
from .calibrate import SavedCalibration
from .clip_columns import ClipColumns
from .duplicates import mouth_traces
from .figures import ClipHistogram, FileHistogram, HoursByOwner, LatentStatistics, PoseGrid
from .funnel import Stage
from .provenance import Provenance, provenance
from .samples import Sample
from .sync_verdict import SyncVerdict
from .what_if import RuleRow, SyncGrid, WhatIf, rule_table, sync_table


@dataclass(frozen=True, kw_only=True)
class TableCounts:
    """Numbers of the clips that the page shows one by one."""

    rows: int
    of: int
    """All candidates."""
    borderline: int
    """Rows that are there for being near a limit."""
    films: int


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """Content of `report.json`, in its order."""

    source: str
    preset: str
    counts: Counts
    kept_hours: float
    hours_in: float
    warnings: Sequence[str]
    funnel: Sequence[Stage]
    what_if: Sequence[RuleRow]
    sync_verdict: SyncVerdict
    sync: SyncGrid | None
    calibration: SavedCalibration | None
    figures: Sequence[ClipHistogram]
    file_figures: Sequence[FileHistogram]
    not_measured: Sequence[str]
    """Titles of the figures without a number."""
    owners: Sequence[HoursByOwner]
    pose: PoseGrid | None
    latents: LatentStatistics | None
    audits: Audits
    provenance: Provenance
    table: TableCounts


def gather(
    dataset: Dataset,
    clips: ClipColumns,
    what_if: WhatIf,
    *,
    stages: list[Stage],
    sync: SyncVerdict,
    costs: dict[str, float],
    benchmarks: Sequence[Path],
    sample: Sample,
) -> ReportFacts:
    """Measure what the report says.

    Args:
        dataset: an opened dataset.
        clips: its candidates.
        what_if: their rules.
        stages: of its funnel.
        sync: how its leads were used.
        costs: CPU and GPU seconds by stage (`total_costs`).
        benchmarks: lists of clips that must not be trained on.
        sample: clips that the page shows one by one; none of them has a film yet.
    """
    index = dataset.index
    traces = mouth_traces(clips)
    rules = rule_table(what_if)
    change = best_change(clips, what_if, rules)
    return ReportFacts(
        source=index.source,
        preset=index.preset,
        counts=index.counts,
        kept_hours=round(stages[-1].hours_out, 6),
        hours_in=round(stages[0].hours_in, 6),
        warnings=[*large_losses(stages, change and change.words(what_if)), *notes(dataset)],
        funnel=stages,
        what_if=rules,
        sync_verdict=sync,
        sync=sync_table(clips, what_if),
        calibration=calibrate.saved(dataset, judged=sync.state in ("judged", "partly judged")),
        figures=figures.clip_figures(clips, what_if.lines(), traces.span),
        file_figures=figures.file_figures(dataset.videos([m.column for m in figures.FILE_MEASURES])),
        not_measured=figures.not_measured(clips),
        owners=[figures.owners(clips, name) for name in ("identity", "source", "language")],
        pose=figures.pose_grid(clips),
        latents=figures.latent_statistics(dataset),
        audits=audit(
            clips,
            traces,
            policy=index.config["crop"]["policy"],
            max_leakage=what_if.limits.max_leakage,
            benchmarks=benchmarks,
        ),
        provenance=provenance(dataset, costs),
        table=TableCounts(rows=len(sample.rows), of=len(clips), borderline=sample.num_borderline, films=0),
    )


def notes(dataset: Dataset) -> Iterator[str]:
    """Say what else a user should look at: clips that wait to be encoded, sound that was repaired."""
    waiting = dataset.index.counts.kept - dataset.index.counts.encoded
    if waiting:
        how = "keep them in the dataset's own selection, then" if dataset.selection else "run the"
        yield f"{waiting} kept clips are not encoded yet; {how} build again"
    source = find_source(dataset.index.source)
    if source and source.late_sound:
        starts_s = dataset.videos(["audio_start_s"])["audio_start_s"].to_pylist()
        if late := sum(source.late_note(start_s) is not None for start_s in starts_s):
            yield f"{late} files: {source.late_sound}"
