"""Streams that turn up in mid-file, and recordings that are joined in one: what was there from the start is read."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import BlockingIOError as AgainError

from hs_data.manifests.errors import MediaError
from hs_data.pipeline.media import container as door
from hs_data.pipeline.media.container import demux, open_container
from hs_data.pipeline.media.decode import DecodeConfig, frames
from hs_data.pipeline.media.probe import probe

Draw = Callable[..., object]


class Demuxer:
    """Stands in for PyAV's container: gives a packet on each call, then raises what it was given, or ends."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    def demux(self, *_streams: object) -> Iterator[av.Packet]:
        yield av.Packet(b"x")
        if self._errors:
            raise self._errors.pop(0)


def again() -> Exception:
    return AgainError(11, os.strerror(11))


@pytest.mark.parametrize(
    ("errors", "num_packets"),
    [((), 1), ((IndexError("list index out of range"),), 1), ((again(), again()), 3), ((again(), IndexError()), 2)],
    ids=["whole", "late stream", "asks to be called again", "both"],
)
def test_a_demuxer_that_stumbles_is_read_to_the_end(errors: tuple[Exception, ...], num_packets: int):
    assert len(list(demux(Demuxer(*errors)))) == num_packets  # type: ignore[arg-type]


def test_a_demuxer_that_only_asks_to_be_called_again_is_left(monkeypatch: pytest.MonkeyPatch):
    calls = []

    class Waiting:
        def demux(self, *_streams: object) -> Iterator[av.Packet]:
            calls.append(1)
            raise again()

    assert list(demux(Waiting())) == []  # type: ignore[arg-type]
    assert len(calls) == door.MOST_WAITS


def test_a_disk_that_fails_is_still_told(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(MediaError, match="unavailable: reading failed"):
        list(demux(Demuxer(OSError(5, "Input/output error"))))  # type: ignore[arg-type]


def test_sound_that_turns_up_after_the_pictures_does_not_break_them(tmp_path: Path, draw: Draw):
    tone = np.zeros(32_000, np.float32)
    draw(tmp_path / "one.ts", "mpeg2video", num_frames=50)
    draw(tmp_path / "two.ts", "libx264", num_frames=50, sound=("mp2", 16_000, tone))
    path = tmp_path / "joined.ts"
    one = (tmp_path / "one.ts").read_bytes()
    many = one * (6_000_000 // len(one))  # beyond what FFmpeg looks at when it opens a file: its first 5 MB and its end
    path.write_bytes(many + (tmp_path / "two.ts").read_bytes() + many)
    with open_container(path) as container:
        assert len(container.streams) == 1
    video = probe(path)
    assert video.audio_codec is None
    assert video.num_packets > 1000
    assert sum(1 for _ in frames(path, video, end_frame=50, config=DecodeConfig(), check=False)) == 50


def test_a_recording_joined_to_a_film_of_another_kind_is_read(tmp_path: Path, draw: Draw):
    tone = np.zeros(32_000, np.float32)
    draw(tmp_path / "one.ts", "libx264", num_frames=50, sound=("mp2", 16_000, tone))
    draw(tmp_path / "two.flv", "flv", num_frames=50)
    (tmp_path / "both.ts").write_bytes((tmp_path / "one.ts").read_bytes() + (tmp_path / "two.flv").read_bytes())
    assert probe(tmp_path / "both.ts").num_packets == 50
