"""One input file: the streams a probe found, in exact time."""

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

FRAME_RATE = 25
"""Frames a second of the normal form; SyncNet, LatentSync and HighSync all work at 25."""
MISSING_SHARE = 0.01
"""More missing frames than this and a stretch or a clip is dropped (`frame_count_mismatch`)."""
SAMPLE_RATE_HZ = 16_000
"""Audio samples a second of the normal form, mono; what SyncNet and Whisper take."""
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FRAME_RATE
"""640: in every stored clip `num_samples == 640 * num_frames`."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A readable input file as its probe describes it; times count from the first video frame."""

    container: str
    """Demuxer name, for example `mov,mp4,m4a,3gp,3g2,mj2`."""
    video_codec: str
    """Codec name of the picked video stream, for example `h264`."""
    width: int
    """Width of the picture as shown, after rotation, px."""
    height: int
    """Height of the picture as shown, after rotation, px."""
    rotation_deg: int
    """Turn the decoder applies, counter-clockwise as in the display matrix: 0, 90, 180 or 270."""
    fps: float
    """Average source frames a second."""
    is_vfr: bool
    """Whether frame steps differ by more than 6 ms."""
    num_packets: int
    """Video packets that were read from the file: the frames that should decode."""
    num_frames: int
    """Frames of the normal form: `round(duration_s * 25)`."""
    start_s: Fraction
    """Container time of the first video frame: the zero of every other time."""
    duration_s: Fraction
    """From the first frame to the end of the last."""
    keyframes_s: tuple[Fraction, ...]
    """Times of the frames where decoding can start cleanly, ascending, the first one 0; thinned to one in 10 s."""
    audio_codec: str | None
    """Codec of the picked audio stream; None when there is none."""
    audio_start_s: Fraction
    """Time of the first audio sample; negative when the sound begins before the picture."""
    audio_duration_s: Fraction
    """Length of the audio stream."""
    sample_rate_hz: int
    """Sample rate of the source."""
    num_channels: int
    """Channels of the source."""
    num_audio_streams: int
    """Audio streams in the file; the first one is used."""


def pack(video: Video) -> dict[str, Any]:
    """Turn a record into JSON values; exact times stay exact, as `"numerator/denominator"`."""
    packed = {field.name: getattr(video, field.name) for field in fields(video)}
    for name, value in packed.items():
        if isinstance(value, Fraction):
            packed[name] = str(value)
    packed["keyframes_s"] = [str(time) for time in video.keyframes_s]
    return packed


def unpack(packed: dict[str, Any]) -> Video:
    """Turn JSON values back into the record that `pack` took."""
    values = dict(packed)
    for name in ("start_s", "duration_s", "audio_start_s", "audio_duration_s"):
        values[name] = Fraction(values[name])
    values["keyframes_s"] = tuple(Fraction(time) for time in values["keyframes_s"])
    return Video(**values)
