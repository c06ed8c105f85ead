"""Which clips the page shows one by one: contact sheets for each reason, and the rows of its table."""

from dataclasses import dataclass

import numpy as np

from ..select import RULES, measured
from .clip_columns import ClipColumns
from .rows import ClipRow
from .sync_verdict import BEYOND
from .what_if import WhatIf

EXAMPLES = 20
"""Faces in the contact sheet of a reason."""
MAX_ROWS = 3000
"""Rows of the page's table."""
COUNTS = ("num_faces", "annotated_faces")
MAX_BORDERLINE = 1000
"""Rows among them that are taken for being near a limit."""


@dataclass(frozen=True, kw_only=True)
class Margins:
    """How far each clip is from a limit, as a share of that limit; small is borderline."""

    distance: np.ndarray
    """[N] float64: of a dropped clip from the limit it broke first, of a kept clip from the nearest one; else inf."""
    rule: np.ndarray
    """[N] int16 index in `RULES` of the limit nearest to a kept clip; -1: none."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Indices of the clips that the page shows."""

    sheets: dict[str, list[int]]
    """Reason, or `kept`, to indices: half of them nearest to the limit, half a sample by id."""
    rows: np.ndarray
    """[M] indices of the table's rows, those of the sheets included, in the order of the dataset."""
    num_borderline: int
    """Rows that are there for being near a limit."""


def margins(clips: ClipColumns, what_if: WhatIf) -> Margins:
    """Measure how near each clip is to a limit."""
    value, threshold = clips.numbers("value"), clips.numbers("threshold")
    distance = _relative(np.abs(value), threshold)
    distance[~np.isfinite(distance) | clips.is_kept] = np.inf
    rule = np.full(len(clips), -1, np.int16)
    for index, each in enumerate(RULES):
        limit = what_if.threshold(each)
        if not limit or each.column in COUNTS:
            continue  # off, or a limit of 0, from which no share can be taken; or a count, which is never near
        away = _relative(what_if.sizes(each), limit)
        nearer = clips.is_kept & what_if.kinds[each.clips] & (away < distance)  # NaN compares false
        distance[nearer], rule[nearer] = away[nearer], index
    return Margins(distance=distance, rule=rule)


def _relative(sizes: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    return np.abs(sizes.astype(np.float64) - limit) / np.maximum(np.abs(limit), 1e-9)


def choose(clips: ClipColumns, near: Margins, beyond: np.ndarray | None = None, most: int = MAX_ROWS) -> Sample:
    """Choose examples and rows; the choice stays the same as data are added, but for clips nearer to a limit.

    Args:
        clips: all candidates.
        near: how near they are to the limits.
        beyond: indices of kept clips whose lead lies beyond the limit of a judged build, the furthest first.
        most: rows.
    """
    codes, words = clips.codes("reason")
    groups = {word: codes == index for index, word in enumerate(words)} | {"kept": clips.is_kept}
    sheets = {name: _sheet(clips, near, mask) for name, mask in sorted(groups.items()) if mask.any()}
    if beyond is not None and len(beyond):
        sheets = {BEYOND: beyond[:EXAMPLES].tolist(), **sheets}
    shown = np.unique([index for indices in sheets.values() for index in indices]).astype(np.int64)
    if len(clips) <= most:
        return Sample(sheets=sheets, rows=np.arange(len(clips)), num_borderline=0)
    finite = np.flatnonzero(np.isfinite(near.distance))
    borderline = finite[np.argsort(near.distance[finite], kind="stable")][:MAX_BORDERLINE]
    must = np.union1d(shown, borderline)
    first = clips.order[:most]
    rest = first[~np.isin(first, must)][: max(0, most - len(must))]
    return Sample(sheets=sheets, rows=np.union1d(must, rest), num_borderline=len(borderline))


def _sheet(clips: ClipColumns, near: Margins, mask: np.ndarray) -> list[int]:
    indices = np.flatnonzero(mask & clips.has_face)
    if len(indices) == 0:
        return []
    by_distance = indices[np.argsort(near.distance[indices], kind="stable")][: EXAMPLES // 2]
    mine = clips.order[mask[clips.order] & clips.has_face[clips.order]]
    chosen = dict.fromkeys([*by_distance.tolist(), *mine[:EXAMPLES].tolist()])
    return list(chosen)[:EXAMPLES]


def lead_caption(row: ClipRow) -> str:
    """Say how far the sound of an example is off, where that was not judged."""
    lead = row["audio_lead_frames"]
    return f"{abs(lead):.1f} frames {'early' if lead > 0 else 'late'}"


def caption(row: ClipRow, near_rule: int, what_if: WhatIf) -> str:
    """Say what was measured of an example, and against which limit."""
    if row["verdict"] != "kept":
        if row["value"] is None:
            return ""
        limit = "" if row["threshold"] is None else f" / {row['threshold']:.3g}"
        return f"{row['value']:.3g}{limit}"
    if near_rule < 0:
        return ""
    rule = RULES[near_rule]
    value = row[measured(rule.column, row["crop_policy"])]
    return f"{rule.limit} {value:.3g} / {what_if.threshold(rule):.3g}"
