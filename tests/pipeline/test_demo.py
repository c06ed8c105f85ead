"""The demo is what `truth.toml` says: sound against mouth, faces where faces are, cuts where cuts were made."""

from functools import cache, lru_cache
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.error import FFmpegError
from av.frame import Frame
from av.packet import Packet

from hs_data.manifests.errors import SourceError
from hs_data.manifests.reasons import REASONS
from hs_data.pipeline.demo.clips import DemoClip, clips
from hs_data.pipeline.demo.photo import read_photo
from hs_data.pipeline.demo.source import RECORD, make_demo
from hs_data.pipeline.demo.speech import Silence, Speech
from hs_data.pipeline.demo.truth import ClipTruth, truth
from hs_data.pipeline.media.mp4 import add_sound, encode_video

TRUTH = truth()
CLIPS = {clip.name: clip for clip in clips()}
OPENS = [name for name, file in TRUTH.items() if file.fps > 0]
IN_SYNC_OR_SHIFTED = [
    (name, file.clips[0].audio_lead_frames)
    for name, file in TRUTH.items()
    if len(file.clips) == 1 and file.clips[0].audio_lead_frames is not None
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files, made once."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


def seconds(timed: Frame | Packet) -> float:
    """Return when a frame or packet is presented."""
    assert timed.pts is not None
    assert timed.time_base is not None
    return float(timed.pts * timed.time_base)


@lru_cache(maxsize=2)
def read_pictures(path: Path, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return times [T] in seconds and pictures [T, H, W, 3] of every n-th frame."""
    with av.open(str(path), "r") as container:
        decoded = islice(container.decode(video=0), 0, None, every)
        frames = [(seconds(frame), frame.to_ndarray(format="rgb24")) for frame in decoded]
    return np.array([time for time, _ in frames]), np.stack([picture for _, picture in frames])


def read_sound(path: Path) -> tuple[np.ndarray, int]:
    """Return samples [C, S] placed by their timestamps, and their rate."""
    with av.open(str(path), "r") as container:
        rate = container.streams.audio[0].rate
        blocks = [(round(seconds(frame) * rate), frame.to_ndarray()) for frame in container.decode(audio=0)]
    sound = np.zeros((len(blocks[0][1]), max(start + block.shape[1] for start, block in blocks)))
    for start, block in blocks:
        sound[:, max(0, start) : start + block.shape[1]] = block[:, max(0, -start) :]
    return sound, rate


def loudness(path: Path, num_frames: int) -> np.ndarray:
    """Return the RMS level of the file's sound in each 1/25 s, [num_frames]."""
    sound, rate = read_sound(path)
    steps = sound[0, : num_frames * rate // 25].reshape(num_frames, -1)
    return np.sqrt(np.mean(steps**2, axis=1))


def best_lead(opening: np.ndarray, level: np.ndarray) -> tuple[float, float, float]:
    """Return the lead of the highest correlation within 15 frames, that correlation, and the highest one elsewhere."""
    leads = np.arange(-15, 16)
    length = len(opening)
    curve = np.array(
        [
            np.corrcoef(opening[max(0, k) : length + min(0, k)], level[max(0, -k) : length - max(0, k)])[0, 1]
            for k in leads
        ]
    )
    top = int(curve.argmax())
    left, middle, right = curve[top - 1 : top + 2]
    exact = leads[top] + (left - right) / (2 * (left - 2 * middle + right))
    return float(exact), float(middle), float(curve[np.abs(leads - leads[top]) > 2].max())


@cache
def cascade() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml")  # type: ignore[attr-defined]


def count_faces(picture: np.ndarray) -> int:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return len(cascade().detectMultiScale(grey, 1.1, 5, minSize=(60, 60)))


def test_every_file_has_its_truth(demo):
    assert {path.name for path in demo.iterdir()} == {*TRUTH, RECORD}
    assert set(CLIPS) == set(TRUTH)


def test_truth_uses_the_vocabulary():
    reasons = {clip.reason for file in TRUTH.values() for clip in file.clips} | {f.outcome for f in TRUTH.values()}
    assert reasons - {None, "ok"} <= set(REASONS)
    assert {"no_face", "multiple_faces", "offset_out_of_range", "low_sync_conf", "truncated", "too_short"} <= reasons
    with pytest.raises(ValueError, match="does not go with kept"):
        ClipTruth(start_s=0.0, end_s=1.0, verdict="kept", reason="no_face")


@pytest.mark.parametrize("name", OPENS)
def test_truth_lies_inside_the_footage(name):
    file = TRUTH[name]
    assert bool(file.clips) == (file.outcome in {"ok", "no_face"})
    for clip in file.clips:
        assert 0 <= clip.start_s < clip.end_s <= file.duration_s
        assert clip.reason == "no_face" or 3 <= clip.end_s - clip.start_s <= 10


@pytest.mark.parametrize("name", [name for name, file in TRUTH.items() if len(file.clips) == 1])
def test_truth_states_the_lead_that_was_built_in(name):
    stated = TRUTH[name].clips[0].audio_lead_frames
    assert CLIPS[name].audio_lead_frames == (stated or 0)


def test_what_is_there_is_not_made_again(demo):
    before = {path: path.stat().st_mtime_ns for path in demo.iterdir()}
    paths = make_demo(demo)
    assert {path: path.stat().st_mtime_ns for path in demo.iterdir()} == before
    assert paths == sorted(demo / name for name in TRUTH)


def test_a_damaged_file_is_made_again_with_the_same_bytes(demo):
    path = demo / "too_short.mp4"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    make_demo(demo)
    assert path.read_bytes() == whole


def test_two_renders_are_equal(tmp_path):
    files = []
    for number in range(2):
        clip: DemoClip = next(clip for clip in clips() if clip.name == "too_short.mp4")
        path = tmp_path / f"{number}.mp4"
        video = encode_video(clip.video.pictures(), clip.video.rate)
        add_sound(video, clip.pcm(), path, sample_rate_hz=48_000, num_channels=2)
        files.append(path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("name", OPENS)
def test_frame_rate_and_duration(demo, name):
    with av.open(str(demo / name), "r") as container:
        stream = container.streams.video[0]
        times = [seconds(packet) for packet in container.demux(stream) if packet.pts is not None]
        assert min(times) == 0
        assert (stream.duration or 0) * (stream.time_base or 0) == pytest.approx(TRUTH[name].duration_s, abs=1e-3)
    assert len(times) / TRUTH[name].duration_s == pytest.approx(TRUTH[name].fps, abs=0.01)
    assert bool(CLIPS[name].speech) == (TRUTH[name].outcome != "no_audio_stream")


def test_variable_frame_rate_keeps_the_times(demo):
    times, _ = read_pictures(demo / "vfr.mp4")
    steps = np.diff(times) * 25
    assert np.allclose(steps, np.round(steps), atol=1e-3)
    assert set(np.round(steps)) >= {1, 2, 3}


@pytest.mark.parametrize("name", ["cut_off.mp4", "empty.mp4"])
def test_broken_files_do_not_open(demo, name):
    with pytest.raises(FFmpegError):
        av.open(str(demo / name))
    assert TRUTH[name].outcome == "truncated"


@pytest.mark.parametrize(("name", "lead"), IN_SYNC_OR_SHIFTED)
def test_sound_leads_the_mouth_as_stated(demo, name, lead):
    """The sound that a decoder gives, against the curve that the picture was drawn with."""
    num_frames = int(TRUTH[name].duration_s * 25)
    opening = CLIPS[name].speech.opening((np.arange(num_frames) + 0.5) / 25)
    found, peak, elsewhere = best_lead(opening, loudness(demo / name, num_frames))
    assert found == pytest.approx(lead, abs=0.25)
    assert peak > 0.9
    assert elsewhere < 0.4


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("talker_a.mp4", 0.25), ("sound_early_3.mp4", 0.25), ("ntsc_2997.mp4", 0.75), ("vfr.mp4", 0.5)],
)
def test_the_picture_says_the_same(demo, name, tolerance):
    """How much of the mouth is dark, as decoded and resampled to 25 fps, against the sound."""
    times, pictures = read_pictures(demo / name)
    num_frames = int(TRUTH[name].duration_s * 25)
    shown = np.searchsorted(times, np.arange(num_frames) / 25 + 1e-4, side="right") - 1
    dark = (pictures[shown, 290:350, 205:315].max(axis=-1) < 110).mean(axis=(1, 2))
    found, peak, elsewhere = best_lead(dark, loudness(demo / name, num_frames))
    assert found == pytest.approx(TRUTH[name].clips[0].audio_lead_frames, abs=tolerance)
    assert peak > elsewhere + 0.4


def test_other_sound_fits_nowhere(demo):
    opening = CLIPS["talker_a.mp4"].speech.opening((np.arange(200) + 0.5) / 25)
    _, peak, _ = best_lead(opening, loudness(demo / "other_sound.mp4", 200))
    assert peak < 0.4


def test_a_lead_moves_samples_and_changes_none():
    straight, early = CLIPS["talker_a.mp4"].pcm(), CLIPS["sound_early_5.mp4"].pcm()
    assert np.array_equal(early[: -5 * 640], straight[5 * 640 :])
    assert len(early) == len(straight) == 8 * 16_000
    with pytest.raises(ValueError, match="only a second to spare"):
        Speech(1, 2.0).pcm(32_000, lead_samples=16_001)


def test_silence_and_room_noise():
    assert not Silence(2.0, room=False).pcm(32_000).any()
    room = Silence(2.0, room=True).pcm(32_000) / 32768
    assert 20 * np.log10(np.sqrt(np.mean(room**2))) == pytest.approx(-60, abs=0.5)
    assert not Silence(2.0, room=True).opening(np.arange(50) / 25).any()


def test_stereo_carries_the_voice_on_both_channels(demo):
    sound, rate = read_sound(demo / "talker_b_stereo_48k.mp4")
    assert (len(sound), rate) == (2, 48_000)
    assert np.std(sound[1]) == pytest.approx(np.std(sound[0]) / 2, rel=0.05)


@pytest.mark.parametrize(
    ("name", "num_faces"),
    [
        ("talker_a.mp4", 1),
        ("talker_b_stereo_48k.mp4", 1),
        ("talker_a_long_wide.mp4", 1),
        ("silent_room.mp4", 1),
        ("two_people.mp4", 2),
    ],
)
def test_faces_are_found_in_nearly_every_picture(demo, name, num_faces):
    _, pictures = read_pictures(demo / name, every=8)
    counts = [count_faces(picture) for picture in pictures]
    assert np.mean(np.array(counts) == num_faces) >= 0.95


def test_no_face_where_nobody_is(demo):
    _, rocket = read_pictures(demo / "nobody.mp4", every=15)
    _, edit = read_pictures(demo / "cuts.mp4")
    assert not any(count_faces(picture) for picture in [*rocket, *edit[100:165:8]])


def test_cuts_are_where_they_are_stated(demo):
    _, pictures = read_pictures(demo / "cuts.mp4")
    small = pictures[:, ::8, ::8].astype(np.float32)
    changes = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))
    cuts = sorted(int(frame) + 1 for frame in np.argsort(changes)[-2:])
    assert [cut / 25 for cut in cuts] == list(TRUTH["cuts.mp4"].cuts_s)
    assert np.sort(changes)[-2] > 10 * np.sort(changes)[-3]


def test_the_face_is_away_as_long_as_stated(demo):
    times, pictures = read_pictures(demo / "face_hidden.mp4", every=8)
    before, hidden, after = TRUTH["face_hidden.mp4"].clips
    seen = {time: count_faces(picture) for time, picture in zip(times, pictures, strict=True)}
    assert not any(count for time, count in seen.items() if hidden.start_s + 0.2 <= time < hidden.end_s - 0.2)
    shown = [count for time, count in seen.items() if time < before.end_s - 0.3 or time > after.start_s + 0.3]
    assert np.mean(np.array(shown) == 1) >= 0.95


def test_a_missing_photo_says_what_to_do():
    with pytest.raises(SourceError, match="reinstall scikit-image"):
        read_photo("nowhere.png")
