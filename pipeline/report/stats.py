"""Stats: a dataset in one small document, of the figures that the report draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from ...manifests import selections
from ...manifests.counts import Counts
from ...manifests.dataset import Dataset
from . import figures
from .clip_columns import ClipColumns
from .duplicates import mouth_traces
from .funnel import FRAMES_PER_HOUR, Stage, funnel
from .terminal import duration

OWNERS = ("source", "split", "clip_class", "identity", "language")
MAX_OWNERS = 10
"""Owners of a kind that a terminal shows; JSON has those of the report."""


@dataclass(frozen=True, kw_only=True)
class StageHours:
    """Length of what reached each stage, hours."""

    read: float
    scored: float
    with_face: float
    clips: float
    """Footage of several faces counts once for each."""
    kept: float
    encoded: float


@dataclass(frozen=True, kw_only=True)
class LossRow:
    """Clips or files that one reason took away at a stage."""

    stage: str
    unit: str
    reason: str
    number: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class ColumnPercentiles:
    """Percentiles of the kept clips; None where none of them has a value."""

    title: str
    unit: str
    p5: float | None
    median: float | None
    p95: float | None


@dataclass(frozen=True, kw_only=True)
class DatasetStats:
    """All that `hs-data stats` tells."""

    dataset: str
    selection: str | None
    selections: Sequence[str]
    source: str
    preset: str
    counts: Counts
    hours: StageHours
    reasons: Sequence[LossRow]
    by: Mapping[str, figures.HoursByOwner]
    columns: Mapping[str, ColumnPercentiles]
    not_measured: Sequence[str]


def stats(dataset: Dataset) -> DatasetStats:
    """Return counts, hours, reasons, kept hours by owner, and percentiles of the kept clips.

    Raises:
        DatasetError: a table cannot be read.
    """
    clips = ClipColumns(dataset)
    stages = funnel(dataset, clips)
    drawn = figures.clip_figures(clips, {}, mouth_traces(clips).span)
    return DatasetStats(
        dataset=dataset.path.resolve().name,
        selection=dataset.selection.name if dataset.selection else None,
        selections=selections.names(dataset.path),
        source=dataset.index.source,
        preset=dataset.index.preset,
        counts=dataset.index.counts,
        hours=_hours(stages, dataset.index.counts),
        reasons=list(_losses(stages)),
        by={name: figures.owners(clips, name) for name in OWNERS},
        columns={figure.column: _column(figure) for figure in drawn},
        not_measured=figures.not_measured(clips),
    )


def _hours(stages: Sequence[Stage], counts: Counts) -> StageHours:
    read, find, select = stages
    return StageHours(
        read=round(read.hours_in, 6),
        scored=round(find.hours_in, 6),
        with_face=round(find.hours_out, 6),
        clips=round(select.hours_in, 6),
        kept=round(select.hours_out, 6),
        encoded=round(counts.encoded_frames / FRAMES_PER_HOUR, 6),
    )


def _losses(stages: Sequence[Stage]) -> Iterator[LossRow]:
    for stage in stages:
        for loss in stage.losses:
            hours = round(loss.hours, 6)
            yield LossRow(stage=stage.name, unit=stage.unit, reason=loss.reason, number=loss.number, hours=hours)


def _column(figure: figures.ClipHistogram) -> ColumnPercentiles:
    low, middle, high = figure.percentiles or (None, None, None)
    return ColumnPercentiles(title=figure.title, unit=figure.unit, p5=low, median=middle, p95=high)


def tables(found: DatasetStats) -> Iterator[Table]:
    """Yield what `stats` found as a terminal shows it."""
    named = f", selection {found.selection}" if found.selection else ""
    counts = [(name, str(number)) for name, number in vars(found.counts).items()]
    yield _table(f"{found.dataset}{named}", ("number",), counts)
    yield _table("hours", ("length",), [(name, duration(hours)) for name, hours in vars(found.hours).items()])
    losses = [
        (row.reason, f"{row.number} {row.unit}" if row.number else "parts of files", duration(row.hours))
        for row in found.reasons
    ]
    yield _table("dropped as", ("number", "length"), losses)
    for name, owners in found.by.items():
        yield _table(f"kept by {name}", ("clips", "length"), list(_owner_rows(owners)))
    rows = [
        (name, *("–" if part is None else f"{part:.3g}" for part in (row.p5, row.median, row.p95)), row.unit)
        for name, row in found.columns.items()
    ]
    yield _table("kept clips", ("5 %", "median", "95 %", "unit"), rows)


def _owner_rows(owners: figures.HoursByOwner) -> Iterator[tuple[str, ...]]:
    shown = owners.top[:MAX_OWNERS]
    yield from ((row.name, str(row.clips), duration(row.hours)) for row in shown)
    if rest := owners.number - len(shown):
        yield f"and {rest} more", "", ""
    if owners.unnamed_hours:
        yield "not stated", "", duration(owners.unnamed_hours)


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title, overflow="fold", min_width=24)
    for name in columns:
        table.add_column(name, justify="left" if name == "unit" else "right", min_width=9)
    for row in rows:
        table.add_row(*row)
    return table
