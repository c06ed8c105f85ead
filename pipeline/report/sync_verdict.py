"""Whether sync was judged, measured only, or not measured, in words, and which kept clips judging it would drop."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..select import SelectConfig
from .clip_columns import ClipColumns
from .terminal import duration
from .what_if import WhatIf

BEYOND = "beyond_lead"
"""Name of the contact sheet of kept clips beyond the lead."""


State = Literal["judged", "partly judged", "measured only", "not measured"]


@dataclass(frozen=True, kw_only=True)
class SyncVerdict:
    """How a build used the audio leads it measured."""

    state: State
    words: str
    """The same as a sentence."""
    kept: int
    """Kept clips."""
    max_lead_frames: float
    """The limit that is in force, or that a judged build would use."""
    beyond: np.ndarray
    """Indices of kept clips that were not judged and lie beyond it, the furthest first."""

    def to_json(self) -> dict[str, str | int | float]:
        """Return what stands in report.json."""
        table: dict[str, str | int | float] = {"state": self.state, "words": self.words, "kept": self.kept}
        return table | {"max_lead_frames": self.max_lead_frames, "beyond": len(self.beyond)}


def sync_verdict(clips: ClipColumns, what_if: WhatIf, limits: SelectConfig) -> SyncVerdict:
    """Tell what was made of the leads of clips with speech."""
    lead = np.abs(clips.numbers("audio_lead_frames"))
    measured = what_if.kinds["speech"] & np.isfinite(lead)
    judged = measured & what_if.kinds["synced"]
    beyond = np.flatnonzero(clips.is_kept & measured & ~judged & (lead > limits.max_lead_frames))
    beyond = beyond[np.argsort(-lead[beyond], kind="stable")]
    state = _state(measured, judged)
    kept = int(clips.is_kept.sum())
    hours = float(clips.hours[beyond].sum())
    told = _told(len(beyond), kept, hours, limits)
    words = {
        "judged": f"Sync was judged: what was kept leads or lags by at most {limits.max_lead_frames:g} frames.",
        "partly judged": f"Sync was judged in {int(judged.sum())} of {int(measured.sum())} clips with speech and "
        f"measured only in the others{_why(limits)}. {told}",
        "measured only": f"Sync was measured only, not judged{_why(limits)}. {told}",
        "not measured": "Sync was not measured: no clip with speech has an audio lead.",
    }
    return SyncVerdict(
        state=state, words=words[state], kept=kept, max_lead_frames=limits.max_lead_frames, beyond=beyond
    )


def _state(measured: np.ndarray, judged: np.ndarray) -> State:
    if not measured.any():
        return "not measured"
    if not judged.any():
        return "measured only"
    return "judged" if judged.sum() == measured.sum() else "partly judged"


def _why(limits: SelectConfig) -> str:
    return " (select.sync_rules=never)" if limits.sync_rules == "never" else " (an estimate without a network)"


def _told(number: int, kept: int, hours: float, limits: SelectConfig) -> str:
    length = f", {duration(hours)}," if number else ""
    return (
        f"{number or 'None'} of the {kept} kept clips{length} {'lies' if number == 1 else 'lie'} beyond "
        f"{limits.max_lead_frames:g} frames of lead, the limit that a judged build would use."
    )
