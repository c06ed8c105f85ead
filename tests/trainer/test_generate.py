"""From a trained network to a video that speaks: windows, guidance, the sound laid under, the mouth put back."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hs_data.cli import app
from hs_data.manifests.errors import ConfigError, MediaError
from hs_data.pipeline.crop import warp
from hs_data.pipeline.media.mux import lay_under
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.media.pyav_backend import source_frames
from hs_data.pipeline.paste import paste, seam
from hs_data.trainer.recipes.diffusion import VSchedule
from hs_data.trainer.recipes.highsync.mask import lower_face
from hs_data.trainer.recipes.highsync.network import TINY, HighSync
from hs_data.trainer.recipes.highsync.sampler import Sampler, window_starts
from hs_data.trainer.recipes.recipe import SamplingConfig

# --- windows


@pytest.mark.parametrize(
    ("num_frames", "window", "overlap", "starts"),
    [(12, 12, 4, [0]), (20, 12, 4, [0, 8]), (21, 12, 4, [0, 8, 9]), (5, 5, 0, [0]), (7, 1, 0, [0, 1, 2, 3, 4, 5, 6])],
)
def test_windows_cover_every_frame(num_frames: int, window: int, overlap: int, starts: list[int]):
    found = window_starts(num_frames, window, overlap)
    assert found == starts
    assert {start + place for start in found for place in range(window)} == set(range(num_frames))


class Knowing(HighSync):
    """Answers with the v that leads to a picture of the frame's own number, so mixed-up frames are seen."""

    def __init__(self) -> None:
        super().__init__(TINY, audio_width=8, motion=False)
        self.sizes: list[tuple[int, ...]] = []

    def denoise(self, noisy, timestep, features, audio, mask, drop_reference=None):
        self.sizes.append(tuple(noisy.shape[:2]))
        schedule = VSchedule()
        signal, scale = schedule.signal[timestep[0]], schedule.noise[timestep[0]]
        clean = audio[..., 0].mean(dim=2)[:, :, None, None, None].expand_as(noisy)
        noise = (noisy - signal * clean) / scale
        return signal * noise - scale * clean


def test_every_frame_gets_its_own_sound_and_its_surroundings_back():
    network = Knowing()
    latents = np.random.default_rng(0).normal(size=(21, 4, 16, 16)).astype(np.float16)
    sound = np.broadcast_to(np.arange(21, dtype=np.float16)[:, None, None], (21, 4, 8))
    sampler = Sampler(network, VSchedule(), SamplingConfig(steps=4, window=12, overlap=4, batch=2))
    made = sampler.sample({"latent": latents, "logmel": sound}, 21)
    mask = lower_face(16)[0].numpy()
    np.testing.assert_array_equal(made * (1 - mask), latents.astype(np.float32) * (1 - mask))
    wanted = [np.clip(np.arange(at - 2, at + 3), 0, 20).mean() for at in range(21)]  # two frames on either side
    values = [frame[mask[0] > 0] for frame in made.transpose(0, 2, 3, 1)]
    np.testing.assert_allclose([value.mean() for value in values], wanted, rtol=1e-3, atol=1e-3)
    assert network.sizes == [(2, 12), (1, 12)] * 4


def test_the_same_seed_gives_the_same_mouth_and_guidance_another():
    torch.manual_seed(0)
    network = HighSync(TINY, audio_width=8, motion=True).eval()
    rng = np.random.default_rng(0)
    latents, sound = rng.normal(size=(5, 4, 16, 16)).astype(np.float16), rng.normal(size=(5, 4, 8)).astype(np.float16)

    def made(**options) -> np.ndarray:
        return Sampler(network, VSchedule(), SamplingConfig(steps=2, window=4, overlap=1, **options)).sample(
            {"latent": latents, "logmel": sound}, 5
        )

    np.testing.assert_array_equal(made(), made())
    assert np.abs(made() - made(seed=1)).max() > 0.1
    assert np.abs(made() - made(guidance=3.5)).max() > 1e-4


# --- the mouth goes back


@pytest.mark.parametrize("crop", [(40.3, 20.7, 180.9, 190.2), (-30.0, -20.0, 620.0, 700.0), (100, 100, 612, 612)])
def test_a_crop_that_goes_back_changes_nothing_to_be_seen(crop):
    place = np.array(crop, np.float32)
    x, y = np.meshgrid(np.linspace(0, 6, 640), np.linspace(0, 6, 640))
    picture = np.stack([127 + 80 * np.sin(x + number) * np.cos(y) for number in range(3)], axis=-1).astype(np.uint8)
    result = paste(picture, warp(picture, place, 512), place, seam())
    assert np.abs(result.astype(int) - picture).max() <= 2
    other = paste(picture, np.zeros((512, 512, 3), np.uint8), place, seam())
    changed = np.argwhere((other != picture).any(axis=2))
    inside = place.reshape(2, 2).mean(axis=0)
    assert len(changed) > 100
    assert changed[:, 0].min() > inside[1] - 0.15 * (place[3] - place[1])  # the upper face stays as it is
    middle = (int(np.clip(inside[1] + 0.2 * (place[3] - place[1]), 0, 639)), int(np.clip(inside[0], 0, 639)))
    assert other[middle].tolist() == [0, 0, 0]


def test_a_crop_beside_the_picture_changes_nothing():
    picture = np.full((40, 40, 3), 9, np.uint8)
    result = paste(picture, np.zeros((512, 512, 3), np.uint8), np.array([50, 50, 90, 90], np.float32), seam())
    np.testing.assert_array_equal(result, picture)


# --- the sound goes under


def _frames(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    return list(source_frames(path, probe(path)))


@pytest.mark.media
@pytest.mark.parametrize(
    "name", ["derived__dev_rotmeta90.mp4", "derived__dev_fps29.97.mp4", "derived__dev_vp9_opus.webm"]
)
def test_pictures_stay_and_the_sound_is_another(media, tmp_path, name):
    sound = media / "derived__dev_off+120ms.mp4"
    lay_under(media / name, sound, tmp_path / "both.mkv")
    before, after = probe(media / name), probe(tmp_path / "both.mkv")
    assert (after.width, after.height, after.rotation_deg) == (before.width, before.height, before.rotation_deg)
    ours, theirs = _frames(tmp_path / "both.mkv"), _frames(media / name)
    assert 0 <= len(theirs) - len(ours) <= 2
    for (time_s, picture), (wanted_s, wanted) in zip(ours[::20], theirs[::20], strict=False):
        assert abs(time_s - wanted_s) <= Fraction(1, 500)  # Matroska counts milliseconds
        np.testing.assert_array_equal(picture, wanted)
    assert after.sample_rate_hz == 16_000
    assert abs(after.audio_start_s) < Fraction(1, 100)


def test_files_without_what_is_needed_are_refused(demo_videos, tmp_path):
    with pytest.raises(MediaError, match="no audio stream"):
        lay_under(demo_videos / "talker_a.mp4", demo_videos / "no_sound.mp4", tmp_path / "a.mkv")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        lay_under(tmp_path / "text.mp4", demo_videos / "talker_a.mp4", tmp_path / "b.mkv")


# --- all of it


def _run(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hs_data.cli", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_video_speaks_and_stays_what_it_was(demo_dataset, demo_videos, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out.mp4"
    words = ["--size", "tiny", "--set", "run.batch_size=2", "--set", "run.validate_every=0", "--set", "run.device=cpu"]
    _run("train", demo_dataset, "--recipe", "highsync-stage1", "--steps", 1, "-o", run, *words)
    video, sound = demo_videos / "ntsc_2997.mp4", demo_videos / "too_short.mp4"
    _run("generate", run, "--video", video, "--audio", sound, "-o", out, "--steps", 1, "--device", "cpu")
    before, after = probe(video), probe(out)
    assert (after.width, after.height, after.fps) == (before.width, before.height, pytest.approx(before.fps, rel=1e-3))
    heard_s = float(probe(sound).audio_duration_s)
    assert float(after.duration_s) == pytest.approx(heard_s, abs=0.15)  # up to the picture that is shown when it ends
    assert float(after.audio_duration_s) == pytest.approx(heard_s, abs=0.15)
    ours, theirs = _frames(out), _frames(video)
    assert len(ours) == pytest.approx(heard_s * before.fps, abs=4)
    changes = np.abs(ours[5][1].astype(int) - theirs[5][1])
    assert changes[: before.height // 4].mean() < 4  # only what H.264 loses
    assert changes[before.height // 3 : before.height * 2 // 3].mean() > 10  # a mouth of noise, after one step
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_windows_that_do_not_move_are_refused(tmp_path):
    words = ["generate", str(tmp_path), "--video", "v.mp4", "--audio", "a.wav", "-o", "o.mp4", "--window", "4"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError)
    assert "overlap less than the window" in str(done.exception)
