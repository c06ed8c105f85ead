"""One video and one sound as a dataset of their own: what a model needs of them is made exactly as `build` makes it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from rich.console import Console

from ...manifests import settings
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import MediaError
from ...manifests.records import SAMPLE_RATE_HZ
from ...manifests.sources import get_source
from ..config import Config, resolve_device
from ..media.container import decode_sound, demux, open_container, pick_audio, pick_video
from ..media.limits import check_sound
from ..select import RULES, SelectConfig
from .build import Build, Request
from .progress import Display

LONGEST_S = 60.0
"""A face is followed this long with one crop size; then the next clip begins."""
SHORTEST_S = 0.2


def prepare(video: Path, sound: Path, config: settings.Table, folder: Path, console: Console) -> Dataset:
    """Find, crop and encode the faces of a video, with another sound laid under it.

    Nothing is judged: every stretch with a face becomes a clip. What follows the end of the shorter one is left out.

    Args:
        video: any video file; its own sound is not used.
        sound: any file with sound.
        config: settings of a build, as `dataset.json` holds them.
        folder: an empty folder to work in.
        console: where progress is shown.

    Raises:
        MediaError: a file cannot be read.
        HsDataError: as a build.
    """
    root = folder / "input"
    root.mkdir()
    lay_under(video, sound, root / "video.mkv")
    built = resolve_device(open_limits(settings.build(Config, config)))
    request = Request(
        source=get_source("folder"),
        root=root,
        dataset=folder / "dataset",
        preset="generate",
        config=built,
        selection={},
        built_select=settings.to_table(built.select),
        executor="local",
        num_workers=1,
    )
    Build(request, Display(console)).run()
    return open_dataset(folder / "dataset")


def open_limits(config: Config) -> Config:
    """Return the settings with every limit open, and without what only judges."""
    allowed = settings.ranges(SelectConfig)
    wide: dict[str, Any] = {
        rule.limit: 0 if rule.side == "min" or rule.off_at_zero else allowed[rule.limit].high for rule in RULES
    }
    select = SelectConfig(
        **{**settings.to_table(config.select), **wide, "min_speech_share": 0.0, "sync_rules": "never"}
    )
    return replace(
        config,
        select=select,
        tracks=replace(config.tracks, min_clip_s=SHORTEST_S, max_clip_s=LONGEST_S),
        sync=replace(config.sync, backend="correlation", correct=False),
        latents=replace(config.latents, masked=False, logvar=False, jpeg_quality=0, check_every=0),
    )


def lay_under(video: Path, sound: Path, path: Path) -> None:
    """Write the pictures of one file, untouched, with the sound of another, up to the end of the shorter one.

    Raises:
        MediaError: one of them cannot be read, has no picture or no sound.
    """
    try:
        with ExitStack() as stack:
            with _naming(video):
                pictures = stack.enter_context(open_container(video))
                shown = pick_video(pictures)
            with _naming(sound):
                heard = stack.enter_context(open_container(sound))
                spoken = pick_audio(heard)
                if spoken is None:
                    raise MediaError("no_audio_stream", "no audio stream")
                check_sound(spoken.codec_context.sample_rate, spoken.codec_context.channels)
            target = stack.enter_context(av.open(str(path), "w"))
            footage = target.add_stream_from_template(shown)
            track = target.add_stream("pcm_s16le", rate=SAMPLE_RATE_HZ, layout="mono")
            packets = _pictures(pictures, shown)
            held = next(packets, None)
            until = Fraction(0)
            for packet, until in _samples(heard, spoken, track):
                while held is not None and held[0] <= until:
                    held[1].stream = footage
                    target.mux(held[1])
                    held = next(packets, None)
                if held is None:
                    break
                target.mux(packet)
    except FFmpegError as error:
        raise MediaError("decode_error", f"{video} or {sound}: cannot be read ({error}); convert it first") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the file before what is wrong with it."""
    try:
        yield
    except MediaError as error:
        raise MediaError(error.reason, f"{path}: {error.detail}; name another file") from error


def _pictures(source: InputContainer, stream: VideoStream) -> Iterator[tuple[Fraction, Packet]]:
    """Yield packets with their decoding time, seconds after the stream's start."""
    assert stream.time_base is not None
    zero: int | None = None
    for packet in demux(source, stream):
        if packet.dts is None or packet.pts is None:
            continue
        zero = packet.pts if zero is None else zero
        packet.dts, packet.pts = packet.dts - zero, packet.pts - zero
        yield packet.dts * stream.time_base, packet


def _samples(source: InputContainer, stream: AudioStream, track: AudioStream) -> Iterator[tuple[Packet, Fraction]]:
    """Yield packets of PCM that begin at 0, and the time at which each ends, seconds."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    written = 0
    for frame in chain(decode_sound(source, stream), (None,)):
        for part in resampler.resample(frame):
            part.pts, part.time_base = written, Fraction(1, SAMPLE_RATE_HZ)
            written += part.samples
            for packet in track.encode(part):
                yield packet, Fraction(written, SAMPLE_RATE_HZ)
