"""Which source frame every output frame is, on any codec, rate, clock and entry point."""

from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from hs_data.manifests.errors import MediaError
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.media.slots import DecodeStats, middle_ticks

CONFIG = decode.DecodeConfig()
NTSC = Fraction(30_000, 1001)
UNEVEN = [Fraction(number, 30) for number in range(90) if number * 7 % 11 not in (0, 1, 5)]

CODECS = {
    "h264-b-frames": ("mp4", "libx264", {"b_frames": 3}),
    "h264-open-gop": ("mkv", "libx264", {"b_frames": 3, "options": {"x264-params": "open-gop=1:scenecut=0:keyint=20"}}),
    "hevc": ("mp4", "libx265", {"options": {"x265-params": "log-level=none:bframes=3:keyint=20:min-keyint=5"}}),
    "vp8": ("webm", "libvpx", {"options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "400k"}}),
    "vp9": ("webm", "libvpx-vp9", {"options": {"b": "400k", "cpu-used": "8"}}),
    "av1": ("mkv", "libsvtav1", {"options": {"preset": "9", "crf": "20"}}),
    "mpeg2-ts": ("ts", "mpeg2video", {"b_frames": 2}),
    "h264-ts": ("ts", "libx264", {"b_frames": 2}),
    "mpeg2-ps": ("mpg", "mpeg2video", {"b_frames": 2}),
    "mjpeg-avi": ("avi", "mjpeg", {"pixels": "yuvj420p"}),
    "mpeg4-avi": ("avi", "mpeg4", {}),
    "mpeg4-avi-b-frames": ("avi", "mpeg4", {"b_frames": 2}),
    "h264-avi-b-frames": ("avi", "libx264", {"b_frames": 2}),
    "mpeg4-open-gop": ("mkv", "mpeg4", {"b_frames": 2}),
    "vfr": ("mkv", "libx264", {"times_s": UNEVEN, "b_frames": 2}),
    "late-start": (
        "mp4",
        "libx264",
        {"times_s": [Fraction(17, 20) + Fraction(n, 25) for n in range(60)], "b_frames": 2},
    ),
    "23.976": ("mp4", "libx264", {"rate": Fraction(24_000, 1001)}),
    "29.97": ("mp4", "libx264", {"rate": NTSC, "num_frames": 90}),
    "50": ("mp4", "libx264", {"rate": 50, "num_frames": 120, "b_frames": 2}),
    "60": ("mkv", "libx264", {"rate": 60, "num_frames": 130}),
    "10": ("mp4", "libx264", {"rate": 10, "num_frames": 25}),
}


def expected(times_s: list[Fraction], num_frames: int) -> list[int]:
    """Return the source frame on screen at the middle of each slot."""
    since_s = [time_s - times_s[0] for time_s in times_s]
    middles_s = [Fraction(2 * index + 1, 50) for index in range(num_frames)]
    return [max(number for number, time_s in enumerate(since_s) if time_s < middle_s) for middle_s in middles_s]


def frames_of(path, **options):
    return list(decode.frames(path, probe(path), config=CONFIG, **options))


@pytest.fixture(scope="module", params=CODECS, ids=list(CODECS))
def drawn(request, tmp_path_factory, draw):
    """A counting video of one kind and when its pictures are shown."""
    ending, codec, options = CODECS[request.param]
    path = tmp_path_factory.mktemp("drawn") / f"drawn.{ending}"
    return path, draw(path, codec, **options)


def test_counter_is_read_back_exactly(drawn, read_number):
    path, times_s = drawn
    stats = DecodeStats()
    frames = frames_of(path, stats=stats)
    video = probe(path)
    assert [frame.index for frame in frames] == list(range(video.num_frames))
    assert [read_number(frame.rgb) for frame in frames] == expected(times_s, video.num_frames)
    assert (stats.num_decoded, stats.num_errors, stats.num_damaged, stats.num_missing) == (len(times_s), 0, 0, 0)
    end_s = times_s[-1] - times_s[0] + (times_s[-1] - times_s[-2])
    assert abs(video.num_frames - end_s * 25) <= 1


def test_seek_gives_the_frames_of_a_full_read(drawn):
    path, _ = drawn
    full = frames_of(path)
    for start in (1, 7, 20, 33, len(full) - 2):
        part = frames_of(path, start_frame=start, end_frame=min(start + 3, len(full)))
        assert [frame.index for frame in part] == list(range(start, min(start + 3, len(full))))
        for frame in part:
            np.testing.assert_array_equal(frame.rgb, full[frame.index].rgb)


def test_seek_decodes_only_from_the_keyframe_on(tmp_path, draw):
    draw(tmp_path / "long.mp4", "libx264", num_frames=400, gop=50, options={"x264-params": "scenecut=0"})
    stats = DecodeStats()
    frames_of(tmp_path / "long.mp4", start_frame=320, end_frame=325, stats=stats)
    assert 20 <= stats.num_decoded <= 60


@pytest.mark.parametrize("rate", [Fraction(24_000, 1001), NTSC, 50, 60])
def test_same_frames_as_ffmpeg_fps_filter(tmp_path, draw, read_number, rate):
    path = tmp_path / "drawn.mp4"
    draw(path, "libx264", rate=rate, num_frames=130)
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        nodes = (graph.add_buffer(template=stream), graph.add("fps", "25"), graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        for frame in container.decode(stream):
            graph.push(frame)
    graph.push(None)
    theirs = []
    while len(theirs) < 150:
        try:
            frame = graph.vpull()
            theirs.append(read_number(frame.to_ndarray(format="rgb24")))
        except (BlockingIOError, EOFError):
            break
    ours = [read_number(frame.rgb) for frame in frames_of(path)]
    assert len(ours) > 50
    # ffmpeg rounds the length its own way; what both have is the same.
    assert ours[: len(theirs)] == theirs[: len(ours)]
    assert abs(len(ours) - len(theirs)) <= 1


def test_jitter_below_half_a_slot_changes_nothing(tmp_path, draw, read_number):
    jitter_ms = np.random.default_rng(1).integers(-18, 19, 60)
    times_s = [1 + Fraction(number, 25) + Fraction(int(jitter_ms[number] * (number > 0)), 1000) for number in range(60)]
    draw(tmp_path / "jitter.mkv", "libx264", times_s=times_s)
    assert [read_number(frame.rgb) for frame in frames_of(tmp_path / "jitter.mkv")][:59] == list(range(59))


def test_middle_of_a_slot():
    assert [middle_ticks(index, Fraction(1, 90_000)) for index in (0, 1, 2)] == [1800, 5400, 9000]
    # 29.97 fps: a frame exactly at the middle of slot 500 (20.02 s) is the next slot's.
    assert middle_ticks(500, Fraction(1001, 30_000)) == 600


def test_source_frame_of_two_slots_is_converted_once(tmp_path, draw):
    draw(tmp_path / "slow.mp4", "libx264", rate=10, num_frames=20)
    frames = frames_of(tmp_path / "slow.mp4")
    assert len(frames) == 50
    assert len({id(frame.rgb) for frame in frames}) == 20


def test_array_contract(tmp_path, draw):
    draw(tmp_path / "odd.mkv", "libx264", num_frames=3, size=(322, 242), pixels="yuv444p")
    for frame in frames_of(tmp_path / "odd.mkv"):
        assert (frame.rgb.shape, frame.rgb.dtype, frame.rgb.flags.c_contiguous) == ((242, 322, 3), np.uint8, True)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (3, 2), (0, 61), (61, 61)])
def test_range_outside_the_video(tmp_path, draw, start, end):
    draw(tmp_path / "drawn.mp4", "libx264")
    with pytest.raises(ValueError, match="not inside the video's 60"):
        frames_of(tmp_path / "drawn.mp4", start_frame=start, end_frame=end)


def test_empty_range(tmp_path, draw):
    draw(tmp_path / "drawn.mp4", "libx264", num_frames=5)
    assert frames_of(tmp_path / "drawn.mp4", start_frame=5) == []


@pytest.mark.parametrize("setting", [{"min_timeout_s": 0.0}, {"timeout_factor": -1.0}])
def test_config_is_checked(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        decode.DecodeConfig(**setting)


def test_timeout_grows_with_the_range():
    assert (CONFIG.timeout_s(25), CONFIG.timeout_s(25 * 600)) == (30, 6000)


def test_one_lost_frame_is_held_over_and_many_are_an_error(tmp_path, draw, read_number):
    path = tmp_path / "mjpeg.avi"
    draw(path, "mjpeg", num_frames=250, pixels="yuvj420p")
    video = probe(path)
    blank_packets(path, [100])
    stats = DecodeStats()
    numbers = [read_number(frame.rgb) for frame in decode.frames(path, video, config=CONFIG, stats=stats)]
    assert numbers == [*range(100), 99, *range(101, 250)]
    assert (stats.num_decoded, stats.num_errors, stats.num_missing) == (249, 1, 1)
    blank_packets(path, [50, 120, 180])
    with pytest.raises(MediaError, match=r"frame_count_mismatch: 4 of 250 frames are missing \(246 decoded, 4 packets"):
        list(decode.frames(path, video, config=CONFIG))


def test_nothing_decodes(tmp_path, draw):
    path = tmp_path / "mjpeg.avi"
    draw(path, "mjpeg", num_frames=20, pixels="yuvj420p")
    video = probe(path)
    blank_packets(path, list(range(20)))
    with pytest.raises(MediaError, match="decode_error: no frame of 0 to 20 came out"):
        list(decode.frames(path, video, config=CONFIG))


def blank_packets(path, numbers):
    """Overwrite the content of some packets of an AVI with zeros, leaving the structure whole."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in numbers:
        place, size = places[number]
        content[place : place + size] = bytes(size)
    path.write_bytes(content)


@pytest.mark.media
def test_bit_flips_are_a_frame_count_mismatch(clip):
    path = clip("derived__dev_bitflips.mp4")
    stats = DecodeStats()
    with pytest.raises(MediaError, match="frame_count_mismatch") as caught:
        frames_of(path, stats=stats)
    assert caught.value.reason == "frame_count_mismatch"
    # The decoder gives 125 pictures and no error; from the first invented macroblock on none is used.
    assert (stats.num_decoded, stats.num_errors) == (125, 0)
    assert stats.num_missing == stats.num_damaged == 92


@pytest.mark.media
def test_frames_before_the_damage_are_those_of_the_sound_file(clip):
    sound = frames_of(clip("derived__dev_base.mp4"), end_frame=30)
    path = clip("derived__dev_bitflips.mp4")
    for ours, theirs in zip(frames_of(path, end_frame=30), sound, strict=True):
        np.testing.assert_array_equal(ours.rgb, theirs.rgb)


@pytest.mark.media
@pytest.mark.parametrize(
    ("kind", "num_frames"),
    [
        ("fps23.976.mp4", 124),
        ("fps29.97.mp4", 124),
        ("fps50.mp4", 125),
        ("fps60.mp4", 125),
        ("vfr.mp4", 125),  # its last two pictures were left out; the one before is held
        ("h264_10bit_flac.mkv", 125),
        ("h264_pcm8k.mov", 125),
        ("hevc_aac.mp4", 125),
        ("vp9_opus.webm", 125),
        ("av1_opus.mkv", 125),
        ("mpeg2_ts.ts", 125),
        ("mjpeg_pcm.avi", 125),
        ("wrongext.avi", 125),
    ],
)
def test_copies_of_the_base_clip_show_the_same_pictures(clip, kind, num_frames):
    base = frames_of(clip("derived__dev_base.mp4"))
    copy = frames_of(clip(f"derived__dev_{kind}"))
    assert (len(base), len(copy)) == (125, num_frames)
    # Every copy is nearest to the base at the same index or a neighbour; other rates repeat and drop frames.
    small = [frame.rgb[::8, ::8].astype(np.float32) for frame in base]
    for frame in copy[10:110:9]:
        near = range(frame.index - 4, frame.index + 5)
        distances = [np.abs(frame.rgb[::8, ::8] - small[index]).mean() for index in near]
        assert abs(int(np.argmin(distances)) - 4) <= 1


@pytest.mark.media
def test_rotated_file_is_upright(clip):
    upright = frames_of(clip("derived__dev_base.mp4"))[0].rgb
    turned = frames_of(clip("derived__dev_rotmeta90.mp4"))[0].rgb
    assert turned.shape == (640, 512, 3)
    # The portrait was padded or stretched from the base: find the base in it, and not upside down.
    stretched = turned[np.arange(512) * 640 // 512]
    padded = turned[64:576]
    same = min(np.abs(image.astype(int) - upright).mean() for image in (stretched, padded))
    flipped = min(np.abs(image[::-1, ::-1].astype(int) - upright).mean() for image in (stretched, padded))
    assert same < 20
    assert same < flipped / 2


@pytest.mark.media
def test_odd_size(clip):
    frames = frames_of(clip("derived__dev_odddims.mp4"), end_frame=2)
    assert [frame.rgb.shape for frame in frames] == [(501, 511, 3)] * 2
