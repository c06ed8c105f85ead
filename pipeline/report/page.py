"""The report: `report/index.html`, one file that opens anywhere, `report/report.json`, and the dataset's card."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...manifests import settings, sums
from ...manifests.dataset import Dataset
from ...manifests.sources import find_source
from ...manifests.storage import as_json
from ..select import SelectConfig
from . import audits, calibrate, figures, previews, provenance, render
from .best_change import best_change, large_losses
from .clip_columns import ClipColumns
from .clip_rows import clip_payload
from .funnel import Stage, as_table, funnel
from .samples import Sample, choose, margins
from .sync_verdict import SyncVerdict, sync_verdict
from .what_if import WhatIf, rule_table, sync_table

logger = logging.getLogger(__name__)
MAX_FILES = 2000
"""Input files that the page lists; all of them stand in videos.parquet."""
FILE_COLUMNS = ["path", "outcome", "detail", "duration_s", "cuts_s", "fps", "height", "num_clips", "num_kept"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report as it was written, with the part that a terminal shows."""

    page: Path
    stages: list[Stage]
    sync: str
    """Whether sync was judged, measured only or not measured, in a sentence."""
    warnings: list[str]
    """What a user should look at."""


def write_report(
    dataset: Dataset, costs: dict[str, float], *, num_previews: int = 0, benchmarks: Sequence[Path] = ()
) -> Path:
    """Write the report and the card as `make_report` does, and return the page's path."""
    return make_report(dataset, costs, num_previews=num_previews, benchmarks=benchmarks).page


def make_report(
    dataset: Dataset, costs: dict[str, float], *, num_previews: int = 0, benchmarks: Sequence[Path] = ()
) -> Report:
    """Write the report and the card, and return what a terminal shows; files that would not change are left alone.

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
    limits = settings.build(SelectConfig, dataset.index.config["select"], path="select.")
    policy = dataset.index.config["crop"]["policy"]
    what_if = WhatIf(clips, limits, policy)
    near = margins(clips, what_if)
    stages, sync = funnel(dataset, clips), sync_verdict(clips, what_if, limits)
    sample = choose(clips, near, sync.beyond)
    facts = _facts(dataset, clips, what_if, stages, sync, costs, benchmarks)
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
    return Report(page=dataset.own_folder / sums.PAGE, stages=stages, sync=sync.words, warnings=facts["warnings"])


def _facts(
    dataset: Dataset,
    clips: ClipColumns,
    what_if: WhatIf,
    stages: list[Stage],
    sync: SyncVerdict,
    costs: dict[str, float],
    benchmarks: Sequence[Path],
) -> dict[str, Any]:
    index, policy = dataset.index, dataset.index.config["crop"]["policy"]
    traces = audits.mouth_traces(clips)
    rules = rule_table(what_if)
    change = best_change(clips, what_if, rules)
    limit = what_if.limits.max_leakage
    return {
        "source": index.source,
        "preset": index.preset,
        "counts": asdict(index.counts),
        "kept_hours": round(stages[-1].hours_out, 6),
        "hours_in": round(stages[0].hours_in, 6),
        "warnings": [*large_losses(stages, change and change.words(what_if)), *notes(dataset)],
        "funnel": as_table(stages),
        "what_if": rules,
        "sync_verdict": sync.as_json(),
        "sync": sync_table(clips, what_if),
        "calibration": calibrate.saved(dataset, judged=sync.state in ("judged", "partly judged")),
        "figures": figures.clip_figures(clips, what_if.lines(), traces.span),
        "file_figures": figures.file_figures(dataset.videos([m.column for m in figures.FILE_MEASURES])),
        "not_measured": figures.not_measured(clips),
        "owners": [figures.owners(clips, name) for name in ("identity", "source", "language")],
        "pose": figures.pose_grid(clips),
        "latents": figures.latent_statistics(dataset),
        "audits": audits.audit(clips, traces, policy=policy, max_leakage=limit, benchmarks=benchmarks),
        "provenance": provenance.provenance(dataset, costs),
    }


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
