"""Limits of a recording: beyond them a file is refused with a reason before it costs memory or hours."""

import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from ...manifests.errors import MediaError
from ...manifests.settings import Range, check_ranges

SAMPLE_RATES_HZ = range(4_000, 192_001)
"""From the poorest telephone to studio masters; of 128 real clips all lie between 8 and 48 kHz."""
MAX_CHANNELS = 64
MAX_SAMPLE_RATES = 16
"""Different rates in one stream; broadcasts change theirs once or twice, and each needs a filter of its own."""


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """Limits of size, length and stillness of footage."""

    max_pixels: Annotated[int, Range(1, 1_000_000_000)] = 36_000_000
    """Pixels of the largest picture that is decoded; 8192x4320 passes. A worker holds 15 pictures, 3 bytes a pixel.
    Above it: `picture_too_large`."""
    min_bytes_per_s: Annotated[float, Range(0, 1_000_000)] = 300.0
    """Least bytes of a file for a second of its footage; the poorest telephone speech alone takes 600. Below it:
    `implausible_duration`. 0: no limit."""
    max_hold_s: Annotated[float, Range(0.04, 86_400)] = 120.0
    """Longest time that one picture may be held, seconds. Above it: `implausible_duration`."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def check_size(self, width: int, height: int) -> None:
        """Raise `MediaError` (`picture_too_large`) where a picture has more pixels than are decoded."""
        if width * height > self.max_pixels:
            what = f"{width}x{height} is {width * height / 1e6:.1f} million pixels"
            raise MediaError("picture_too_large", f"{what}, above decode.max_pixels={self.max_pixels}")

    def check_length(self, duration_s: Fraction, hold_s: Fraction, size_bytes: int) -> None:
        """Raise `MediaError` (`implausible_duration`) where so few bytes cannot be so long, or a picture is frozen."""
        if size_bytes < self.min_bytes_per_s * duration_s:
            least = f"below decode.min_bytes_per_s={self.min_bytes_per_s:g}"
            raise MediaError("implausible_duration", f"{size_bytes} bytes for {float(duration_s):.0f} s, {least}")
        if hold_s > self.max_hold_s:
            what = f"one picture is held for {float(hold_s):.0f} s, above decode.max_hold_s={self.max_hold_s:g}"
            raise MediaError("implausible_duration", f"{what}; a jump in the timestamps is mended by remuxing")


def check_sound(sample_rate_hz: int, num_channels: int) -> None:
    """Raise `MediaError` where no recording has such sound.

    Raises:
        MediaError: `decode_error`, the file does not tell them; `implausible_sound`, a rate of 1 Hz or 2 GHz, say.
    """
    if not sample_rate_hz or not num_channels:
        raise MediaError("decode_error", "the file does not tell the sample rate or the channels of its sound")
    if not is_sound(sample_rate_hz, num_channels):
        raise MediaError("implausible_sound", f"{num_channels} channels at {sample_rate_hz} Hz")


def is_sound(sample_rate_hz: int, num_channels: int) -> bool:
    """Tell whether a recording can have this sample rate and number of channels."""
    return sample_rate_hz in SAMPLE_RATES_HZ and 1 <= num_channels <= MAX_CHANNELS


def check_kind(path: Path) -> None:
    """Raise `MediaError` (`not_media`) where a path is a pipe, socket or device, whose opening can wait for ever.

    Raises:
        OSError: there is nothing at the path.
    """
    if kind := special_kind(path.stat().st_mode):
        raise MediaError("not_media", f"{kind} is no file")


def special_kind(mode: int) -> str | None:
    """Return the name of what is neither a file nor a folder, from its `st_mode`; else None."""
    kinds = {
        "a named pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a character device": stat.S_ISCHR,
        "a block device": stat.S_ISBLK,
    }
    return next((name for name, fits in kinds.items() if fits(mode)), None)
