"""Sound on the clock of the picture, to the sample."""

from fractions import Fraction

import numpy as np
import pytest

from hs_data.manifests.errors import MediaError
from hs_data.pipeline.media import audio
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.media.resample import Resampler

RNG = np.random.default_rng(0)


def sound_of(path, start_frame=0, end_frame=None):
    video = probe(path)
    return audio.read(path, video, start_frame=start_frame, end_frame=end_frame or video.num_frames)


def delay_ms(reference, sound):
    """Return by how much `sound` is late, ms, to 1/128 ms, from the peak of the cross-correlation."""
    size = 1 << (len(reference) + len(sound)).bit_length()
    spectrum = np.fft.rfft(sound.astype(float), size) * np.conj(np.fft.rfft(reference.astype(float), size))
    curve = np.fft.irfft(np.pad(spectrum, (0, size * 4 + 1 - len(spectrum))), size * 8)
    peak = int(np.argmax(curve))
    return (peak if peak < size * 4 else peak - size * 8) / 8 / 16


def clicks(rate_hz, num_seconds, at_s):
    """Return silence with one-sample clicks: float32 [S]."""
    samples = np.zeros(rate_hz * num_seconds, np.float32)
    samples[[round(time_s * rate_hz) for time_s in at_s]] = 0.9
    return samples


def found_clicks(sound):
    """Return the samples where clicks peak."""
    loud = np.flatnonzero(np.abs(sound.astype(int)) > np.abs(sound.astype(int)).max() // 2)
    return [
        int(group[np.abs(sound[group].astype(int)).argmax()])
        for group in np.split(loud, np.flatnonzero(np.diff(loud) > 50) + 1)
    ]


@pytest.mark.media
@pytest.mark.parametrize("offset_ms", [-200, -80, 40, 120, 320])
def test_known_offsets(clip, offset_ms):
    base = sound_of(clip("derived__dev_base.mp4"))
    assert delay_ms(base, sound_of(clip(f"derived__dev_off{offset_ms:+}ms.mp4"))) == pytest.approx(offset_ms, abs=1)


@pytest.mark.media
@pytest.mark.parametrize(
    "name",
    [
        "audiostart.mp4",
        "av1_opus.mkv",
        "vp9_opus.webm",
        "h264_10bit_flac.mkv",
        "h264_pcm8k.mov",
        "mjpeg_pcm.avi",
        "mpeg2_ts.ts",
        "onechannel.mp4",
        "twotracks.mkv",
        "shortaudio.mp4",
        "fps29.97.mp4",
        "vfr.mp4",
        "wrongext.avi",
    ],
)
def test_copies_are_aligned_with_the_base(clip, name):
    base, copy = sound_of(clip("derived__dev_base.mp4")), sound_of(clip(f"derived__dev_{name}"))
    assert len(copy) == 640 * probe(clip(f"derived__dev_{name}")).num_frames
    assert delay_ms(base, copy) == pytest.approx(0, abs=0.1)
    common = slice(8_000, 48_000)  # where all of them have sound
    assert np.corrcoef(base[common], copy[common])[0, 1] > 0.98


@pytest.mark.media
def test_one_channel_is_not_halved(clip):
    base, one = sound_of(clip("derived__dev_base.mp4")), sound_of(clip("derived__dev_onechannel.mp4"))
    assert one.astype(float).std() / base.astype(float).std() == pytest.approx(1, abs=0.01)


@pytest.mark.media
def test_short_sound_is_padded_with_silence(clip):
    short = sound_of(clip("derived__dev_shortaudio.mp4"))
    assert len(short) == 80_000
    # 40 ms for the tail that the last AAC packet fades out.
    assert not short[48_640:].any()
    assert short[46_000:47_000].any()


@pytest.mark.media
def test_late_sound_is_padded_in_front(clip):
    late = sound_of(clip("derived__dev_audiostart.mp4"))
    assert not late[: round(0.336 * 16_000) - 1].any()
    assert np.abs(late[6_400:12_000].astype(int)).max() > 1000


@pytest.mark.media
def test_video_that_starts_after_its_sound(clip):
    path = clip("ageitgey__face_recognition__examples_short_hamilton_clip.mp4")
    video = probe(path)
    assert float(video.audio_start_s) == pytest.approx(353 / 44_100 - 10_214 / 11_988, abs=1e-6)
    # The same sound as if the picture began with it: what plays before the first picture is cut.
    whole = audio.read(path, early(video), start_frame=0, end_frame=video.num_frames + 22)
    assert delay_ms(whole, sound_of(path)) == pytest.approx(-float(-video.audio_start_s) * 1000, abs=0.1)


def early(video):
    """Move the zero of the clock to the first sample of the sound."""
    from dataclasses import replace

    return replace(video, start_s=video.start_s + video.audio_start_s, audio_start_s=Fraction(0))


@pytest.mark.media
def test_silent_and_absent_sound(clip):
    assert not sound_of(clip("derived__dev_silentaudio.mp4")).any()
    with pytest.raises(MediaError) as caught:
        sound_of(clip("derived__dev_noaudio.mp4"))
    assert caught.value.reason == "no_audio_stream"


@pytest.mark.parametrize(
    ("ending", "codec", "rate_hz"),
    [("mov", "pcm_s16le", 16_000), ("mov", "pcm_s16le", 44_100), ("mkv", "flac", 48_000), ("avi", "pcm_s16le", 8_000)],
)
def test_click_stays_on_its_sample(tmp_path, draw, ending, codec, rate_hz):
    at_s = [0.5, 1.04, 1.8]
    draw(tmp_path / f"drawn.{ending}", "mpeg4", sound=(codec, rate_hz, clicks(rate_hz, 3, at_s)))
    sound = sound_of(tmp_path / f"drawn.{ending}")
    assert (sound.dtype, sound.shape) == (np.int16, (60 * 640,))
    assert found_clicks(sound) == [round(time_s * 16_000) for time_s in at_s]


@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("mkv", "aac"), ("mkv", "libmp3lame")]
)
def test_declared_priming_is_skipped(tmp_path, draw, ending, codec):
    at_s = [0.5, 1.04, 1.8]
    video = "libvpx" if ending == "webm" else "mpeg4"
    draw(tmp_path / f"drawn.{ending}", video, sound=(codec, 48_000, clicks(48_000, 3, at_s)))
    found = found_clicks(sound_of(tmp_path / f"drawn.{ending}"))
    assert found == pytest.approx([time_s * 16_000 for time_s in at_s], abs=12)


@pytest.mark.parametrize(
    ("video_start_s", "sound_start_s"), [(Fraction(1, 2), 0), (0, Fraction(2, 5)), (Fraction(3, 10), Fraction(1, 10))]
)
def test_start_times_of_both_streams_count(tmp_path, draw, video_start_s, sound_start_s):
    times_s = [video_start_s + Fraction(number, 25) for number in range(60)]
    sound = ("flac", 16_000, clicks(16_000, 3, [0.8, 1.5]))
    draw(tmp_path / "drawn.mkv", "libx264", times_s=times_s, sound=sound, sound_start_s=Fraction(sound_start_s))
    lag = round((sound_start_s - video_start_s) * 16_000)
    assert found_clicks(sound_of(tmp_path / "drawn.mkv")) == [12_800 + lag, 24_000 + lag]


def test_gap_in_the_timestamps_is_silence(tmp_path, draw):
    samples = clicks(48_000, 3, [0.5, 2.0])
    samples[48_000:72_000] = np.nan
    draw(tmp_path / "gap.mkv", "libx264", num_frames=75, sound=("pcm_s16le", 48_000, samples))
    sound = sound_of(tmp_path / "gap.mkv")
    assert found_clicks(sound) == [8_000, 32_000]
    assert not sound[16_100:23_900].any()


@pytest.mark.parametrize(
    ("ending", "video", "codec", "rate_hz"),
    [
        ("mov", "mpeg4", "pcm_s16le", 48_000),
        ("mkv", "libx264", "flac", 44_100),
        ("mkv", "mpeg4", "libopus", 48_000),
        ("mkv", "libx264", "aac", 44_100),
        ("mp4", "libx264", "aac", 16_000),
        ("ts", "mpeg2video", "mp2", 48_000),
        ("avi", "mpeg4", "libmp3lame", 44_100),
    ],
)
def test_range_equals_the_full_read(tmp_path, draw, ending, video, codec, rate_hz):
    path = tmp_path / f"long.{ending}"
    time_s = np.arange(rate_hz * 60) / rate_hz
    samples = (0.3 * np.sin(2 * np.pi * (300 + 20 * time_s) * time_s)).astype(np.float32)
    samples[:: rate_hz // 3] = 0.9
    draw(path, video, num_frames=1500, size=(320, 96), sound=(codec, rate_hz, samples))
    full = sound_of(path)
    for start, end in [(1, 60), (26, 28), (700, 900), (1400, 1490)]:
        part = sound_of(path, start, end)
        whole = full[640 * start : 640 * end]
        assert part.shape == whole.shape
        assert np.abs(part.astype(int) - whole).max() <= 4
    assert np.abs(full.astype(int)).max() > 8_000


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_resampler_is_exact(rate_hz):
    num_seconds, tone_hz = 12, 700
    source = (0.5 * np.sin(2 * np.pi * tone_hz * np.arange(rate_hz * num_seconds) / rate_hz)).astype(np.float32)
    out = np.zeros(16_000 * num_seconds, np.float32)
    resampler, position = Resampler(rate_hz, out, 0), 0
    while position < len(source):
        size = int(RNG.integers(100, 3000))
        resampler.add(position, source[position : position + size])
        position += size
    resampler.finish()
    ideal = 0.5 * np.sin(2 * np.pi * tone_hz * np.arange(len(out)) / 16_000)
    assert np.abs(out - ideal)[400:-400].max() * 32768 < 0.6
    part = np.zeros(16_000 * 3, np.float32)
    resampler = Resampler(rate_hz, part, 640 * 217)
    resampler.add(rate_hz * 8, source[rate_hz * 8 :])
    resampler.finish()
    np.testing.assert_array_equal(part, out[640 * 217 : 640 * 217 + len(part)])


def test_resampler_stops_aliases():
    out = np.zeros(32_000, np.float32)
    resampler = Resampler(48_000, out, 0)
    resampler.add(0, np.sin(2 * np.pi * 9_500 * np.arange(96_000) / 48_000).astype(np.float32))
    resampler.finish()
    assert 20 * np.log10(np.abs(out[1000:-1000]).max()) < -80


@pytest.mark.parametrize(("start", "end"), [(5, 5), (9, 3), (-1, 4)])
def test_no_range(tmp_path, draw, start, end):
    draw(tmp_path / "drawn.mkv", "libx264", sound=("flac", 16_000, clicks(16_000, 2, [1])))
    with pytest.raises(ValueError, match="no range"):
        audio.read(tmp_path / "drawn.mkv", probe(tmp_path / "drawn.mkv"), start_frame=start, end_frame=end)
