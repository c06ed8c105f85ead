"""One video and one sound as a dataset of their own: what a model needs of them is made exactly as `build` makes it."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from rich.console import Console

from ...manifests import settings
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import MediaError
from ...manifests.records import SAMPLE_RATE_HZ
from ...manifests.sources import get_source
from ..config import Config, settled
from ..select import RULES, SelectConfig
from .build import Build, Request
from .progress import Display

WIDE = 1e9
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
    built = settled(open_limits(settings.build(Config, config)))
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
    wide: dict[str, Any] = {
        rule.limit: 0 if rule.side == "min" or rule.off_at_zero else type(getattr(config.select, rule.limit))(WIDE)
        for rule in RULES
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
        with av.open(str(video)) as pictures, av.open(str(sound)) as heard, av.open(str(path), "w") as target:
            if not pictures.streams.video:
                raise MediaError("no_video_stream", f"{video}: no video stream; name another --video")
            if not heard.streams.audio:
                raise MediaError("no_audio_stream", f"{sound}: no audio stream; name another --audio")
            footage = target.add_stream_from_template(pictures.streams.video[0])
            track = target.add_stream("pcm_s16le", rate=SAMPLE_RATE_HZ, layout="mono")
            packets = _pictures(pictures)
            held = next(packets, None)
            until = Fraction(0)
            for packet, until in _samples(heard, track):
                while held is not None and held[0] <= until:
                    held[1].stream = footage
                    target.mux(held[1])
                    held = next(packets, None)
                if held is None:
                    break
                target.mux(packet)
    except FFmpegError as error:
        raise MediaError("decode_error", f"{video} or {sound}: cannot be read ({error}); convert it first") from error


def _pictures(source: Any) -> Iterator[tuple[Fraction, av.Packet]]:  # noqa: ANN401 - an input container
    """Yield packets with their decoding time, seconds after the stream's start."""
    stream = source.streams.video[0]
    zero: int | None = None
    for packet in source.demux(stream):
        if packet.dts is None or packet.pts is None:
            continue
        zero = packet.pts if zero is None else zero
        packet.dts, packet.pts = packet.dts - zero, packet.pts - zero
        yield packet.dts * Fraction(stream.time_base), packet


def _samples(source: Any, track: Any) -> Iterator[tuple[av.Packet, Fraction]]:  # noqa: ANN401 - container and stream
    """Yield packets of PCM that begin at 0, and the time at which each ends, seconds."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    written = 0
    for frame in (*source.decode(source.streams.audio[0]), None):
        for part in resampler.resample(frame):
            part.pts, part.time_base = written, Fraction(1, SAMPLE_RATE_HZ)
            written += part.samples
            for packet in track.encode(part):
                yield packet, Fraction(written, SAMPLE_RATE_HZ)
