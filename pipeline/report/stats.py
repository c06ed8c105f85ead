"""Stats: a dataset in one small document, of the figures that the report draws."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.table import Table

from ...manifests import selections
from ...manifests.dataset import Dataset
from . import audits, figures
from .clip_columns import ClipColumns
from .funnel import as_table, funnel
from .terminal import duration

OWNERS = ("source", "split", "clip_class", "identity", "language")
MAX_OWNERS = 10
"""Owners of a kind that a terminal shows; JSON has those of the report."""


def stats(dataset: Dataset) -> dict[str, Any]:
    """Return counts, hours, reasons, kept hours by owner, and percentiles of the kept clips as JSON values.

    Raises:
        DatasetError: a table cannot be read.
    """
    clips = ClipColumns(dataset)
    stages = as_table(funnel(dataset, clips))
    drawn = figures.clip_figures(clips, {}, audits.mouth_traces(clips).span)
    read, find, select = stages
    hours = {"read": read["hours_in"], "scored": find["hours_in"], "with_face": find["hours_out"]}
    hours |= {"clips": select["hours_in"], "kept": select["hours_out"]}
    hours |= {"encoded": round(dataset.index.counts.encoded_frames / 25 / 3600, 6)}
    return {
        "dataset": dataset.path.resolve().name,
        "selection": dataset.selection.name if dataset.selection else None,
        "selections": selections.names(dataset.path),
        "source": dataset.index.source,
        "preset": dataset.index.preset,
        "counts": asdict(dataset.index.counts),
        "hours": hours,
        "reasons": [
            {"stage": stage["name"], "unit": stage["unit"], **loss} for stage in stages for loss in stage["losses"]
        ],
        "by": {name: figures.owners(clips, name) for name in OWNERS},
        "columns": {figure["column"]: _column(figure) for figure in drawn},
        "not_measured": figures.not_measured(clips),
    }


def _column(figure: dict[str, Any]) -> dict[str, Any]:
    """Return the percentiles of a figure; null where no clip that was kept has a value."""
    low, middle, high = figure["percentiles"] or (None, None, None)
    return {"title": figure["title"], "unit": figure["unit"], "p5": low, "median": middle, "p95": high}


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """Yield what `stats` found as a terminal shows it."""
    counts = found["counts"]
    named = f", selection {found['selection']}" if found["selection"] else ""
    yield _table(f"{found['dataset']}{named}", ("number",), [(name, str(number)) for name, number in counts.items()])
    yield _table("hours", ("length",), [(name, duration(hours)) for name, hours in found["hours"].items()])
    losses = [
        (row["reason"], f"{row['number']} {row['unit']}" if row["number"] else "parts of files", duration(row["hours"]))
        for row in found["reasons"]
    ]
    yield _table("dropped as", ("number", "length"), losses)
    for name, owners in found["by"].items():
        rows = [(row["name"], str(row["clips"]), duration(row["hours"])) for row in owners["top"][:MAX_OWNERS]]
        rest = owners["number"] - len(rows)
        rows += [(f"and {rest} more", "", "")] if rest else []
        unnamed = [("not stated", "", duration(owners["unnamed_hours"]))] if owners["unnamed_hours"] else []
        yield _table(f"kept by {name}", ("clips", "length"), rows + unnamed)
    rows = [
        (
            name,
            *("–" if column[part] is None else f"{column[part]:.3g}" for part in ("p5", "median", "p95")),
            column["unit"],
        )
        for name, column in found["columns"].items()
    ]
    yield _table("kept clips", ("5 %", "median", "95 %", "unit"), rows)


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title, overflow="fold", min_width=24)
    for name in columns:
        table.add_column(name, justify="left" if name == "unit" else "right", min_width=9)
    for row in rows:
        table.add_row(*row)
    return table
