"""SyncNet: upstream's numbers, the sign of a lead, bounded memory, and corrections that hold on what a trainer reads.

No trained weights are at hand. The network runs under seeded random ones, so that upstream's code on the same weights
says what is right; what a trained network would say of a talker is nowhere tested here.
"""

from argparse import Namespace
from fractions import Fraction

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from encoding import encode_unit
from scipy.io import wavfile
from syncnet_python.SyncNetInstance import SyncNetInstance, calc_pdist
from syncnet_python.SyncNetModel import S

from hs_data.manifests.errors import ModelError
from hs_data.manifests.records import SAMPLES_PER_FRAME
from hs_data.manifests.shards import Shard
from hs_data.pipeline import networks
from hs_data.pipeline.config import Config
from hs_data.pipeline.encode import encoder
from hs_data.pipeline.encode.items import EncodeItem
from hs_data.pipeline.faces.detect import Detections
from hs_data.pipeline.faces.tracks import Linker, TracksConfig
from hs_data.pipeline.media import audio
from hs_data.pipeline.media.costs import Costs
from hs_data.pipeline.media.mp4 import add_sound, encode_video
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.score import scorer
from hs_data.pipeline.score.metrics.sync import measure_sync
from hs_data.pipeline.score.registry import SCORE_SCHEMA
from hs_data.pipeline.select import SelectConfig, select
from hs_data.pipeline.sync import lip_crops
from hs_data.pipeline.sync.distances import distances, estimate, lse
from hs_data.pipeline.sync.estimate import SyncConfig
from hs_data.pipeline.sync.lips import LipReader, LipStream
from hs_data.pipeline.sync.syncnet import SyncNet

CPU = torch.device("cpu")


def moving(num_frames, seed=0, side=224):
    """Coloured blobs that move and change, [T, side, side, 3] uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num_frames, 14, 14, 3)).astype(np.uint8)
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC) for picture in coarse])


def babble(num_frames, seed=0):
    """Noise that swells and fades, [640 T] int16."""
    rng = np.random.default_rng(seed)
    swell = np.repeat(rng.random(num_frames), SAMPLES_PER_FRAME) ** 2
    return (swell * rng.normal(0, 3000, len(swell))).astype(np.int16)


@pytest.fixture(scope="module")
def net():
    """Upstream's network under random weights; its layers are normed on data, else all vectors would be alike."""
    torch.manual_seed(0)
    network = S()
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
    for layer in norms:
        layer.momentum = None  # running statistics are then those of the data
    pictures = torch.from_numpy(moving(12)).permute(3, 0, 1, 2)[None].float()
    with torch.no_grad():
        network.forward_lip(torch.cat([pictures[:, :, first : first + 5] for first in range(8)]))
        network.forward_aud(torch.randn(64, 1, 13, 20) * 8)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights_file(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "syncnet_v2.model"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)  # the form of the published file
    return path


@pytest.fixture(scope="module")
def ours(weights_file):
    return SyncNet(weights_file, device=CPU, dtype=torch.float32)


# --- upstream's numbers


def test_lips_are_those_of_upstreams_windows(net, ours):
    crops = moving(40, seed=1)
    bgr = torch.from_numpy(crops[..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()
    windows = torch.cat([bgr[:, :, first : first + 5] for first in (0, 1, 17, 31, 32, 35)])
    found = ours.embed_lips(crops)
    assert found.shape == (36, 1024)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[[0, 1, 17, 31, 32, 35]], net.forward_lip(windows).numpy(), atol=1e-4)
    assert np.abs(np.diff(found, axis=0)).max(axis=1).min() > 0.1, "the weights tell pictures apart"


def test_evaluate_says_the_same(net, ours, tmp_path, capsys):
    num_frames = 45
    for index, picture in enumerate(moving(num_frames, seed=2)):
        cv2.imwrite(str(tmp_path / f"{index:06}.jpg"), picture)
    read = [cv2.imread(str(path)) for path in sorted(tmp_path.glob("*.jpg"))]
    crops = np.stack([picture[..., ::-1] for picture in read if picture is not None])
    pcm = babble(num_frames)
    wavfile.write(tmp_path / "audio.wav", 16_000, pcm)
    options = Namespace(tmp_dir=str(tmp_path), batch_size=20, vshift=15)
    theirs = SyncNetInstance(net, device="cpu").evaluate(options)
    assert "AV offset" in capsys.readouterr().out
    found = lse(ours.embed_lips(crops), ours.embed_sound(pcm))
    assert found[0] == theirs[0]
    assert found[1:] == pytest.approx(theirs[1:], abs=1e-3)
    assert theirs[1] > 0.02
    assert theirs[2] > 1


@pytest.mark.parametrize("num_frames", range(8))
def test_every_length_has_an_answer(ours, num_frames):
    assert ours.embed_lips(moving(8)[:num_frames]).shape == (max(0, num_frames - 4), 1024)
    assert ours.embed_sound(babble(num_frames)).shape == (max(0, num_frames - 5), 1024)


def test_other_weights_are_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth: not the weights of SyncNet v2"):
        SyncNet(tmp_path / "other.pth", device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("max_shift", [3, 15])
def test_distances_are_upstreams(max_shift):
    lips, sound = np.random.default_rng(0).normal(0, 1, (2, 40, 64)).astype(np.float32)
    theirs = torch.stack(calc_pdist(torch.from_numpy(lips), torch.from_numpy(sound), vshift=max_shift)).numpy()
    found = distances(lips, sound, max_shift)
    outside = np.isnan(found)
    assert outside.sum() == max_shift * (max_shift + 1)
    np.testing.assert_allclose(found[~outside], theirs[:, ::-1][~outside], atol=1e-4)  # they count the other way
    offset, conf, dist = lse(lips, sound, max_shift)
    mean = theirs.mean(axis=0)
    assert offset == max_shift - int(mean.argmin())
    assert (conf, dist) == pytest.approx((np.median(mean) - mean.min(), mean.min()), abs=1e-4)


# --- the sign, and what is measured


def talk(num_frames, lead=0.0, seed=0, noise=0.3):
    """Vectors of lips [T - 4, 32] and sound [T - 5, 32] that walk smoothly; the sound is `lead` frames ahead."""
    rng = np.random.default_rng(seed)
    knots = rng.normal(0, 1, (num_frames + 120, 32))
    times = np.arange(len(knots))

    def walk(at):
        smooth = np.stack([np.interp(at + 60, times, column) for column in knots.T], axis=1)
        return (smooth + noise * rng.normal(0, 1, smooth.shape)).astype(np.float32)

    return walk(np.arange(num_frames - 4)), walk(np.arange(num_frames - 5) + lead)


@pytest.mark.parametrize("lead", [-8, -3, -1, 0, 1, 3, 8, -15, 15, 3.4, -0.6])
@pytest.mark.parametrize("num_frames", [75, 250])
def test_positive_is_early_sound(lead, num_frames):
    lips, sound = talk(num_frames, lead)
    found = estimate(lips, sound, np.ones(num_frames, bool), SyncConfig(backend="syncnet"))
    assert found.audio_lead_frames == pytest.approx(lead, abs=0.25)
    assert found.trust == "high"
    assert found.confidence > 2
    assert found.speech_s == (num_frames - 5) / 25
    assert len(found.curve) == {75: 0, 250: 6}[num_frames]
    np.testing.assert_allclose(found.curve, lead, atol=0.25)
    if lead == round(lead):
        assert lse(lips, sound)[0] == lead
        assert (found.lse_c, found.lse_d) == lse(lips, sound)[1:]


def test_only_speech_is_judged():
    """Half of the clip is another voice, off screen, while nobody is heard to speak: it neither votes nor blurs."""
    lips, sound = talk(250, 2)
    foreign = talk(250, -7, seed=1)[0]
    lips[125:], voiced = foreign[125:], np.arange(250) < 125
    config = SyncConfig(backend="syncnet")
    half, all_ = (estimate(lips, sound, speech, config) for speech in (voiced, np.ones(250, bool)))
    assert half.audio_lead_frames == pytest.approx(2, abs=0.2)
    assert half.speech_s == pytest.approx(123 / 25)
    assert half.confidence > 1.5 * all_.confidence
    assert half.lse_c == all_.lse_c, "that of evaluations takes every frame"
    assert len(half.curve) == 5, "the last window has no speech"


def test_the_curve_sees_an_edit():
    lips, sound = talk(250, 0)
    sound[125:] = talk(250, 6)[1][125:]
    edited = estimate(lips, sound, np.ones(250, bool), SyncConfig(backend="syncnet"))
    assert edited.curve[-1] - edited.curve[0] == pytest.approx(6, abs=0.3)
    assert edited.spread_frames is not None
    assert edited.spread_frames > 1


@pytest.mark.parametrize(("num_frames", "num_voiced"), [(0, 0), (5, 5), (6, 6), (49, 49), (250, 0), (250, 14)])
def test_too_little_speech_is_not_measured_and_said_so(num_frames, num_voiced):
    lips, sound = talk(max(num_frames, 5))
    voiced = np.zeros(num_frames, bool)
    voiced[2 : 2 + num_voiced] = True
    found = estimate(lips, sound, voiced, SyncConfig(backend="syncnet"))
    assert (found.audio_lead_frames, found.confidence, found.speech_s, len(found.curve)) == (0, 0, 0, 0)
    row = measure_sync(found)
    assert "audio_lead_frames" not in row
    assert "sync_confidence" not in row
    assert (row["lse_c"] is None) == (num_frames < 6)


@pytest.mark.parametrize(("num_voiced", "reason"), [(75, None), (17, None), (16, "too_short_for_sync")])
def test_a_speaking_clip_that_cannot_be_measured_is_too_short_for_sync(num_voiced, reason):
    """Windows hold five frames and are taken at their middle one, so two frames of speech at the start say nothing."""
    lips, sound = talk(75)
    found = estimate(lips, sound, np.arange(75) < num_voiced, SyncConfig(backend="syncnet"))
    clip = {"clip_id": "c", "video_id": "v", "path": "v.mp4", "source": "folder", "track": 0, "start_frame": 0}
    clip |= {"num_frames": 75, "start_s": 0.0, "duration_s": 3.0, "speech_share": num_voiced / 75}
    scores = pa.Table.from_pylist([clip | measure_sync(found)], schema=SCORE_SCHEMA)
    [row] = select(scores, SelectConfig(min_sync_confidence=1.0, min_speech_share=0.2), "highsync").to_pylist()
    assert row["reason"] == reason
    assert [failure["reason"] for failure in row["failures"]] == ([reason] if reason else [])


@pytest.mark.media
def test_the_sign_on_real_sound(ours, media):
    """What our features call early is what the files' makers did to the sound.

    `dev_off-200ms` is `dev_base` with its sound 200 ms earlier. Lips are played by the sound of `dev_base`, whose place
    is that of the pictures: so file reading, MFCC, windows and signs are judged, the lips' half of the network is not.
    """
    shifts = {"-200ms": 5, "-80ms": 2, "+40ms": -1, "+120ms": -3, "+320ms": -8}

    def vectors(name):
        path = media / f"derived__dev_{name}.mp4"
        video = probe(path)
        return ours.embed_sound(audio.read(path, video, start_frame=0, end_frame=95))

    lips = vectors("base")
    for name, lead in shifts.items():
        found = estimate(lips, vectors(f"off{name}"), np.ones(95, bool), SyncConfig(backend="syncnet"))
        assert found.audio_lead_frames == pytest.approx(lead, abs=0.25), name


# --- crops


def test_crops_are_upstreams(tmp_path, monkeypatch):
    """Away from the ends of a track, where upstream's median takes missing boxes to be 0."""
    from syncnet_python import syncnet_pipeline
    from syncnet_python.syncnet_pipeline import PipelineConfig, SyncNetPipeline

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "f.png"), picture[..., ::-1])
    walk = np.cumsum(rng.normal(0, 2, (30, 4)), axis=0)
    boxes = np.array([20, 10, 70, 75]) + walk + np.linspace(0, 70, 30)[:, None]  # leaves the picture
    taken = []

    class Recorder:
        def __init__(self, *args):
            pass

        def write(self, crop):
            taken.append(crop[..., ::-1])

        def release(self):
            pass

    monkeypatch.setattr(syncnet_pipeline.cv2, "VideoWriter", Recorder)
    monkeypatch.setattr(syncnet_pipeline.subprocess, "run", lambda *args, **options: None)
    monkeypatch.setattr(syncnet_pipeline.os, "remove", lambda path: None)
    upstream = SyncNetPipeline.__new__(SyncNetPipeline)
    upstream.cfg = PipelineConfig()
    track = {"frame": np.arange(30), "bbox": boxes}
    upstream._crop(track, [str(tmp_path / "f.png")] * 30, "a.wav", tmp_path / "crops" / "0")
    for index in range(lip_crops.REACH, 30 - lip_crops.REACH):
        found = lip_crops.crop(picture, *lip_crops.place(boxes, index))
        np.testing.assert_array_equal(found, taken[index], err_msg=str(index))
    assert (taken[23][-1] == lip_crops.GREY).all(), "the end of the walk reaches out of the picture"


def test_a_face_does_not_shrink_at_the_ends_of_its_track():
    boxes = np.tile(np.array([10.0, 20.0, 50.0, 80.0]), (5, 1))
    assert [lip_crops.place(boxes, index) for index in range(5)] == [(30.0, 50.0, 30.0)] * 5


@pytest.mark.parametrize("place", [(-500.0, 30.0, 20.0), (30.0, 900.0, 20.0), (30.0, 30.0, 0.0)])
def test_a_box_with_nothing_in_it_is_grey(place):
    found = lip_crops.crop(np.zeros((64, 64, 3), np.uint8), *place)
    assert found.shape == (224, 224, 3)
    assert (found == lip_crops.GREY).all()


# --- tracks as they grow


class Watcher:
    """A network that sees how bright the mouth is and hears how loud the sound is; five frames a vector."""

    def __init__(self):
        self.runs = []

    def embed_lips(self, crops):
        self.runs.append(len(crops))
        return self._windows((crops[:, 110:190, 60:160].mean(axis=(1, 2, 3)) - DARK) / RANGE, 4)

    def embed_sound(self, pcm):
        return self._windows(1.25 * np.abs(pcm.reshape(-1, SAMPLES_PER_FRAME) / 4000).mean(axis=1), 5)

    @staticmethod
    def _windows(signal, lost):
        padded = np.pad(signal, (0, 5))
        found = np.lib.stride_tricks.sliding_window_view(padded, 5)[: max(0, len(signal) - lost)]
        return found.astype(np.float32)


DARK, RANGE = 40.0, 160.0


def test_a_stream_holds_one_batch_and_repeats_nothing():
    network, crops = Watcher(), moving(100, seed=3)
    stream = LipStream(network)
    for crop in crops:
        stream.add(crop)
        assert len(stream._crops) < 36
    np.testing.assert_array_equal(stream.finish(), Watcher().embed_lips(crops))
    assert network.runs == [36, 36, 36, 4]


def test_growing_tracks_give_what_whole_ones_would():
    """Two faces, a gap, a third face that soon goes; frames are dropped as `VideoObserver` drops them."""
    num_frames, stride, config = 130, 3, TracksConfig()
    spans = {0: [(0, 60), (64, 130)], 1: [(10, 77)], 2: [(90, 97)]}
    pictures = moving(num_frames, seed=4, side=96)

    def seen(frame):
        there = [face for face, ranges in spans.items() if any(a <= frame < b for a, b in ranges)]
        boxes = [[30 * face + 0.1 * frame, 10, 30 * face + 25 + 0.2 * frame, 40] for face in there]
        array = np.array(boxes, np.float32).reshape(-1, 4)
        return Detections(boxes=array, scores=np.ones(len(array), np.float32), landmarks=None)

    def detect(frames):
        return [seen(frame) for frame in frames]

    network = Watcher()
    reader, linker = LipReader(network, config), Linker(config, stride, detect, lambda track, new: None)
    linker.start(0)
    held = {}
    for index in range(num_frames + 1):
        last = index == num_frames
        if not last:
            held[index] = pictures[index]
        linker.advance(min(index + 1, num_frames), set(), last=last)
        reader.read(linker.tracks, held, linker.position, last=last)
        held = {at: rgb for at, rgb in held.items() if at >= linker.position - config.max_gap_frames - 7}
        assert len(held) <= config.max_gap_frames + 7 + stride
    lengths = {track.number: len(track.boxes) for track in linker.tracks}
    assert sorted(lengths.values()) == [7, 67, 130]
    assert sorted(reader.vectors) == [number for number, length in lengths.items() if length >= 12]
    for track in linker.tracks:
        if track.number in reader.vectors:
            crops = [
                lip_crops.crop(pictures[track.start_frame + at], *lip_crops.place(track.boxes, at))
                for at in range(len(track.boxes))
            ]
            np.testing.assert_array_equal(reader.vectors[track.number], Watcher().embed_lips(np.stack(crops)))
    assert sorted(network.runs) == sorted([36, 36, 36, 34, 36, 35]), "130 frames and 67; nothing for the short one"


# --- from file to shard

EARLY = 3.4
FACE = np.array([40, 40, 88, 88], np.float32)


class FaceAlways:
    has_landmarks = False

    def detect(self, pictures):
        one = Detections(boxes=FACE[None], scores=np.ones(1, np.float32), landmarks=None)
        return [one for _ in pictures]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A mouth that is as bright as the sound is loud; the sound is 3.4 frames early."""
    path, num_frames = tmp_path_factory.mktemp("film") / "v.mp4", 160
    rng = np.random.default_rng(5)
    strength = np.interp(np.arange(num_frames * 640) / 16_000, np.arange(0, 7, 0.12), rng.random(59) ** 2)
    pcm = np.roll(strength * rng.normal(0, 4000, len(strength)), -round(EARLY * 640)).astype(np.int16)

    def picture(index):
        rgb = np.full((160, 160, 3), 90, np.uint8)
        rgb[66:104, 42:86] = DARK + RANGE * strength[index * 640 : (index + 1) * 640].mean()
        return rgb

    shown = ((Fraction(index, 25), picture(index)) for index in range(num_frames))
    add_sound(encode_video(shown, Fraction(25)), pcm, path, sample_rate_hz=16_000, num_channels=1)
    return path, probe(path)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(networks, "make_syncnet", lambda sync, models: Watcher())
    monkeypatch.setattr(networks, "make_detector", lambda faces, models: FaceAlways())
    for module in (scorer, encoder):
        monkeypatch.setattr(module.speech, "detect_speech", lambda pcm, config: np.ones(len(pcm) // 640, bool))
    return Config(sync=SyncConfig(backend="syncnet", correct=True, min_confidence=0.1, max_residual_ms=20.0))


def test_early_sound_is_found_and_mended_on_the_samples_of_the_shard(film, config, tmp_path):
    path, video = film
    stretch = scorer.ScoreItem(
        video_id="v", path=path.name, source="folder", video=video, start_frame=0, end_frame=video.num_frames
    )
    [row] = scorer.Scorer(config).score(stretch, path.parent, Costs()).rows
    assert row["audio_lead_frames"] == pytest.approx(EARLY, abs=0.2)
    assert row["audio_lead_ms"] == pytest.approx(40 * EARLY, abs=8)
    assert (row["sync_trust"], row["sync_speech_s"]) == ("high", 6.2)
    assert row["sync_spread_frames"] < 0.2
    assert row["lse_c"] > 0.1

    def item(lead, start=0):
        return EncodeItem(
            clip_id=f"clip-{lead}-{start}",
            path=path.name,
            video=video,
            start_frame=start,
            num_frames=80,
            boxes=row["boxes"].reshape(-1, 4)[start : start + 80],
            landmarks=None,
            mouth_opening=row["mouth_opening"][start : start + 80],
            audio_lead_frames=lead,
        )

    items = [item(row["audio_lead_frames"]), item(EARLY + 1, start=5), item(None, start=10), item(-EARLY, start=15)]
    receipts = encode_unit(encoder.Encoder(config), items, path.parent, tmp_path / "s.parquet")
    mended, overdone, untouched, wrong_way = (receipts[item.item_id] for item in items)
    assert mended["audio_shift_samples"] == round(row["audio_lead_frames"] * 640)
    assert abs(mended["residual_lead_ms"]) <= 8
    assert mended["outcome"] == "ok"
    assert overdone["residual_lead_ms"] == pytest.approx(-40, abs=8)
    assert (overdone["outcome"], overdone["threshold"]) == ("sync_fix_failed", 20.0)
    assert overdone["value"] == overdone["residual_lead_ms"]
    assert untouched["outcome"] == "ok"
    assert "residual_lead_ms" not in untouched, "its sound is where it was measured"
    assert wrong_way["residual_lead_ms"] == pytest.approx(80 * EARLY, abs=8)
    assert wrong_way["outcome"] == "sync_fix_failed"
    assert Shard(tmp_path / "s.parquet").num_row_groups == 4


def test_what_cannot_be_measured_again_is_not_trusted(film, config, tmp_path, monkeypatch):
    path, video = film
    monkeypatch.setattr(encoder.speech, "detect_speech", lambda pcm, config: np.zeros(len(pcm) // 640, bool))
    item = EncodeItem(
        clip_id="c",
        path=path.name,
        video=video,
        start_frame=0,
        num_frames=60,
        boxes=np.tile(FACE, (60, 1)),
        landmarks=None,
        mouth_opening=np.zeros(60, np.float32),
        audio_lead_frames=EARLY,
    )
    [receipt] = encode_unit(encoder.Encoder(config), [item], path.parent, tmp_path / "s.parquet").values()
    assert (receipt["outcome"], receipt["value"]) == ("sync_fix_failed", None)


def test_only_syncnet_needs_weights():
    assert SyncConfig().model_names == []
    assert SyncConfig(backend="syncnet").model_names == ["syncnet"]
