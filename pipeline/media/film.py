"""Write a film to look at: pictures at their own times, and a sound file's sound under them."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame

from ...manifests.errors import MediaError
from .container import decode_sound, open_container, pick_audio

TICK = Fraction(1, 90_000)
X264 = {"preset": "medium", "crf": "17"}
"""Visually without loss: the film is to be judged, not stored."""
AUDIO_BITS = 160_000


def write_film(path: Path, pictures: Iterator[tuple[Fraction, np.ndarray]], *, rate: Fraction, sound: Path) -> int:
    """Write an MP4 of H.264 and AAC; the sound ends with the pictures.

    Args:
        path: the file to write.
        pictures: when each is shown, seconds, and what, [H, W, 3] uint8 RGB, all of one size.
        rate: nominal pictures a second.
        sound: a file with sound, which begins with the first picture.

    Returns:
        Number of pictures.

    Raises:
        MediaError: the sound cannot be read.
    """
    count = 0
    with open_container(sound) as heard, av.open(str(path), "w", format="mp4") as target:
        footage: Any = None
        source = pick_audio(heard)
        if source is None:
            raise MediaError("no_audio_stream", f"{sound}: no audio stream; name another file")
        track = target.add_stream("aac", rate=source.codec_context.sample_rate, bit_rate=AUDIO_BITS)
        samples = _encoded(heard, source, track)
        held = next(samples, None)
        for shown_s, rgb in pictures:
            if footage is None:
                footage = _add_x264(target, rate, rgb)
            frame = VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = int(shown_s / TICK), TICK
            target.mux(footage.encode(frame))
            while held is not None and held[0] <= shown_s:
                target.mux(held[1])
                held = next(samples, None)
            count += 1
        if footage is not None:
            target.mux(footage.encode(None))
    return count


def _add_x264(target: Any, rate: Fraction, rgb: np.ndarray) -> Any:  # noqa: ANN401 - PyAV's container and stream
    stream = target.add_stream("libx264", rate=rate, options=X264)
    stream.height, stream.width = rgb.shape[:2]
    # Colour at half the size needs even sides; players that cannot show the other kind are few.
    stream.pix_fmt = "yuv420p" if stream.height % 2 == stream.width % 2 == 0 else "yuv444p"
    stream.time_base = stream.codec_context.time_base = TICK
    return stream


def _encoded(source: InputContainer, stream: AudioStream, track: AudioStream) -> Iterator[tuple[Fraction, av.Packet]]:
    resampler = av.AudioResampler(format="fltp", layout=stream.layout.name, rate=stream.codec_context.sample_rate)
    rate, written = stream.codec_context.sample_rate, 0
    for frame in chain(decode_sound(source, stream), (None,)):
        for part in resampler.resample(frame):
            part.pts, part.time_base = written, Fraction(1, rate)
            for packet in track.encode(part):
                yield Fraction(written, rate), packet
            written += part.samples
    for packet in track.encode(None):
        yield Fraction(written, rate), packet
