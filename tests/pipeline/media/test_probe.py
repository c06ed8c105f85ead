"""What probe says of sound, odd and broken files."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from hs_data.manifests.errors import MediaError
from hs_data.manifests.reasons import REASONS
from hs_data.manifests.records import Video
from hs_data.pipeline.media.probe import probe

BROKEN = {
    "derived__dev_zerobytes.mp4": "truncated",
    "derived__dev_notvideo.mp4": "not_media",
    "derived__dev_truncated_nomoov.mp4": "truncated",
    "derived__dev_truncated_faststart.mp4": "truncated",
    "derived__dev_audioonly.m4a": "no_video_stream",
}


def reason_of(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert caught.value.reason in REASONS
    assert "\n" not in caught.value.detail
    return caught.value.reason


@pytest.mark.media
@pytest.mark.parametrize(("name", "reason"), BROKEN.items(), ids=list(BROKEN))
def test_broken_clip_has_its_reason(clip, name, reason):
    assert reason_of(clip(name)) == reason


@pytest.mark.media
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("derived__dev_base.mp4", {"num_frames": 125, "num_packets": 125, "width": 512, "fps": 25.0, "is_vfr": False}),
        ("derived__dev_noaudio.mp4", {"audio_codec": None, "num_audio_streams": 0, "sample_rate_hz": 0}),
        ("derived__dev_wrongext.avi", {"container": "mov,mp4,m4a,3gp,3g2,mj2", "num_frames": 125}),
        ("derived__dev_rotmeta90.mp4", {"rotation_deg": 270, "width": 512, "height": 640}),
        (
            "dmlc__decord__tests_test_data_video_180.mov",
            {"rotation_deg": 180, "width": 568, "height": 320, "num_packets": 3},
        ),
        ("derived__dev_odddims.mp4", {"width": 511, "height": 501}),
        ("derived__dev_twotracks.mkv", {"num_audio_streams": 2, "audio_codec": "aac"}),
        ("derived__dev_onechannel.mp4", {"num_channels": 2, "sample_rate_hz": 48_000}),
        ("derived__dev_mpeg2_ts.ts", {"video_codec": "mpeg2video", "start_s": Fraction(1, 25), "num_frames": 125}),
        ("derived__dev_av1_opus.mkv", {"video_codec": "av1", "audio_codec": "opus", "num_frames": 125}),
        ("derived__dev_mjpeg_pcm.avi", {"video_codec": "mjpeg", "num_frames": 125}),
        ("Zulko__moviepy__media_no_duration.webm", {"num_packets": 74, "num_frames": 123, "is_vfr": True}),
        ("open-mmlab__mmaction2__tests_data_test.avi", {"num_packets": 164, "num_frames": 164}),
        # 35 of 186 packets lie before the start of the edit list, and the sound begins there too.
        (
            "gdw118__Emotion_Recognition__test_testvdo_first6s.mp4",
            {"num_packets": 151, "num_frames": 151, "start_s": Fraction(0), "audio_start_s": Fraction(0)},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_real_clip(clip, name, expected):
    video = probe(clip(name))
    assert {key: getattr(video, key) for key in expected} == expected
    assert video.keyframes_s[0] == 0


@pytest.mark.media
@pytest.mark.parametrize(
    ("name", "video_start_s", "audio_start_s", "audio_end_s"),
    [
        ("derived__dev_base.mp4", 0, 0, 5.0),
        ("derived__dev_audiostart.mp4", 0, 0.336, 5.0),
        ("derived__dev_shortaudio.mp4", 0, 0, 3.0),
        ("ageitgey__face_recognition__examples_short_hamilton_clip.mp4", 0.8520, -0.8440, 9.1638),
        ("OpenTalker__video-retalking__examples_face_1.mp4", 0.0330, -0.0330, 6.0738),
        ("Breakthrough__PySceneDetect__tests_resources_delayed_start.mp4", 1.075, 0, 0),
        ("derived__dev_vp9_opus.webm", 0, 0, 5.001),
    ],
)
def test_clock_of_real_clip(clip, name, video_start_s, audio_start_s, audio_end_s):
    video = probe(clip(name))
    assert float(video.start_s) == pytest.approx(video_start_s, abs=1e-4)
    assert float(video.audio_start_s) == pytest.approx(audio_start_s, abs=1e-4)
    assert float(video.audio_start_s + video.audio_duration_s) == pytest.approx(audio_end_s, abs=1e-3)


@pytest.mark.parametrize(
    "name", ["a b.mp4", "é'\".mp4", "$x;`y`.mp4", "-y.mp4", "名.mp4", "http:x.mp4", "%03d.mp4", "no ending"]
)
def test_any_file_name(tmp_path, monkeypatch, draw, name):
    draw(tmp_path / "drawn.mp4", "libx264", num_frames=5)
    (tmp_path / "drawn.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(Path(name)).num_frames == 5


def test_drawn_video(tmp_path, draw):
    draw(tmp_path / "drawn.mp4", "libx264", num_frames=90, rate=Fraction(30_000, 1001), b_frames=2)
    video = probe(tmp_path / "drawn.mp4")
    assert (video.num_packets, video.num_frames) == (90, round(90 * 1.001 / 30 * 25))
    assert (video.duration_s, video.is_vfr) == (Fraction(90 * 1001, 30_000), False)
    assert video.fps == pytest.approx(29.97, abs=0.001)


def test_keyframes_are_thinned_clean_cut_points(tmp_path, draw):
    flat = {"x264-params": "scenecut=0"}
    draw(tmp_path / "closed.mkv", "libx264", num_frames=25 * 32, gop=50, b_frames=2, size=(320, 96), options=flat)
    keyframes_s = probe(tmp_path / "closed.mkv").keyframes_s
    assert [float(time_s) for time_s in keyframes_s] == [0, 10, 20, 30]
    # Every group of pictures open: no clean cut point anywhere, so all keyframes serve.
    draw(tmp_path / "open.mkv", "mpeg4", num_frames=25 * 70, gop=50, b_frames=2, size=(320, 96))
    steps_s = np.diff([float(time_s) for time_s in probe(tmp_path / "open.mkv").keyframes_s])
    assert len(steps_s) >= 5
    assert steps_s.min() >= 10


def test_odd_timestamps_do_not_crash(tmp_path, draw):
    times_s = [Fraction(number, 25) + Fraction(number * 7 % 5, 400) - 1 for number in range(50)]
    draw(tmp_path / "uneven.mkv", "libx264", times_s=times_s)
    video = probe(tmp_path / "uneven.mkv")
    assert video.num_packets == 50
    assert float(video.duration_s) == pytest.approx(2.0, abs=0.03)
    assert video.is_vfr


def test_missing_and_unreadable(tmp_path):
    assert reason_of(tmp_path / "gone.mp4") == "unavailable"
    assert reason_of(tmp_path) == "unavailable"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"hello\n" * 500),
        ("text.txt", b"hello\n" * 500),
        ("noise.mp4", np.random.default_rng(0).bytes(200_000)),
        ("playlist.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n/etc/passwd\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("captions.mp4", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n"),
    ],
)
def test_what_is_no_recording_is_not_media(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert reason_of(tmp_path / name) == "not_media"


def test_a_picture_is_not_media(tmp_path):
    with av.open(str(tmp_path / "still.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
    assert reason_of(tmp_path / "still.png") == "not_media"


def test_unknown_codec(tmp_path, draw):
    draw(tmp_path / "drawn.mp4", "libx264")
    damage(tmp_path / "drawn.mp4", b"avc1", b"zzzz")
    assert reason_of(tmp_path / "drawn.mp4") == "codec_missing"


def test_damaged_headers(tmp_path, draw):
    draw(tmp_path / "codec.mp4", "libx264")
    damage(tmp_path / "codec.mp4", b"avcC", b"\xff" * 40, skip=4)
    assert reason_of(tmp_path / "codec.mp4") == "decode_error"
    draw(tmp_path / "index.mp4", "libx264")
    damage(tmp_path / "index.mp4", b"moov", b"\xff" * 200, skip=4)
    assert reason_of(tmp_path / "index.mp4") == "decode_error"
    draw(tmp_path / "header.mkv", "libx264")
    damage(tmp_path / "header.mkv", b"\x1aE\xdf\xa3", b"\xff" * 60, skip=4)
    assert reason_of(tmp_path / "header.mkv") == "decode_error"


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi", "cut.flv"])
def test_cut_off_file(tmp_path, draw, name):
    path = tmp_path / name
    draw(path, "mpeg4" if name.endswith("avi") else "libx264", num_frames=200, options={"b": "800k"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert reason_of(path) == "truncated"


def test_cover_art_is_not_footage(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 16_000
        container.mux(audio.encode(tone))
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode(None))
        container.mux(audio.encode(None))
    assert reason_of(path) == "no_video_stream"


def test_a_jump_in_time_is_damage(tmp_path, draw):
    times_s = [Fraction(number, 25) + (3600 if number > 20 else 0) for number in range(40)]
    draw(tmp_path / "jump.mkv", "libx264", times_s=times_s)
    assert reason_of(tmp_path / "jump.mkv") == "implausible_duration"


def test_video_is_a_value(tmp_path, draw):
    draw(tmp_path / "drawn.mp4", "libx264", num_frames=5)
    assert isinstance(probe(tmp_path / "drawn.mp4"), Video)
    assert probe(tmp_path / "drawn.mp4") == probe(tmp_path / "drawn.mp4")


def damage(path: Path, mark: bytes, replacement: bytes, *, skip: int = 0) -> None:
    """Overwrite what stands at the last `mark` of a file."""
    content = bytearray(path.read_bytes())
    place = content.rfind(mark) + skip
    content[place : place + len(replacement)] = replacement
    path.write_bytes(content)
