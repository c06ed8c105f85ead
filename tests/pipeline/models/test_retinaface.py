"""RetinaFace: the same boxes and landmarks as retinaface-pytorch's own prediction, a batch at a time.

The weights are seeded: their faces mean nothing, but every number on the way to a box does.
"""

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from iglovikov_helper_functions.utils.image_utils import REFERENCE_FACIAL_POINTS, pad_to_size
from scipy.optimize import linear_sum_assignment
from torch import nn

from hs_data.manifests.errors import ModelError
from hs_data.pipeline.faces import detect
from hs_data.pipeline.faces.detect import Detections, FacesConfig, detect_scaled
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.decode import DecodeConfig
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.models.retinaface import NMS_IOU, RetinaFaceDetector, prior_boxes

SIDE = 256
MIN_SCORE = 0.7
CLIPS = {  # square, upright, wide, and 256 px as they are
    "derived__dev_crossfade.mp4": 12,
    "bytedance__LatentSync__assets_demo1_video_first6s.mp4": 12,
    "facebookresearch__VisualVoice__av-enhancement_test_videos_noisy_restaurant.mp4": 14,
    "FuxiVirtualHuman__styletalk_KristiNoem_muxed.mp4": 12,
}


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def upstream():
    """The package's own model with seeded weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models|albumentations")
        from retinaface.predict_single import Model

        torch.manual_seed(0)
        model = Model(max_size=SIDE)
    for name, values in model.model.ClassHead.named_parameters():  # scores that differ, few of them high
        values.data.copy_(values * 6 if name.endswith("weight") else torch.tensor([1.5, -1.5] * 2))
    return model


def _settle(upstream, pictures: list[np.ndarray], path: Path) -> Path:
    """Set the batch norms by some pictures, so that activations stay near 1, and write the weights to a file."""
    padded = [pad_to_size((SIDE, SIDE), upstream.transform.transforms[1](image=p)["image"])["image"] for p in pictures]
    for module in upstream.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of this one batch
    with torch.no_grad():
        upstream.model.train()(torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2))
    upstream.eval()
    torch.save(upstream.model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def noise() -> list[np.ndarray]:
    """Pictures [112, 160, 3]: blotches and edges."""
    small = np.random.default_rng(2).integers(0, 256, (5, 7, 10, 3), np.uint8)
    return [cv2.resize(picture, (160, 112), interpolation=cv2.INTER_CUBIC) for picture in small]


@pytest.fixture(scope="module")
def weights_file(upstream, noise, tmp_path_factory) -> Path:
    return _settle(upstream, noise, tmp_path_factory.mktemp("weights") / "retinaface.pth")


def _detector(path: Path, min_score: float = MIN_SCORE) -> RetinaFaceDetector:
    return RetinaFaceDetector(path, min_score=min_score, device=torch.device("cpu"), dtype=torch.float32)


def _upstream_floats(outputs, pads: tuple[int, int], model) -> tuple[np.ndarray, np.ndarray]:
    """The end of `predict_jsons`, by its own functions, without its two truncations to whole pixels.

    There, boxes lose their fraction before the padding is taken off, boxes and landmarks once more afterwards.
    """
    from retinaface.box_utils import decode as decode_boxes
    from retinaface.box_utils import decode_landm
    from torchvision.ops import nms

    boxes, classes, points = (output[0] for output in outputs)
    scores = classes.softmax(dim=-1)[:, 1]
    boxes = decode_boxes(boxes, model.prior_box, model.variance) * model.max_size
    points = decode_landm(points, model.prior_box, model.variance) * model.max_size
    valid = torch.where(scores > MIN_SCORE)[0]
    valid = valid[scores[valid].argsort(descending=True)]
    keep = valid[nms(boxes[valid], scores[valid], NMS_IOU)]
    offset = np.array(pads, np.float32)
    return boxes[keep].numpy() - np.tile(offset, 2), points[keep].reshape(-1, 5, 2).numpy() - offset


def _frames(media: Path) -> Iterator[np.ndarray]:
    """50 frames of 4 clips, scaled as the pipeline does, the longest side 256 px."""
    for name, count in CLIPS.items():
        path = media / name
        video = probe(path)
        frames = decode.frames(path, video, start_frame=0, end_frame=count * 6, config=DecodeConfig())
        for frame in itertools.islice(frames, 0, None, 6):
            height, width = frame.rgb.shape[:2]
            scale = SIDE / max(height, width)
            yield cv2.resize(frame.rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


# --- the same as upstream


@pytest.mark.media
def test_real_frames_give_the_boxes_of_upstream(media, upstream, tmp_path):
    """On pictures that upstream need not resize: 0.5 px to its floats; 1.5 px to what it prints, cut to whole pixels.

    (Truncation takes up to 1 px off a box, twice where it began below 0.) Rounding in another order may carry one in
    200 over the limit of score or overlap, where all the others hold.
    """
    frames = list(_frames(media))
    assert len(frames) == 50
    detector = _detector(_settle(upstream, frames[::6], tmp_path / "retinaface.pth"))
    found: list[Detections] = []
    for _, group in itertools.groupby(frames, key=lambda frame: frame.shape):
        found += detector.detect(list(group))
    outputs: list[tuple[torch.Tensor, ...]] = []
    hook = upstream.model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    printed = [upstream.predict_jsons(frame, confidence_threshold=MIN_SCORE) for frame in frames]
    hook.remove()
    num_found, num_same = 0, 0
    for frame, ours, words, output in zip(frames, found, printed, outputs, strict=True):
        height, width = frame.shape[:2]
        boxes, points = _upstream_floats(output, ((SIDE - width) // 2, (SIDE - height) // 2), upstream)
        inside = (boxes[:, 0] < width - 1) & (boxes[:, 1] < height - 1)
        theirs = np.concatenate([boxes[inside], points[inside].reshape(-1, 10)], axis=1)
        whole = np.array([[*word["bbox"], *np.ravel(word["landmarks"])] for word in words])
        assert ours.landmarks is not None
        mine = np.concatenate([ours.boxes, ours.landmarks.reshape(-1, 10)], axis=1)
        assert 5 <= len(mine) <= 600
        assert len(theirs) == len(whole)
        num_found += max(len(mine), len(theirs))
        num_same += min(_num_alike(mine, theirs, 0.5), _num_alike(mine, whole, 1.5))
    assert num_found > 1000
    assert num_same >= 0.995 * num_found


def _num_alike(ours: np.ndarray, theirs: np.ndarray, limit_px: float) -> int:
    """Count the pairs of detections [N, 14] and [M, 14] whose numbers all lie within a limit; each counts once."""
    far = np.abs(ours[:, None] - theirs[None]).max(axis=2)
    return int((far[linear_sum_assignment(far)] <= limit_px).sum())


@pytest.mark.parametrize("side", [64, 256, 640])
def test_priors_are_those_of_upstream(side: int):
    from retinaface.prior_box import priorbox

    theirs = priorbox([[16, 32], [64, 128], [256, 512]], [8, 16, 32], False, (side, side)).numpy() * side
    assert prior_boxes(side).shape == (2 * sum((side // step) ** 2 for step in (8, 16, 32)), 4)
    np.testing.assert_allclose(prior_boxes(side), theirs, atol=1e-4)


def test_eyes_come_in_the_order_of_ours():
    """The reference face of the same authors begins with the eye on the left of the picture: the person's right."""
    right_eye, left_eye, nose, right_corner, left_corner = REFERENCE_FACIAL_POINTS
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_corner[0] < nose[0] < left_corner[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_corner[1], left_corner[1])


# --- batches and shapes


def test_a_batch_gives_what_single_pictures_give(weights_file, noise):
    detector = _detector(weights_file)
    single = [detector.detect([picture])[0] for picture in noise]
    for left, right in zip(single, detector.detect(noise), strict=True):
        assert len(left.boxes) >= 5
        np.testing.assert_allclose(left.boxes, right.boxes, atol=1e-2)
        np.testing.assert_allclose(left.landmarks, right.landmarks, atol=1e-2)  # type: ignore[arg-type]
        np.testing.assert_allclose(left.scores, right.scores, atol=1e-4)


def test_the_best_comes_first_and_nothing_kept_overlaps_much(weights_file, noise):
    from hs_data.pipeline.faces.tracks import iou

    for found in _detector(weights_file).detect(noise):
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores[-1] > MIN_SCORE
        overlap = iou(found.boxes, found.boxes) - np.eye(len(found.boxes))
        assert overlap.max() <= NMS_IOU + 1e-4


def test_nothing_found_has_the_shapes_of_nothing(weights_file, noise):
    [found] = _detector(weights_file, 0.999999).detect(noise[:1])
    assert found.landmarks is not None
    assert (found.boxes.shape, found.scores.shape, found.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


@pytest.mark.parametrize("size", [(112, 160), (97, 33), (160, 150)], ids=str)
def test_any_size_is_padded_to_whole_cells(size: tuple[int, int], weights_file):
    picture = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    [found] = _detector(weights_file).detect([picture])
    assert (found.boxes[:, 0] < size[1] - 1).all()
    assert (found.boxes[:, 1] < size[0] - 1).all()


def test_large_pictures_are_found_in_their_own_pixels(weights_file, noise, monkeypatch: pytest.MonkeyPatch):
    """Twice as large and scaled back down, a picture has its boxes at twice the coordinates."""
    detector = _detector(weights_file)
    large = [np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1) for picture in noise[:2]]
    config = FacesConfig(backend="retinaface", max_side_px=160, batch=2)
    monkeypatch.setattr(detect, "MIN_SHARE", 0.0001)
    for found, expected in zip(detect_scaled(detector, large, config), detector.detect(noise[:2]), strict=True):
        tall = expected.boxes[:, 3] - expected.boxes[:, 1] > 0.1
        np.testing.assert_allclose(found.boxes, 2 * expected.boxes[tall], atol=1e-3)


def test_half_precision_finds_about_the_same(weights_file, noise):
    half = RetinaFaceDetector(weights_file, min_score=MIN_SCORE, device=torch.device("cpu"), dtype=torch.bfloat16)
    [found], [expected] = half.detect(noise[:1]), _detector(weights_file).detect(noise[:1])
    assert found.boxes.dtype == np.float32
    assert len(found.boxes) == pytest.approx(len(expected.boxes), rel=0.5)


# --- weights


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="other weights than RetinaFace's"):
        _detector(path, 0.5)


def test_loading_draws_no_random_numbers(weights_file):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    _detector(weights_file, 0.5)
    assert torch.rand(1) == expected
