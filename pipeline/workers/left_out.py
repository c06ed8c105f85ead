"""Inputs that a dataset was told to forget are left out of a build."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...manifests.forgotten import Forgotten
from .units import Item

FORGOTTEN = "forgotten"
"""Outcome of a probe that met content which was to be forgotten, under a new name."""


def drop_forgotten(inputs: Sequence[Item], forgotten: Forgotten) -> list[Item]:
    """Return the inputs without those whose path, YouTube id or person is forgotten, and without such spans."""
    if not forgotten.requests:
        return list(inputs)
    left = []
    for item in inputs:
        spans = [span for span in item["spans"] if not _is_forgotten(span["identity"] or item["identity"], forgotten)]
        gone = forgotten.holds("path", item["path"]) or forgotten.holds("youtube_id", item["youtube_id"])
        # Without its spans a file would be taken whole.
        gone = gone or (not spans if item["spans"] else _is_forgotten(item["identity"], forgotten))
        if not gone:
            left.append({**item, "spans": spans})
    return left


def _is_forgotten(identity: str | None, forgotten: Forgotten) -> bool:
    return forgotten.holds("identity", identity)


def not_forgotten(inputs: Sequence[Item], receipts: Mapping[str, Mapping[str, Any]]) -> list[Item]:
    """Return the inputs without those whose content the probe found to be forgotten."""
    return [item for item in inputs if receipts.get(item["id"], {}).get("outcome") != FORGOTTEN]
