"""The report: `report/index.html`, one file that opens anywhere, `report/report.json`, and the dataset's card."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...manifests import settings, sums
from ...manifests.dataset import Clip, Dataset
from ...manifests.storage import as_json
from ..select import SelectConfig
from . import previews, render
from .clip_columns import ClipColumns
from .clip_rows import clip_payload
from .facts import gather
from .funnel import Stage, funnel
from .samples import Sample, choose, margins
from .sync_verdict import sync_verdict
from .what_if import WhatIf

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
    """All that a user should look at."""


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
    what_if = WhatIf(clips, limits, dataset.index.config["crop"]["policy"])
    near = margins(clips, what_if)
    stages, sync = funnel(dataset, clips), sync_verdict(clips, what_if, limits)
    sample = choose(clips, near, sync.beyond)
    facts = gather(
        dataset,
        clips,
        what_if,
        stages=stages,
        sync=sync,
        costs=costs,
        benchmarks=benchmarks,
        sample=sample,
    )
    late = previews.make_previews(dataset, _to_film(dataset, clips, sample, num_previews))
    payload = clip_payload(dataset, clips, sample, near, what_if)
    facts = replace(facts, table=replace(facts.table, films=len(payload.films)))
    if late:
        told = f"{late} films were not made in {previews.BUDGET_S:.0f} s; report again to go on"
        facts = replace(facts, warnings=[*facts.warnings, told])
    files = dataset.videos(FILE_COLUMNS).slice(0, MAX_FILES).to_pylist()
    name = dataset.path.resolve().name + (f", selection {dataset.selection.name}" if dataset.selection else "")
    contents = {sums.FACTS: as_json(facts), sums.PAGE: render.page(name, facts, payload, files).encode()}
    if dataset.selection is None and _is_ours(dataset.path / sums.CARD):
        contents[sums.CARD] = render.card(dataset, facts).encode()
    sums.write_summed(dataset.own_folder, contents)
    return Report(page=dataset.own_folder / sums.PAGE, stages=stages, sync=sync.words, warnings=list(facts.warnings))


def _to_film(dataset: Dataset, clips: ClipColumns, sample: Sample, most: int) -> list[Clip]:
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
