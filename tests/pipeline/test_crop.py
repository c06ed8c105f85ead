"""Crop policies fix what the jaw moves, and the warp neither shifts, nor aliases, nor invents pixels."""

import cv2
import numpy as np
import pytest

from hs_data.manifests.errors import ConfigError
from hs_data.pipeline.crop import CropConfig, crop_boxes, height_ratio, jitter, outside_share, warp

FIXED = ("centre", "highsync", "eyes", "static")


@pytest.fixture
def talker():
    """A still head whose box grows downwards with the jaw: boxes [T, 4], landmarks [T, 5, 2], opening [T]."""
    opening = 0.5 + 0.5 * np.sin(np.arange(100) * 0.9)
    boxes = np.tile(np.array([100, 50, 180, 150], np.float32), (100, 1))
    boxes[:, 3] += (20 * opening).astype(np.float32)
    points = np.array([[120, 90], [160, 90], [140, 110], [125, 130], [155, 130]], np.float32)
    return boxes, np.tile(points, (100, 1, 1)), opening


def test_highsync_is_the_published_rectangle(talker):
    boxes, points, _ = talker
    crops = crop_boxes(boxes, points, CropConfig())
    tallest = float((boxes[:, 3] - boxes[:, 1]).max())
    np.testing.assert_allclose(crops, np.tile([92, 50, 188, 50 + 1.1 * tallest], (100, 1)), atol=1e-3)


@pytest.mark.parametrize("policy", FIXED)
def test_the_size_is_fixed_over_the_clip(talker, policy):
    crops = crop_boxes(*talker[:2], CropConfig(policy=policy))
    assert crops.shape == (100, 4)
    assert crops.dtype == np.float32
    assert np.ptp(crops[:, 2:] - crops[:, :2], axis=0).max() < 1e-3


@pytest.mark.parametrize(("policy", "motion"), [("centre", 10.0), ("highsync", 0.0), ("eyes", 0.0), ("static", 0.0)])
def test_only_centre_moves_with_the_jaw(talker, policy, motion):
    crops = crop_boxes(*talker[:2], CropConfig(policy=policy, smooth_frames=0))
    assert np.ptp(crops[:, 1]) == pytest.approx(motion, abs=0.2)


def test_smoothing_calms_a_trembling_detector():
    rng = np.random.default_rng(0)
    boxes = np.array([100, 50, 180, 150], np.float32) + rng.normal(0, 1, (200, 4)).astype(np.float32)
    rough, calm = (jitter(crop_boxes(boxes, None, CropConfig(smooth_frames=s))) for s in (0.0, 2.0))
    assert calm < rough / 5


def test_smoothing_keeps_up_with_a_moving_head():
    boxes = np.array([0, 50, 80, 150], np.float32) + np.arange(100, dtype=np.float32)[:, None] * [2, 0, 2, 0]
    crops = crop_boxes(boxes.astype(np.float32), None, CropConfig())
    np.testing.assert_allclose(
        crops[10:-10].mean(axis=0)[[0, 2]], boxes[10:-10].mean(axis=0)[[0, 2]] + [-8, 8], atol=0.01
    )


def test_eyes_without_landmarks_names_the_setting(talker):
    with pytest.raises(ConfigError, match=r"crop\.policy: `eyes` needs landmarks"):
        crop_boxes(talker[0], None, CropConfig(policy="eyes"))


@pytest.mark.parametrize("bad", [{"smooth_frames": -1.0}, {"smooth_frames": 25.1}, {"smooth_frames": 99.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: .* is out of range"):
        CropConfig(**bad)


def test_whole_picture_comes_out_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(warp(picture, np.array([0, 0, 64, 64], np.float32), 64), picture)


@pytest.mark.parametrize("side", [20.0, 64.0, 100.0, 150.0, 200.0, 400.0])
def test_a_slope_keeps_its_place_at_every_scale(side):
    slope = np.tile(np.linspace(0, 255, 512)[None, :, None], (512, 1, 3)).round().astype(np.uint8)
    left = 30.25
    out = warp(slope, np.array([left, 40, left + side, 40 + side], np.float32), 64)
    places = left + (np.arange(64) + 0.5) * side / 64  # pixel i covers i to i + 1
    np.testing.assert_allclose(out[32, 2:-2, 0], ((places - 0.5) * 255 / 511)[2:-2], atol=1.0)


@pytest.mark.parametrize("factor", [1.5, 3.3, 5.7])
def test_shrinking_does_not_alias(factor):
    stripes = np.tile(np.array([0, 255], np.uint8)[:, None, None], (512, 1024, 3))
    side = 128 * factor
    out = warp(stripes, np.array([10.3, 10.3, 10.3 + side, 10.3 + side], np.float32), 128)
    # The mean over a pixel of the output, which is the aim, leaves |sinc(factor / 2)| of the contrast; picking single
    # pixels would leave all of it, 127.
    assert out.std() < 127.5 * abs(np.sinc(factor / 2)) + 8


def test_shrinking_keeps_detail():
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (400, 400, 3), np.uint8), (0, 0), 2.0)
    out = warp(picture, np.array([20, 20, 20 + 281.6, 20 + 281.6], np.float32), 256)
    assert out.std() == pytest.approx(picture[20:302, 20:302].std(), rel=0.03)


def test_outside_repeats_the_border():
    picture = np.full((50, 50, 3), 10, np.uint8)
    picture[:, -1] = 200
    out = warp(picture, np.array([25, 0, 75, 50], np.float32), 50)
    assert (out[:, 26:] == 200).all()
    assert (out[:, :23] == 10).all()


def test_outside_share_is_that_of_the_worst_frame():
    crops = np.array([[0, 0, 10, 10], [-5, 0, 5, 10], [95, 95, 105, 105]], np.float32)
    assert outside_share(crops, 100, 100) == pytest.approx(0.75)
    assert outside_share(crops[:1], 100, 100) == 0
    assert outside_share(np.array([[200, 0, 210, 10]], np.float32), 100, 100) == 1


def test_jitter_ignores_steady_motion_and_scales_with_the_face():
    steady = np.array([0, 0, 100, 100], np.float32) + np.arange(50, dtype=np.float32)[:, None]
    assert jitter(steady) == pytest.approx(0, abs=1e-6)
    shaking = steady + np.where(np.arange(50) % 2, 1, -1)[:, None]
    assert jitter(shaking) == pytest.approx(4 * 5.12, rel=1e-3)
    assert jitter(2 * shaking) == pytest.approx(jitter(shaking), rel=1e-3)
    assert jitter(steady[:2]) == 0


def test_height_ratio(talker):
    assert height_ratio(talker[0]) == pytest.approx(1.2, abs=0.01)
