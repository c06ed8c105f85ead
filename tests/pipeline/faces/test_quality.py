"""Quality: what a face's sharpness, light and pose come out as, on pictures whose answer is known."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from hs_data.pipeline.faces.quality import HEAD_MM, cut, head_pose, look, thumbnail

WHOLE = np.array([0, 0, 192, 192], np.float32)


def _texture(side: int) -> np.ndarray:
    """Smooth random grey patches of 16 px at a side of 192; the same picture at any size."""
    patches = np.random.default_rng(3).uniform(60, 190, (12, 12)).astype(np.float32)
    grey = cv2.resize(patches, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.repeat(grey[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def test_a_plain_picture_has_light_and_nothing_else():
    found = look(np.full((200, 200, 3), 137, np.uint8), WHOLE)
    assert found is not None
    assert (found.sharpness, found.brightness, found.contrast) == (0.0, 137.0, 0.0)


def test_brightness_and_contrast_are_mean_and_spread_of_grey():
    picture = np.full((192, 192, 3), 50, np.uint8)
    picture[:, 96:] = 150
    found = look(picture, WHOLE)
    assert found is not None
    assert (found.brightness, found.contrast) == pytest.approx((100.0, 50.0))


def test_colours_are_weighed_as_the_eye_does():
    levels = []
    for channel in range(3):
        picture = np.zeros((192, 192, 3), np.uint8)
        picture[..., channel] = 200
        found = look(picture, WHOLE)
        assert found is not None
        levels.append(found.brightness)
    assert levels == pytest.approx([0.299 * 200, 0.587 * 200, 0.114 * 200], abs=1)


def test_a_single_bright_point_has_the_sharpness_of_its_laplacian():
    picture = np.zeros((192, 192, 3), np.uint8)
    picture[96, 96] = 100
    found = look(picture, WHOLE)
    assert found is not None
    # One value of -400 and four of 100; their mean is 0.
    assert found.sharpness == pytest.approx((400**2 + 4 * 100**2) / 192**2, rel=1e-5)


def test_blur_lowers_sharpness_step_by_step():
    picture = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    values = []
    for sigma in (0.5, 1.0, 2.0, 4.0):
        found = look(cv2.GaussianBlur(picture, (0, 0), sigma), WHOLE)
        assert found is not None
        values.append(found.sharpness)
    assert all(blurred < sharper / 2 for sharper, blurred in itertools.pairwise(values))
    assert values[-1] < 15, "beyond the default limit of selection"


@pytest.mark.parametrize("side", [192, 384, 768])
def test_sharpness_does_not_depend_on_the_size_of_the_face(side: int):
    small, large = look(_texture(192), WHOLE), look(_texture(side), np.array([0, 0, side, side], np.float32))
    assert small is not None
    assert large is not None
    assert large.sharpness == pytest.approx(small.sharpness, rel=0.15)


def test_only_the_inside_of_the_box_is_looked_at():
    picture = np.full((300, 400, 3), 255, np.uint8)
    picture[100:200, 150:250] = 40
    found = look(picture, np.array([150, 100, 250, 200], np.float32))
    assert found is not None
    assert (found.brightness, found.contrast) == (40.0, 0.0)


@pytest.mark.parametrize(
    ("box", "margin", "shape"),
    [
        ([10, 20, 50, 80], 0.0, (60, 40)),
        ([10.4, 20.6, 49.2, 79.1], 0.0, (60, 40)),
        ([-30, -30, 50, 80], 0.0, (80, 50)),
        ([60, 60, 500, 500], 0.0, (40, 140)),
        ([40, 40, 60, 60], 0.25, (30, 30)),
        ([0, 0, 20, 20], 0.25, (25, 25)),
    ],
    ids=["inside", "fractions_grow", "top_left", "bottom_right", "margin", "margin_at_edge"],
)
def test_a_box_is_cut_to_the_picture(box: list[float], margin: float, shape: tuple[int, int]):
    found = cut(np.zeros((100, 200, 3), np.uint8), np.array(box, np.float32), margin=margin)
    assert found is not None
    assert found.shape == (*shape, 3)


@pytest.mark.parametrize(
    "box",
    [[-50, 10, -20, 40], [220, 10, 250, 40], [10, -90, 40, -30], [10, 120, 40, 150], [30, 30, 30, 30]],
    ids=["left", "right", "above", "below", "empty"],
)
def test_a_box_outside_the_picture_has_no_face(box: list[float]):
    picture, outside = np.zeros((100, 200, 3), np.uint8), np.array(box, np.float32)
    assert look(picture, outside) is None
    assert thumbnail(picture, outside, 112) is None


def test_a_single_pixel_is_no_face():
    assert look(np.zeros((100, 200, 3), np.uint8), np.array([199, 99, 300, 300], np.float32)) is None


# --- thumbnails


@pytest.mark.parametrize(
    ("box", "size"),
    [([100, 100, 200, 200], (112, 112)), ([100, 100, 200, 300], (56, 112)), ([0, 0, 400, 400], (112, 112))],
    ids=["square", "tall", "large"],
)
def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(box: list[float], size: tuple[int, int]):
    content = thumbnail(_texture(400), np.array(box, np.float32), 112)
    assert content is not None
    picture = Image.open(io.BytesIO(content))
    assert (picture.format, picture.size) == ("JPEG", size)
    assert len(content) < 8000


def test_a_thumbnail_has_the_right_colours():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:] = (200, 100, 20)
    content = thumbnail(picture, np.array([20, 20, 80, 80], np.float32), 64)
    assert content is not None
    colour = np.asarray(Image.open(io.BytesIO(content))).reshape(-1, 3).mean(axis=0)
    assert colour == pytest.approx([200, 100, 20], abs=4)


# --- pose


def _project(yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0, shift_mm: float = 0.0) -> np.ndarray:
    """Landmarks of the generic head, turned, 600 mm before a camera of 1280x720 and a focal length of 1280."""
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    around_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    around_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    points = HEAD_MM @ (around_y @ around_x @ around_z).T + (shift_mm, 0, 600)
    return (points[:, :2] / points[:, 2:] * 1280 + (640, 360)).astype(np.float32)


@pytest.mark.parametrize("shift_mm", [0.0, 150.0], ids=["centre", "aside"])
@pytest.mark.parametrize("roll", [0.0, 20.0])
@pytest.mark.parametrize(
    ("yaw", "pitch"), [(0, 0), (30, 0), (-30, 0), (0, 20), (0, -20), (60, 0), (25, -15), (-40, 30)]
)
def test_the_pose_of_a_generic_head_is_recovered(yaw: float, pitch: float, roll: float, shift_mm: float):
    found = head_pose(_project(yaw, pitch, roll, shift_mm), 1280, 720)
    assert found == pytest.approx((yaw, pitch), abs=0.5)


def test_pose_does_not_depend_on_the_size_of_the_face():
    near = _project(30, 10)
    far = (near - (640, 360)) / 3 + (640, 360)  # three times as far
    found = head_pose(far.astype(np.float32), 1280, 720)
    assert found == pytest.approx((30, 10), abs=4)


def test_a_jitter_of_one_pixel_moves_the_pose_by_a_few_degrees_only():
    points, random = _project(20, 0), np.random.default_rng(0)
    found = [head_pose(points + random.normal(size=(5, 2)).astype(np.float32), 1280, 720) for _ in range(50)]
    errors = np.array([pose for pose in found if pose]) - (20, 0)
    assert len(errors) == 50
    assert np.abs(errors).max() < 8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 100.0], ids=["nan", "infinite", "all_in_one_place"])
def test_points_that_are_no_head_give_no_pose(value: float):
    assert head_pose(np.full((5, 2), value, np.float32), 1280, 720) is None
