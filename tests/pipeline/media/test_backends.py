"""decord gives PyAV's frames, or refuses."""

from fractions import Fraction

import numpy as np
import pytest

from hs_data.manifests.errors import MediaError
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.media.slots import DecodeStats

PYAV = decode.DecodeConfig()
DECORD = decode.DecodeConfig(backend="decord")

SAME = [
    "derived__dev_base.mp4",
    "derived__dev_hevc_aac.mp4",
    "derived__dev_vp9_opus.webm",
    "derived__dev_mjpeg_pcm.avi",
    "derived__dev_h264_pcm8k.mov",
    "derived__dev_wrongext.avi",
    "derived__dev_odddims.mp4",
    "derived__dev_rotmeta90.mp4",
    "dmlc__decord__tests_test_data_video_180.mov",
    "derived__dev_vfr.mp4",
    "derived__dev_fps29.97.mp4",
    "derived__dev_fps60.mp4",
    "R-V-Abhishek__Syncnet_FCN__demo_output_test_offset_12.avi",  # MPEG-4, two frames missing
    "open-mmlab__mmaction2__tests_data_test.avi",  # MPEG-4 with B-frames and no times
    "gdw118__Emotion_Recognition__test_testvdo_first6s.mp4",  # 35 hidden frames
    "ageitgey__face_recognition__examples_short_hamilton_clip.mp4",  # starts at 0.85 s, BT.709
    "KwaiVGI__LivePortrait__assets_examples_driving_d12.mp4",  # SMPTE 170M
]


def frames_of(path, config, **options):
    return list(decode.frames(path, probe(path), config=config, **options))


def assert_same(path, **options):
    ours, theirs = frames_of(path, PYAV, **options), frames_of(path, DECORD, **options)
    assert [frame.index for frame in ours] == [frame.index for frame in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)


@pytest.mark.media
@pytest.mark.parametrize("name", SAME)
def test_same_pixels(clip, name):
    path = clip(name)
    num_frames = min(probe(path).num_frames, 60)
    assert_same(path, end_frame=num_frames)
    assert_same(path, start_frame=num_frames // 2, end_frame=num_frames // 2 + 1)


@pytest.mark.media
def test_same_pixels_1080p_hevc(clip):
    assert_same(clip("bytedance__LatentSync__assets_demo1_video_first6s.mp4"), start_frame=40, end_frame=50)


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("mp4", "libx264", {"b_frames": 3, "rate": Fraction(30_000, 1001)}),
        ("mkv", "libx264", {"pixels": "yuv422p"}),
        ("mkv", "libx264", {"b_frames": 2, "times_s": [Fraction(n, 30) for n in range(90) if n * 7 % 11 > 2]}),
        ("mp4", "libx265", {"options": {"x265-params": "log-level=none:bframes=3"}}),
        ("webm", "libvpx-vp9", {"options": {"b": "400k", "cpu-used": "8"}}),
        ("avi", "mpeg4", {"rate": 60}),
    ],
    ids=["h264-29.97", "h264-422", "h264-vfr", "hevc", "vp9", "mpeg4-avi-60"],
)
def test_same_pixels_of_drawn_video(tmp_path, draw, ending, codec, options):
    draw(tmp_path / f"drawn.{ending}", codec, **options)
    assert_same(tmp_path / f"drawn.{ending}")
    assert_same(tmp_path / f"drawn.{ending}", start_frame=22, end_frame=24)


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("ts", "libx264", {}),
        ("mpg", "mpeg2video", {}),
        ("mkv", "libsvtav1", {"options": {"preset": "9"}}),
        ("mp4", "libx264", {"pixels": "yuv420p10le"}),
        ("webm", "libvpx-vp9", {"size": (320, 121), "options": {"b": "400k", "cpu-used": "8"}}),
    ],
    ids=["ts", "ps", "av1", "10-bit", "odd-height"],
)
def test_refusal_names_the_way_out(tmp_path, draw, ending, codec, options):
    path = tmp_path / f"drawn.{ending}"
    draw(path, codec, num_frames=10, **options)
    assert len(frames_of(path, PYAV)) == 10
    with pytest.raises(MediaError, match=r"codec_missing: decord .* use decode\.backend=pyav"):
        frames_of(path, DECORD)


def test_stats(tmp_path, draw):
    draw(tmp_path / "drawn.mp4", "libx264", num_frames=120, rate=50)
    stats = DecodeStats()
    assert len(frames_of(tmp_path / "drawn.mp4", DECORD, stats=stats)) == 60
    assert (stats.num_decoded, stats.num_missing) == (119, 0)
