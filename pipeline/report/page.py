"""The report: `report/index.html`, one file that opens anywhere, `report/report.json`, and the dataset's card."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...manifests import settings, sums
from ...manifests.dataset import Dataset
from ...manifests.storage import as_json
from ..select import SelectConfig
from . import audits, calibrate, figures, previews, provenance, render
from .clip_columns import ClipColumns
from .clip_rows import clip_payload
from .funnel import as_table, funnel, warnings
from .samples import Sample, choose, margins
from .what_if import WhatIf, rule_table, sync_table

logger = logging.getLogger(__name__)
MAX_FILES = 2000
"""Input files that the page lists; all of them stand in videos.parquet."""
FILE_COLUMNS = ["path", "outcome", "detail", "duration_s", "cuts_s", "fps", "height", "num_clips", "num_kept"]


def write_report(
    dataset: Dataset, costs: dict[str, float], *, num_previews: int = 0, benchmarks: Sequence[Path] = ()
) -> Path:
    """Write the report and the card, and return the page's path; files that would not change are left alone.

    Args:
        dataset: an opened dataset.
        costs: CPU and GPU seconds by stage (`total_costs`).
        num_previews: films of kept clips to make, where they are not there yet.
        benchmarks: lists of clips that must not be trained on, one id, path or sha256 a line.

    Raises:
        ConfigError: a list cannot be read.
        HsDataError: a table or shard cannot be read, or films were asked for and the codec's weights are missing.
    """
    clips = ClipColumns(dataset)
    limits = settings.build(SelectConfig, dataset.index["config"]["select"], path="select.")
    policy = dataset.index["config"]["crop"]["policy"]
    what_if = WhatIf(clips, limits, policy)
    near = margins(clips, what_if)
    sample = choose(clips, near)
    facts = _facts(dataset, clips, what_if, limits, costs, benchmarks)
    late = previews.make_previews(dataset, _to_film(dataset, clips, sample, num_previews))
    if late:
        facts["warnings"].append(f"{late} films were not made in {previews.BUDGET_S:.0f} s; report again to go on")
    payload = clip_payload(dataset, clips, sample, near, what_if)
    facts["table"] = {"rows": len(sample.rows), "of": len(clips), "borderline": sample.num_borderline}
    facts["table"] |= {"films": len(payload["films"])}
    files = dataset.videos(FILE_COLUMNS).slice(0, MAX_FILES).to_pylist()
    name = dataset.path.resolve().name + (f", selection {dataset.selection.name}" if dataset.selection else "")
    contents = {sums.FACTS: as_json(facts), sums.PAGE: render.page(name, facts, payload, files).encode()}
    if dataset.selection is None and _is_ours(dataset.path / sums.CARD):
        contents[sums.CARD] = render.card(dataset, facts).encode()
    sums.write_summed(dataset.own_folder, contents)
    return dataset.own_folder / sums.PAGE


def _facts(
    dataset: Dataset,
    clips: ClipColumns,
    what_if: WhatIf,
    limits: SelectConfig,
    costs: dict[str, float],
    benchmarks: Sequence[Path],
) -> dict[str, Any]:
    stages = funnel(dataset)
    index, policy = dataset.index, dataset.index["config"]["crop"]["policy"]
    traces = audits.mouth_traces(clips)
    is_kept = clips.is_kept
    return {
        **{name: index[name] for name in ("source", "preset", "counts")},
        "kept_hours": round(float(clips.hours[is_kept].sum()), 5),
        "hours_in": round(stages[0].hours_in, 5),
        "warnings": list(warnings(stages, dataset)),
        "funnel": as_table(stages),
        "what_if": rule_table(what_if),
        "sync": sync_table(clips, what_if),
        "calibration": calibrate.saved(dataset),
        "figures": figures.clip_figures(clips, limits, traces.span),
        "file_figures": figures.file_figures(dataset.videos([m.column for m in figures.FILE_MEASURES])),
        "not_measured": figures.not_measured(clips),
        "owners": [figures.owners(clips, name) for name in ("identity", "source", "language")],
        "pose": figures.pose_grid(clips),
        "latents": figures.latent_statistics(dataset),
        "audits": audits.audit(clips, traces, policy=policy, max_leakage=limits.max_leakage, benchmarks=benchmarks),
        "provenance": provenance.provenance(dataset, costs),
    }


def _to_film(dataset: Dataset, clips: ClipColumns, sample: Sample, most: int) -> list[Any]:
    """Return kept clips to make films of: those of the contact sheet first, then others of the table."""
    if most == 0:
        return []
    on_disk = {clip.clip_id: clip for clip in dataset.kept}
    kept = sample.rows[clips.is_kept[sample.rows]]
    ids = dict.fromkeys([*clips.ids(sample.sheets.get("kept", [])), *clips.ids(kept)])
    return [on_disk[clip_id] for clip_id in ids if clip_id in on_disk][:most]


def _is_ours(card: Path) -> bool:
    """Tell whether the card may be written: a README.md that somebody else wrote stays."""
    if card.is_file() and render.CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        logger.warning("%s: not written by hs-data, left as it is; remove it to have the dataset's card", card)
        return False
    return True
