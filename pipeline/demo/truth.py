"""Truth of the demo's files: what must come out of them, as `truth.toml` states it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...manifests import settings
from ...manifests.reasons import REASONS


@dataclass(frozen=True, kw_only=True)
class ClipTruth:
    """One candidate clip."""

    start_s: float
    end_s: float
    tolerance_s: float = 0.2
    """Largest distance of a found end from the true one: cuts have guard frames; half a face may be found or not."""
    verdict: Literal["kept", "dropped", "kept_or_dropped"]
    """`kept_or_dropped`: a silent clip, which the target share decides on."""
    reason: str | None = None
    """Reason why it is dropped, if it is."""
    audio_lead_frames: float | None = None
    """Lead of the sound, frames of 40 ms; None where no one lead exists."""
    clip_class: Literal["speech", "silent"] = "speech"

    def __post_init__(self) -> None:
        if (self.verdict == "kept") != (self.reason is None) or self.reason not in {None, *REASONS}:
            raise ValueError(f"reason: {self.reason!r} does not go with {self.verdict}")


@dataclass(frozen=True, kw_only=True)
class FileTruth:
    """One file of the demo."""

    about: str
    """Description in a sentence."""
    outcome: str
    """`ok`, or the reason that ends the whole file."""
    fps: float
    """Mean pictures a second to two decimals; 0 when the file cannot be opened."""
    duration_s: float
    cuts_s: tuple[float, ...] = ()
    """Times at which a new shot begins."""
    clips: tuple[ClipTruth, ...] = ()
    """Every candidate clip, by start."""

    def __post_init__(self) -> None:
        if self.outcome not in {"ok", *REASONS}:
            raise ValueError(f"outcome: {self.outcome!r} is no reason")


def truth() -> dict[str, FileTruth]:
    """Return the truth by file name, in the order of `truth.toml`."""
    table = settings.load_toml(Path(__file__).with_name("truth.toml"))
    return {name: settings.build(FileTruth, entry, path=f"{name}: ") for name, entry in table.items()}
