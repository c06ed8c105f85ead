"""Drawn media with a frame counter in the picture, and the real clips beside the checkout."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

MEDIA = Path(__file__).parents[3].parent / "shared" / "media"
CELL_PX = 32
BITS = 10
WIDTH, HEIGHT = CELL_PX * BITS, 240


@pytest.fixture(scope="session")
def clip() -> Callable[[str], Path]:
    """Return a real clip by name, or skip."""

    def find(name: str) -> Path:
        if not (MEDIA / name).is_file():
            pytest.skip(f"{name} is not in ../shared/media")
        return MEDIA / name

    return find


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw a number as a row of black and white cells over a moving bar: [H, W, 3] uint8."""
    rgb = np.full((height, width, 3), 90, np.uint8)
    for bit in range(BITS):
        rgb[:64, bit * CELL_PX : (bit + 1) * CELL_PX] = 255 * (number >> bit & 1)
    left = number * 7 % (width - 40)
    rgb[70:90, left : left + 40] = (200, 60, 30)
    return rgb


@pytest.fixture(scope="session")
def read_number() -> Callable[[np.ndarray], int]:
    """Return the reader of the number that `picture` drew."""

    def read(rgb: np.ndarray) -> int:
        return sum(int(rgb[32, bit * CELL_PX + CELL_PX // 2, 1] > 127) << bit for bit in range(BITS))

    return read


@pytest.fixture(scope="session")
def draw() -> Callable[..., list[Fraction]]:
    """Return the function that encodes a counting video."""
    return draw_video


def draw_video(
    path: Path,
    codec: str,
    *,
    num_frames: int = 60,
    rate: Fraction | int = 25,
    times_s: list[Fraction] | None = None,
    options: dict[str, str] | None = None,
    b_frames: int = 0,
    gop: int = 20,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    sound: tuple[str, int, np.ndarray] | None = None,
    sound_start_s: Fraction = Fraction(0),
) -> list[Fraction]:
    """Encode pictures 0, 1, 2, ... shown at `times_s` (or `rate`) and sound (codec, Hz, float32 [S]); return times."""
    times_s = times_s or [Fraction(number) / Fraction(rate) for number in range(num_frames)]
    with av.open(str(path), "w") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=Fraction(rate), options=options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.gop_size = gop
        counts_frames = codec in {"mpeg4", "mpeg2video", "mjpeg"} or path.suffix == ".avi"
        tick = 1 / Fraction(rate) if counts_frames else Fraction(1, 90_000)
        stream.codec_context.time_base = tick
        # AAC's noise substitution draws on a generator whose state depends on where decoding began.
        no_noise = {"aac_pns": "0"} if sound and sound[0] == "aac" else {}
        if sound:
            audio = cast(AudioStream, container.add_stream(sound[0], rate=sound[1], layout="mono", options=no_noise))
            for block in _sound_frames(sound[1], sound[2], sound_start_s, audio.codec_context.format.name):
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = round(time_s / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return times_s


def _sound_frames(rate_hz: int, samples: np.ndarray, start_s: Fraction, sample_format: str) -> Iterator[av.AudioFrame]:
    for first in range(0, len(samples), 960):
        part = samples[first : first + 960]
        # NaN stands for "no packet here": a gap in the timestamps.
        if np.isnan(part).any():
            continue
        full_scale, kind = {"flt": (1, np.float32), "s16": (2**15 - 1, np.int16), "s32": (2**31 - 256, np.int32)}[
            sample_format.rstrip("p")
        ]
        values = (part.astype(np.float64) * full_scale).astype(kind)
        frame = av.AudioFrame.from_ndarray(values[None], format=sample_format, layout="mono")
        frame.sample_rate = rate_hz
        frame.pts, frame.time_base = first + round(start_s * rate_hz), Fraction(1, rate_hz)
        yield frame
