"""Files that promise too much: too large, too long, too many; each has its reason before it costs anything."""

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from hs_data.manifests.errors import MediaError
from hs_data.manifests.reasons import REASONS
from hs_data.manifests.sources import get_source
from hs_data.pipeline.config import Config
from hs_data.pipeline.media import audio, image_folder
from hs_data.pipeline.media.decode import DecodeConfig, frames
from hs_data.pipeline.media.limits import MediaLimits
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.run.plan import list_inputs, probe_fingerprint

SMALL = MediaLimits(max_pixels=320 * 240)
Draw = Callable[..., object]


def refusal(do: Callable[..., object], *words: object, **more: object) -> MediaError:
    with pytest.raises(MediaError) as caught:
        do(*words, **more)
    assert caught.value.reason in REASONS
    return caught.value


# --- size


def test_a_picture_above_the_limit_is_refused_by_its_header(tmp_path: Path, draw: Draw):
    draw(tmp_path / "large.mp4", "libx264", num_frames=3, size=(640, 480))
    error = refusal(probe, tmp_path / "large.mp4", limits=SMALL)
    assert error.reason == "picture_too_large"
    assert "640x480" in error.detail
    assert "decode.max_pixels=76800" in error.detail
    assert probe(tmp_path / "large.mp4", limits=MediaLimits(max_pixels=640 * 480)).width == 640


def test_a_header_that_lies_about_the_size_is_found_at_the_first_picture(tmp_path: Path, draw: Draw):
    path = tmp_path / "lies.mp4"
    draw(path, "mpeg4", num_frames=3, size=(640, 480))
    content = path.read_bytes()
    told, lie = struct.pack(">HH", 640, 480), struct.pack(">HH", 64, 48)
    assert content.count(told) == 1
    path.write_bytes(content.replace(told, lie))
    assert refusal(probe, path, limits=SMALL).reason == "picture_too_large"


def test_8k_is_a_picture(tmp_path: Path, draw: Draw):
    draw(tmp_path / "8k.mp4", "libx264", num_frames=1, size=(7680, 4320), options={"preset": "ultrafast"})
    video = probe(tmp_path / "8k.mp4")
    assert (video.width, video.height) == (7680, 4320)
    assert sum(1 for _ in frames(tmp_path / "8k.mp4", video, config=DecodeConfig())) == 1


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_pictures_that_grow_in_mid_file_are_refused_there(tmp_path: Path, draw: Draw, codec: str):
    draw(tmp_path / "one.ts", codec, num_frames=50)
    times_s = [Fraction(number, 25) for number in range(50, 100)]
    draw(tmp_path / "two.ts", codec, size=(640, 480), times_s=times_s)
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "one.ts").read_bytes() + (tmp_path / "two.ts").read_bytes())
    video = probe(path, limits=SMALL)
    assert video.width == 320
    shown = frames(path, video, config=DecodeConfig(max_pixels=320 * 240))
    first = next(shown).rgb.shape
    assert first == (240, 320, 3)
    assert refusal(list, shown).reason == "picture_too_large"
    assert sum(1 for _ in frames(path, video, config=DecodeConfig(), check=False)) == video.num_frames


# --- length


def test_pictures_that_are_held_for_minutes_are_no_footage(tmp_path: Path, draw: Draw):
    times_s = [Fraction(590 * number) for number in range(39)]
    draw(tmp_path / "held.mkv", "libx264", times_s=times_s)
    error = refusal(probe, tmp_path / "held.mkv")
    assert error.reason == "implausible_duration"
    assert "decode.min_bytes_per_s=300" in error.detail
    error = refusal(probe, tmp_path / "held.mkv", limits=MediaLimits(min_bytes_per_s=0))
    assert "one picture is held for 590 s" in error.detail
    video = probe(tmp_path / "held.mkv", limits=MediaLimits(min_bytes_per_s=0, max_hold_s=600))
    assert video.num_frames > 560_000  # what it would have cost


def test_the_last_picture_is_not_held_for_ever(tmp_path: Path, draw: Draw):
    path = tmp_path / "last.mp4"
    draw(path, "libx264", num_frames=3, options={"preset": "ultrafast"})
    content = path.read_bytes()
    place = content.index(b"stts") + 8
    runs = struct.unpack_from(">I", content, place)[0]
    assert runs == 1
    length = struct.unpack_from(">I", content, place + 8)[0]
    # Three pictures of one length become two of it and one of ten hours, in the room of the box that follows.
    entry = struct.pack(">IIIII", 2, 2, length, 1, length * 25 * 36_000)
    assert content[place + 12 + 4 : place + 12 + 8] in {b"stss", b"stsc", b"ctts"}
    path.write_bytes(content[: place - 12] + grown(content, place, entry))
    assert refusal(probe, path).reason == "implausible_duration"


def grown(content: bytes, place: int, entry: bytes) -> bytes:
    """Return the rest of an MP4 from its `stts` box on, with other entries and the next box swallowed into `free`."""
    size = struct.unpack_from(">I", content, place - 12)[0]
    following = place - 12 + size
    swallowed = struct.unpack_from(">I", content, following)[0]
    stts = struct.pack(">I4sI", 12 + len(entry), b"stts", 0) + entry
    rest = size + swallowed - len(stts)
    assert rest >= 8
    return stts + struct.pack(">I4s", rest, b"free").ljust(rest, b"\0") + content[following + swallowed :]


# --- sound


@pytest.mark.parametrize("rate_hz", [1, 2**31 - 1])
def test_an_absurd_sample_rate_is_refused(tmp_path: Path, draw: Draw, rate_hz: int):
    path = tmp_path / "rate.avi"
    draw(path, "mpeg4", num_frames=25, sound=("pcm_s16le", 16_000, np.zeros(16_000, np.float32)))
    told = struct.pack("<HHI", 1, 1, 16_000)
    assert path.read_bytes().count(told) == 1
    path.write_bytes(path.read_bytes().replace(told, struct.pack("<HHI", 1, 1, rate_hz)))
    assert refusal(probe, path).reason == "implausible_sound"


def test_an_absurd_number_of_channels_is_refused(tmp_path: Path, draw: Draw):
    path = tmp_path / "channels.avi"
    draw(path, "mpeg4", num_frames=25, sound=("pcm_s16le", 16_000, np.zeros(16_000, np.float32)))
    told = struct.pack("<HHI", 1, 1, 16_000)
    path.write_bytes(path.read_bytes().replace(told, struct.pack("<HHI", 1, 200, 16_000)))
    assert refusal(probe, path).reason == "implausible_sound"


def test_no_stretch_has_dozens_of_sample_rates(tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "one.mp4"
    draw(path, "libx264", num_frames=50, sound=("aac", 16_000, np.zeros(32_000, np.float32)))
    video, rates = probe(path), iter(range(8_000, 9_000))
    placed = audio._Sound._place
    changing = lambda self, frame: (setattr(frame, "sample_rate", next(rates)), placed(self, frame))[1]  # noqa: E731
    monkeypatch.setattr(audio._Sound, "_place", changing)
    error = refusal(audio.read, path, video, start_frame=0, end_frame=50)
    assert error.reason == "implausible_sound"


# --- folders of pictures


def pictures(folder: Path, numbers: list[int]) -> Path:
    """Write small pictures with these numbers."""
    images = folder / "images" / "clip"
    images.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(images / f"{number:04}.png"), np.full((64, 64, 3), 99, np.uint8))
    return images


def test_a_folder_whose_numbers_leave_out_a_billion_is_refused(tmp_path: Path):
    error = refusal(image_folder.probe, pictures(tmp_path, [1, 10**9]))
    assert error.reason == "implausible_duration"


def test_a_png_bomb_is_not_decoded(tmp_path: Path):
    path = pictures(tmp_path, [1, 2])
    bomb = bytearray((path / "0001.png").read_bytes())
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    (path / "0001.png").write_bytes(bomb)
    error = refusal(image_folder.probe, path)
    assert error.reason == "picture_too_large"
    assert "60000x60000" in error.detail


@pytest.mark.timeout(20)
def test_a_pipe_among_the_pictures_is_refused(tmp_path: Path):
    path = pictures(tmp_path, [2])
    os.mkfifo(path / "0001.png")
    assert refusal(image_folder.probe, path).reason == "not_media"
    assert refusal(image_folder.sha256, path).reason == "not_media"


# --- the plan


@pytest.mark.timeout(20)
def test_a_pipe_is_listed_with_its_reason_and_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "film.mp4").write_bytes(b"x")
    pipe, film = sorted(
        list_inputs(get_source("folder"), tmp_path, limit=None, shard=None), key=lambda item: item["path"] == "film.mp4"
    )
    assert pipe["refused"] == {"outcome": "not_media", "detail": "a named pipe is no file"}
    assert film["refused"] is None


def test_other_limits_are_another_probe():
    one = probe_fingerprint(DecodeConfig())
    assert one == probe_fingerprint(DecodeConfig(min_timeout_s=99))
    assert one != probe_fingerprint(DecodeConfig(max_hold_s=99))
    assert Config().score_fingerprint() != Config(decode=DecodeConfig(max_pixels=99)).score_fingerprint()


@pytest.mark.parametrize(
    "wrong", [{"max_pixels": 0}, {"min_bytes_per_s": float("nan")}, {"max_hold_s": float("inf")}, {"max_hold_s": 0}]
)
def test_a_limit_that_is_none_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DecodeConfig(**wrong)  # type: ignore[arg-type]
