"""The mouth signal follows the mouth, on drawn faces and on real ones, and nothing else."""

import time

import cv2
import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from hs_data.pipeline.faces import mouth

POINTS = np.array([[120, 90], [160, 90], [140, 113], [128, 131], [152, 131]], np.float32)
BOX = np.array([90, 45, 190, 165], np.float32)
REAL = {
    "OpenTalker__video-retalking__examples_face_3.mp4": 0.7,
    "R-V-Abhishek__Syncnet_FCN__data_example.avi": 0.7,
    "rizkiarm__LipNet__evaluation_samples_GRID_pwij3p.mpg": 0.7,
}


def face(opening, inside=(40, 10, 10), grey=False):
    """A face [200, 280, 3] with the mouth open by `opening` px."""
    picture = np.full((200, 280, 3), (225, 170, 140), np.uint8)
    cv2.ellipse(picture, (140, 131), (14, 4 + round(opening)), 0, 0, 360, (190, 80, 80), -1)
    if opening >= 1:
        cv2.ellipse(picture, (140, 131), (10, round(opening)), 0, 0, 360, inside, -1)
    if grey:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return cv2.GaussianBlur(picture, (0, 0), 1)


def signal(pictures, points: np.ndarray | None = POINTS, box=BOX):
    return mouth.opening(np.stack([mouth.measure(picture, box, points) for picture in pictures]))


@pytest.mark.parametrize("inside", [(40, 10, 10), (240, 235, 230)], ids=["dark", "teeth"])
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "black_and_white"])
def test_the_signal_grows_with_the_opening(inside, grey):
    opening = signal([face(height, inside, grey) for height in (0, 2, 4, 6)])
    assert opening.shape == (4,)
    assert opening.dtype == np.float32
    assert (np.diff(opening) > 0).all(), opening


def test_a_box_alone_will_do():
    # A Haar box: square, the eyes 0.39 of its height below its top.
    haar = np.array([86, 48, 194, 156], np.float32)
    opening = signal([face(height) for height in (0, 2, 4, 6)], points=None, box=haar)
    assert (np.diff(opening) > 0).all(), opening


def test_the_patch_is_small_and_follows_the_head():
    patch = mouth.measure(face(4), BOX, POINTS)
    assert patch.shape == (mouth.ROWS, mouth.COLUMNS, 3)
    assert patch.dtype == np.uint8
    turn = cv2.getRotationMatrix2D((140, 100), 20, 1.5)
    turned = cv2.warpAffine(face(4), turn, (280, 200), borderMode=cv2.BORDER_REPLICATE)
    points = (POINTS @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
    assert np.abs(mouth.measure(turned, BOX, points).astype(int) - patch).mean() < 3


def test_mouth_corners_do_not_move_the_patch():
    lower = POINTS.copy()
    lower[3:] += 10
    np.testing.assert_array_equal(mouth.measure(face(4), BOX, POINTS), mouth.measure(face(4), BOX, lower))


def test_light_does_not_look_like_speech():
    dim = [(face(4) * share).astype(np.uint8) for share in (0.6, 0.8, 1.0)]
    opening = signal(dim)
    assert np.ptp(opening) < 0.2 * opening.mean()


@pytest.mark.parametrize("points", [np.zeros((5, 2)), POINTS + 10_000, POINTS[::-1]], ids=["heap", "outside", "mixed"])
def test_wild_landmarks_give_a_patch_all_the_same(points):
    assert np.isfinite(signal([face(4)], points=points.astype(np.float32))).all()


def test_it_is_cheap_at_any_size():
    picture = np.zeros((2160, 3840, 3), np.uint8)
    points = POINTS * 10
    began = time.perf_counter()
    for _ in range(50):
        mouth.measure(picture, BOX * 10, points)
    assert (time.perf_counter() - began) / 50 < 0.002  # 0.04 ms measured; the rest is room for a busy machine


@pytest.mark.media
@pytest.mark.parametrize(("name", "least"), REAL.items())
def test_real_mouths(media, weights, name, least):
    from hs_data.pipeline.faces.detect import FacesConfig, detect_scaled
    from hs_data.pipeline.media.decode import DecodeConfig, frames
    from hs_data.pipeline.media.probe import probe
    from hs_data.pipeline.models.yunet import YuNetDetector

    network = YuNetDetector(weights / "face_detection_yunet_2023mar.onnx", min_score=0.6)
    patches, points = [], None
    for frame in frames(media / name, probe(media / name), config=DecodeConfig()):
        if frame.index % 5 == 0:
            points = detect_scaled(network, [frame.rgb], FacesConfig(backend="yunet", max_side_px=320))[0].landmarks[0]
        patches.append(mouth.measure(frame.rgb, BOX, points))
    seen = mouth.opening(np.stack(patches))
    truth = np.load(media / "mouth_opening.npz")[name]
    rows = truth[:, 0].astype(int)
    real = truth[rows < len(seen), 1]
    high = [part - uniform_filter1d(part, 25) for part in (seen[rows[rows < len(seen)]].astype(float), real)]
    assert np.corrcoef(*high)[0, 1] > least
