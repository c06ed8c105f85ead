"""Encode: each frame of a video is decoded once, and damage costs the clip that it lies in."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from encoding import encode_unit

from hs_data.manifests.commits import Commit, CommitLog, CommittedFile
from hs_data.manifests.errors import MediaError
from hs_data.manifests.records import Video
from hs_data.manifests.shards import Shard
from hs_data.manifests.storage import sha256_file
from hs_data.pipeline import latents, networks
from hs_data.pipeline.config import Config
from hs_data.pipeline.crop import CropConfig
from hs_data.pipeline.encode.clip_encoder import ClipEncoder
from hs_data.pipeline.encode.encoder import Encoder
from hs_data.pipeline.encode.items import EncodeItem, MadeClip, decode_runs
from hs_data.pipeline.latents import SIZE, CropEncoder, LatentsConfig, Posterior, is_checked
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.costs import Costs
from hs_data.pipeline.media.decode import Frame
from hs_data.pipeline.media.mp4 import add_sound, encode_video
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.models.block_dct import BlockDct
from hs_data.pipeline.run.finalize import join_shards
from hs_data.pipeline.run.ledger import Ledger
from hs_data.pipeline.score.registry import CLIP_SCHEMA

NUM_FRAMES, KEY_FRAME = 400, 300
"""Key frames are 75 apart; the probe keeps the first one and the next that is 10 s later."""
SIDE = 64
Spans = list[tuple[int, int]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Video]:
    """A pattern that turns brighter, so slowly that the encoder sees no cut in it, with a hiss."""
    path = tmp_path_factory.mktemp("film") / "v.mp4"
    pattern = 60 * (np.indices((SIDE, SIDE)).sum(axis=0) // 8 % 2)[..., None].repeat(3, axis=2)
    shown = ((Fraction(n, 25), (pattern + 40 + n // 4).astype(np.uint8)) for n in range(NUM_FRAMES))
    pcm = np.random.default_rng(0).normal(0, 2000, NUM_FRAMES * 640).astype(np.int16)
    add_sound(encode_video(shown, Fraction(25)), pcm, path, sample_rate_hz=16_000, num_channels=1)
    video = probe(path)
    assert (video.num_frames, video.keyframes_s) == (NUM_FRAMES, (Fraction(0), Fraction(KEY_FRAME, 25)))
    return path, video


def _item(video: Video, start: int, end: int, path: str = "v.mp4", lead: float | None = None) -> EncodeItem:
    num_frames = end - start
    return EncodeItem(
        clip_id=f"clip-{start}-{end}",
        path=path,
        video=video,
        start_frame=start,
        num_frames=num_frames,
        boxes=np.tile(np.array([20, 20, 44, 44], np.float32), (num_frames, 1)),
        landmarks=None,
        mouth_opening=np.zeros(num_frames, np.float32),
        audio_lead_frames=lead,
    )


def _spans(items: list[EncodeItem]) -> Spans:
    return [(run.start_frame, run.end_frame) for run in decode_runs(items)]


# --- which stretches are decoded


@pytest.mark.parametrize(
    ("clips", "runs"),
    [
        ([], []),
        ([(0, 50)], [(0, 50)]),
        ([(120, 170)], [(120, 170)]),
        ([(0, 50), (310, 360)], [(0, 50), (310, 360)]),
        ([(0, 50), (60, 110)], [(0, 110)]),
        ([(0, 50), (240, 290)], [(0, 290)]),
        ([(0, 50), (290, 340)], [(0, 340)]),
        ([(310, 360), (60, 110), (0, 50)], [(0, 110), (310, 360)]),
        ([(0, 100), (20, 60), (90, 95)], [(0, 100)]),
        ([(10, 60), (10, 60)], [(10, 60)]),
        ([(0, 298), (310, 360)], [(0, 298), (310, 360)]),
        ([(0, 299), (310, 360)], [(0, 360)]),
        ([(310, 330), (340, 360)], [(310, 360)]),
        ([(0, 50), (300, 350)], [(0, 50), (300, 350)]),
    ],
    ids=[
        *("none", "one", "one_inside", "key_frame_between", "near", "far_without_key_frame", "key_frame_inside"),
        *("any_order", "nested", "two_faces", "key_frame_beyond_lookahead", "key_frame_in_lookahead"),
        *("after_the_last_key_frame", "from_the_key_frame"),
    ],
)
def test_a_run_ends_where_the_next_one_can_seek_to(film: tuple[Path, Video], clips: Spans, runs: Spans):
    items = [_item(film[1], start, end) for start, end in clips]
    found = decode_runs(items)
    assert [(run.start_frame, run.end_frame) for run in found] == runs
    placed = [(item.start_frame, item.end_frame) for run in found for item in run.items]
    assert placed == sorted(clips), "each clip lies in one run"
    for run in found:
        assert all(run.start_frame <= item.start_frame and item.end_frame <= run.end_frame for item in run.items)


def test_a_video_without_key_frames_is_one_run(film: tuple[Path, Video]):
    video = Video(**{**vars(film[1]), "keyframes_s": ()})
    assert _spans([_item(video, 0, 50), _item(video, 310, 360)]) == [(0, 360)]


# --- encoding whole units


def _encode(
    items: list[EncodeItem], root: Path, shard: Path, config: Config | None = None, **options: Any
) -> dict[str, dict[str, Any]]:
    return encode_unit(Encoder(config or Config()), items, root, shard, **options)


@pytest.mark.parametrize(
    ("clips", "runs", "num_decoded"),
    [
        # A run decodes from its key frame to one frame beyond its end.
        ([(0, 30), (310, 340)], [(0, 30), (310, 340)], [31, 41]),
        ([(0, 30), (40, 70)], [(0, 70)], [71]),
        ([(0, 30), (10, 40), (310, 340)], [(0, 40), (310, 340)], [41, 41]),
    ],
    ids=["far", "near", "two_faces"],
)
def test_each_frame_is_decoded_once(
    film: tuple[Path, Video],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clips: Spans,
    runs: Spans,
    num_decoded: list[int],
):
    asked: Spans = []
    shown: Counter[int] = Counter()
    frames = decode.frames

    def watch(*args: Any, **options: Any) -> Iterator[Frame]:
        asked.append((options["start_frame"], options["end_frame"]))
        for frame in frames(*args, **options):
            shown[frame.index] += 1
            yield frame

    monkeypatch.setattr(decode, "frames", watch)
    items = [_item(film[1], start, end) for start, end in clips]
    receipts = _encode(items, film[0].parent, tmp_path / "s.parquet")
    assert asked == runs
    assert set(shown.values()) == {1}
    assert sorted(shown) == [index for start, end in runs for index in range(start, end)]
    told = [receipt["num_decoded"] for receipt in receipts.values() if "num_decoded" in receipt]
    assert told == num_decoded, "told once a run"
    assert sum(told) <= NUM_FRAMES
    shard = Shard(tmp_path / "s.parquet")
    for item in items:
        group = receipts[item.item_id]["row_group"]
        assert (shard.clip_id(group), shard.num_frames(group)) == (item.clip_id, item.num_frames)
        grey = shard.read(group, "latent")[:, 0].astype(np.float32).mean(axis=(1, 2)) / 0.25 / 8 * 127.5 + 127.5
        # Where the box is cut half of the pattern is bright; x264 loses a little.
        expected = 40 + 30 + np.arange(item.start_frame, item.end_frame) // 4
        np.testing.assert_allclose(grey, expected, atol=3)


def test_a_run_may_take_as_long_as_its_own_frames(film: tuple[Path, Video], tmp_path: Path):
    budgets_s: list[float] = []

    @contextmanager
    def guard(budget_s: float) -> Iterator[None]:
        budgets_s.append(budget_s)
        yield

    items = [_item(film[1], start, end) for start, end in ((0, 10), (90, 100), (310, 320))]
    waited: list[str] = []
    _encode(items, film[0].parent, tmp_path / "s.parquet", guard=guard, turn_to=waited.append)
    assert budgets_s == [10.0 * 100 / 25, 30.0]
    assert waited == ["clip-0-10+0", "clip-90-100+0", "clip-310-320+0"]


@pytest.mark.parametrize(("lead", "moved"), [(None, 0), (2.0, 1280), (-1.5, -960)])
def test_a_receipt_is_found_by_clip_and_correction(
    film: tuple[Path, Video], tmp_path: Path, lead: float | None, moved: int
):
    item = _item(film[1], 100, 150, lead=lead)
    assert item.item_id == f"clip-100-150{moved:+d}"
    receipts = _encode([item], film[0].parent, tmp_path / "s.parquet")
    assert list(receipts) == [item.item_id]
    assert receipts[item.item_id]["audio_shift_samples"] == moved
    plain = _item(film[1], 60, 190)
    _encode([plain], film[0].parent, tmp_path / "t.parquet")
    around = Shard(tmp_path / "t.parquet").read(0, "pcm").reshape(-1)
    stored = Shard(tmp_path / "s.parquet").read(0, "pcm").reshape(-1)
    first = 40 * 640 - moved  # delayed sound comes from earlier
    np.testing.assert_allclose(stored, around[first : first + 50 * 640], atol=1)


# --- damage


def _frames(start: int, end: int, stale: set[int]) -> Iterator[Frame]:
    rgb = np.full((SIDE, SIDE, 3), 90, np.uint8)
    return (Frame(index, rgb, index in stale) for index in range(start, end))


@pytest.mark.parametrize(
    ("num_frames", "num_stale", "fails"), [(100, 0, False), (100, 1, False), (100, 2, True), (75, 1, True)]
)
def test_a_clip_with_more_than_one_stale_frame_in_a_hundred_fails(
    film: tuple[Path, Video], num_frames: int, num_stale: int, fails: bool
):
    clip = ClipEncoder(_item(film[1], 50, 50 + num_frames), CropConfig(), CropEncoder(LatentsConfig(), BlockDct()))
    inside = set(range(60, 60 + num_stale))
    outside = {*range(40), *range(50 + num_frames, 300)}
    for frame in _frames(0, 300, inside | outside):
        assert clip.is_whole == (frame.index >= 50 + num_frames)
        clip.add(frame, Costs())
    clip.finish({}, Costs())
    assert clip.arrays()["latent"].shape == (num_frames, 4, 64, 64)
    share = num_stale / num_frames
    expected = {"outcome": "frame_count_mismatch", "value": share, "threshold": 0.01}
    assert clip.failure == (expected if fails else None)


CLIPS = ((0, 20), (30, 50), (60, 80))


def test_stale_frames_cost_the_clip_that_they_lie_in(
    film: tuple[Path, Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def damaged(*args: Any, start_frame: int, end_frame: int, check: bool, **options: Any) -> Iterator[Frame]:
        assert not check
        return _frames(start_frame, end_frame, {21, 22, 23, 35, 55})

    monkeypatch.setattr(decode, "frames", damaged)
    items = [_item(film[1], start, end) for start, end in CLIPS]
    receipts = _encode(items, film[0].parent, tmp_path / "s.parquet")
    bad = receipts["clip-30-50+0"]
    assert (bad["outcome"], bad["value"], bad["threshold"]) == ("frame_count_mismatch", 0.05, 0.01)
    assert "row_group" not in bad
    assert [receipts[f"clip-{clip}+0"]["row_group"] for clip in ("0-20", "60-80")] == [0, 1]
    shard = Shard(tmp_path / "s.parquet")
    assert [shard.clip_id(group) for group in range(shard.num_row_groups)] == ["clip-0-20", "clip-60-80"]


@pytest.mark.parametrize(
    ("raises", "reason", "detail"),
    [
        (True, "unavailable", "the disk is gone"),
        (False, "frame_count_mismatch", "2 clips end after the last decoded frame"),
    ],
    ids=["raises", "ends_early"],
)
def test_what_was_whole_before_decoding_ended_is_kept(
    film: tuple[Path, Video],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raises: bool,
    reason: str,
    detail: str,
):
    def broken(*args: Any, start_frame: int, **options: Any) -> Iterator[Frame]:
        yield from _frames(start_frame, 45, set())
        if raises:
            raise MediaError("unavailable", "the disk is gone")

    monkeypatch.setattr(decode, "frames", broken)
    items = [_item(film[1], start, end) for start, end in CLIPS]
    receipts = _encode(items, film[0].parent, tmp_path / "s.parquet")
    assert receipts["clip-0-20+0"]["row_group"] == 0
    for clip in ("30-50", "60-80"):
        assert receipts[f"clip-{clip}+0"] == {"outcome": reason, "detail": detail}
    assert Shard(tmp_path / "s.parquet").num_row_groups == 1


# --- what is stored


def _picture(data: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture[..., ::-1]


def test_a_shard_holds_what_the_settings_ask_for_and_says_so(film: tuple[Path, Video], tmp_path: Path):
    config = Config(latents=LatentsConfig(masked=True, jpeg_quality=90))
    items = [_item(film[1], 0, 20), _item(film[1], 30, 43)]
    receipts = _encode(items, film[0].parent, tmp_path / "s.parquet", config)
    shard = Shard(tmp_path / "s.parquet")
    assert set(shard.columns) == {"latent", "latent_masked", "frame_jpeg", "logmel", "pcm", "crop"}
    assert shard.contract["audio"] == {"id": "logmel", "revision": "1", "rate_hz": 100}
    assert shard.contract["latent"]["mask"]["id"] == "highsync-64"
    for item in items:
        group = receipts[item.item_id]["row_group"]
        whole, masked = shard.read(group, "latent"), shard.read(group, "latent_masked")
        np.testing.assert_array_equal(masked[:, :3, :28], whole[:, :3, :28])
        assert np.abs(masked[:, :3, 28:60, 5:59]).max() < 1e-6
        pictures = shard.read(group, "frame_jpeg")
        assert len(pictures) == item.num_frames
        for frame in (0, item.num_frames - 1):
            picture = _picture(pictures[frame])
            grey = whole[frame, 0].astype(np.float32).mean() / 0.25 / 8 * 127.5 + 127.5
            assert picture.shape == (SIZE, SIZE, 3)
            assert picture.mean() == pytest.approx(grey, abs=2)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_size_of_a_batch_changes_nothing(film: tuple[Path, Video], tmp_path: Path, batch: int):
    config = Config(latents=LatentsConfig(masked=True, batch=batch))
    receipts = _encode([_item(film[1], 0, 20)], film[0].parent, tmp_path / "s.parquet", config)
    names = {"outcome", "row_group", "audio_shift_samples", "residual_lead_ms", "num_decoded"}
    assert set(receipts["clip-0-20+0"]) == names
    _encode([_item(film[1], 0, 20)], film[0].parent, tmp_path / "t.parquet", Config())
    one, other = Shard(tmp_path / "s.parquet"), Shard(tmp_path / "t.parquet")
    np.testing.assert_array_equal(one.read(0, "latent"), other.read(0, "latent"))
    assert one.read(0, "latent_masked").shape == (20, 4, 64, 64)


def test_the_round_trip_of_checked_clips_is_in_their_receipts(
    film: tuple[Path, Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(latents, "CHECK_EVERY", 2)
    items = [_item(film[1], start, start + 10) for start in range(0, 60, 10)]
    chosen = {item.item_id for item in items if is_checked(item.clip_id)}
    assert 0 < len(chosen) < len(items)
    config = Config(latents=LatentsConfig(jpeg_quality=100))
    receipts = _encode(items, film[0].parent, tmp_path / "s.parquet", config)
    assert {item_id for item_id, receipt in receipts.items() if "psnr_db" in receipt} == chosen
    encoder, shard = CropEncoder(config.latents, BlockDct()), Shard(tmp_path / "s.parquet")
    for item_id in chosen:
        # JPEG of quality 100 is the crop within about one grey level; the first batch is what was measured.
        group = receipts[item_id]["row_group"]
        files = shard.read(group, "frame_jpeg", 0, 8)
        crops = np.stack([_picture(data) for data in files])
        again = encoder.round_trip(crops, shard.read(group, "latent", 0, 8))
        assert again is not None
        for name, value in again.items():
            assert receipts[item_id][name] == pytest.approx(value, abs=0.5)
            assert 20 < receipts[item_id][name] < 100


class _Broken:
    """A codec whose latents of bright frames are what a test says."""

    contract: dict[str, Any] = {"id": "broken"}  # noqa: RUF012

    def __init__(self, mean: float, logvar: float, limit: float) -> None:
        self._mean, self._logvar, self._limit = mean, logvar, limit

    def encode(self, frames: np.ndarray) -> Posterior:
        mean, logvar = np.zeros((2, len(frames), 4, 64, 64), np.float16)
        bright = frames[:, :200].mean(axis=(1, 2, 3)) > self._limit  # above the mouth, which may be hidden
        mean[bright, 1, 2, 3], logvar[bright, 1, 2, 3] = self._mean, self._logvar
        return Posterior(mean=mean, logvar=logvar)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return np.zeros((len(latents), SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ("mean", "logvar", "value"),
    [
        (np.nan, 0.0, None),
        (np.inf, 0.0, None),
        (-np.inf, 0.0, None),
        (30.5, 0.0, 30.5),
        (-31.0, 0.0, 31.0),
        (0.0, np.nan, None),
    ],
    ids=["nan", "inf", "minus_inf", "large", "minus_large", "logvar"],
)
def test_a_latent_that_is_none_costs_its_clip_and_no_other(
    film: tuple[Path, Video],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mean: float,
    logvar: float,
    value: float | None,
):
    # Frame n has a mean of about 69 + n // 4: only the last four of the second clip are that bright.
    codec = _Broken(mean, logvar, 69 + 75 // 4 + 0.7)
    monkeypatch.setattr(networks, "make_codec", lambda config, models: codec)
    config = Config(latents=LatentsConfig(backend="sd_vae", logvar=True, masked=True))
    monkeypatch.setattr(latents, "CHECK_EVERY", 1)
    items = [_item(film[1], 0, 20), _item(film[1], 60, 80), _item(film[1], 20, 40)]
    receipts = _encode(items, film[0].parent, tmp_path / "s.parquet", config)
    bad = {name: receipts["clip-60-80+0"].get(name) for name in ("outcome", "value", "threshold", "row_group")}
    assert bad == {"outcome": "latent_nan", "value": value, "threshold": 30.0, "row_group": None}
    assert sorted(receipts[f"clip-{clip}+0"]["row_group"] for clip in ("0-20", "20-40")) == [0, 1]
    assert Shard(tmp_path / "s.parquet").num_row_groups == 2


@pytest.mark.parametrize("edge", [30.0, -30.0])
def test_a_latent_at_the_limit_is_kept(
    film: tuple[Path, Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edge: float
):
    monkeypatch.setattr(networks, "make_codec", lambda config, models: _Broken(edge, 0.0, 0.0))
    receipts = _encode([_item(film[1], 0, 20)], film[0].parent, tmp_path / "s.parquet")
    assert receipts["clip-0-20+0"]["row_group"] == 0


def test_what_was_measured_reaches_the_table_of_clips(tmp_path: Path):
    names = ["psnr_db", "psnr_mouth_db", "residual_lead_ms"]
    receipts = {
        "a+0": {"row_group": 0, "audio_shift_samples": 0, "psnr_db": 31.25, "psnr_mouth_db": 29.5},
        "b+0": {"row_group": 1, "audio_shift_samples": 0, "residual_lead_ms": 12.0},
        "c+0": {"outcome": "latent_nan", "value": None, "threshold": 30.0},
    }
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "s.parquet").write_bytes(b"x")
    file = CommittedFile(path="shards/s.parquet", sha256="", bytes=1)
    commit = Commit(phase="encode", unit="u", fingerprint="f", receipts=receipts, file=file)
    CommitLog(tmp_path).add(commit)
    clips = pa.Table.from_pylist([{"clip_id": name, "verdict": "kept"} for name in "abc"], schema=CLIP_SCHEMA)
    items = {name: f"{name}+0" for name in "abc"}
    joined = join_shards(clips, items, Ledger(tmp_path, "encode", "f")).to_pylist()
    assert [[row[name] for name in names] for row in joined] == [
        [31.25, 29.5, None],
        [None, None, 12.0],
        [None, None, None],
    ]
    assert [row["verdict"] for row in joined] == ["kept", "kept", "dropped"]


# --- clips that an earlier attempt made

OVERLAPPING = [(0, 30), (10, 60), (20, 50), (62, 80), (310, 340)]


def _pieces(items: list[EncodeItem], root: Path, folder: Path, taken: set[int]) -> list[EncodeItem]:
    """Encode some clips alone, and return all with what that made of them."""
    found = list(items)
    for place in taken:
        shard = folder / f"{place}.parquet"
        receipt = _encode([items[place]], root, shard)[items[place].item_id]
        found[place] = replace(found[place], made=MadeClip(receipt=receipt, shard=shard, sha256=sha256_file(shard)))
    return found


@pytest.mark.parametrize("taken", [{0}, {1}, {2, 4}, {0, 1, 3}, {1, 2}, {0, 1, 2, 3, 4}], ids=str)
def test_clips_that_were_made_before_are_copied_to_where_they_would_be_encoded(
    film: tuple[Path, Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: set[int]
):
    path, video = film
    items = [_item(video, start, end) for start, end in OVERLAPPING]
    whole = _encode(items, path.parent, tmp_path / "whole.parquet")
    pieces = _pieces(items, path.parent, tmp_path, taken)
    opened: list[str] = []
    finish = ClipEncoder.finish
    monkeypatch.setattr(
        ClipEncoder, "finish", lambda clip, *more: (opened.append(clip.item.item_id), finish(clip, *more))[1]
    )
    receipts = _encode(pieces, path.parent, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert {item: receipt["row_group"] for item, receipt in receipts.items()} == {
        item: receipt["row_group"] for item, receipt in whole.items()
    }
    assert sorted(opened) == sorted(item.item_id for place, item in enumerate(items) if place not in taken)


def test_a_damaged_piece_is_encoded_again_and_not_copied(film: tuple[Path, Video], tmp_path: Path):
    path, video = film
    items = [_item(video, start, end) for start, end in OVERLAPPING]
    _encode(items, path.parent, tmp_path / "whole.parquet")
    pieces = _pieces(items, path.parent, tmp_path, {0, 1})
    content = bytearray((tmp_path / "1.parquet").read_bytes())
    content[50_000] ^= 1
    (tmp_path / "1.parquet").write_bytes(content)
    _encode(pieces, path.parent, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
