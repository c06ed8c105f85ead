"""Leakage: a planted leak is found, chance and head motion are not taken for one, real talkers rank the policies."""

import numpy as np
import pytest

from hs_data.pipeline.crop import CropConfig, crop_boxes
from hs_data.pipeline.leakage import leakage

REAL = (
    "FreedomIntelligence__TalkVid__src_test_samples_short_case_AOC_gt.mp4",
    "OpenTalker__SadTalker__examples_ref_video_WDA_KatieHill_000_first4s.mp4",
    "OpenTalker__video-retalking__examples_face_5.mp4",
    "R-V-Abhishek__Syncnet_FCN__data_example.avi",
)


def smooth_noise(length, seed, width=4):
    noise = np.random.default_rng(seed).normal(size=length + 4 * width)
    return np.convolve(noise, np.hanning(width + 2), "same")[2 * width : 2 * width + length]


def face(length, seed=0, nod=0.0):
    """A head with slow motion and a little detector noise: boxes [T, 4] and landmarks [T, 5, 2]."""
    rng = np.random.default_rng(seed)
    points = np.array([[120, 90], [160, 90], [140, 110], [125, 130], [155, 130]], np.float32)
    move = nod * np.sin(np.arange(length) / 40)[:, None] * [0.3, 1.0]
    landmarks = points + move[:, None] + rng.normal(0, 0.1, (length, 5, 2))
    boxes = np.array([100, 50, 180, 150]) + np.tile(move, 2) + rng.normal(0, 0.1, (length, 4))
    return boxes.astype(np.float32), landmarks.astype(np.float32)


@pytest.mark.parametrize("nod", [0.0, 10.0])
def test_a_box_that_follows_the_jaw_leaks(nod):
    boxes, landmarks = face(300, nod=nod)
    opening = smooth_noise(300, 1)
    boxes[:, 3] += 3 * opening
    scores = {
        policy: leakage(
            crop_boxes(boxes, landmarks, CropConfig(policy=policy, smooth_frames=0)), landmarks, boxes, opening
        ).score
        for policy in ("per_frame", "centre", "highsync", "eyes", "static")
    }
    assert scores["per_frame"] > 0.9
    assert scores["centre"] > 0.8
    assert max(scores["highsync"], scores["eyes"], scores["static"]) < 0.2


def test_without_landmarks_a_leak_is_found_too():
    boxes, _ = face(300)
    opening = smooth_noise(300, 1)
    boxes[:, 3] += 3 * opening
    found = leakage(crop_boxes(boxes, None, CropConfig(policy="per_frame")), None, boxes, opening)
    assert found.score > 0.8
    assert found.floor == 0
    assert leakage(crop_boxes(boxes, None, CropConfig(policy="static")), None, boxes, opening).score == 0


def test_chance_scores_nothing():
    scores = []
    for seed in range(40):
        boxes, landmarks = face(125, seed)
        boxes[:, 3] += 3 * smooth_noise(125, seed)
        crops = crop_boxes(boxes, landmarks, CropConfig(policy="per_frame"))
        scores.append(leakage(crops, landmarks, boxes, smooth_noise(125, 1000 + seed)).score)
    assert np.mean(scores) == pytest.approx(0, abs=0.08)


def test_the_floor_is_what_a_still_crop_tells():
    boxes, landmarks = face(300)
    opening = smooth_noise(300, 1)
    still = leakage(crop_boxes(boxes, landmarks, CropConfig(policy="per_frame")), landmarks, boxes, opening)
    assert still.floor < 0.15
    landmarks[:, :, 1] += opening[:, None].astype(np.float32)  # a head that nods with every syllable
    nodding = leakage(crop_boxes(boxes, landmarks, CropConfig(policy="static")), landmarks, boxes, opening)
    assert nodding.floor > 0.8
    assert nodding.score == pytest.approx(nodding.floor)


def test_landmarks_that_scale_with_the_jaw_are_no_leak():
    boxes, landmarks = face(300)
    opening = smooth_noise(300, 1)
    spread = 1 + 0.05 * opening[:, None, None]
    landmarks = (landmarks.mean(axis=1, keepdims=True) * [1, 0] + [0, 90] + (landmarks - [140, 90]) * spread).astype(
        np.float32
    )
    crops = crop_boxes(boxes, landmarks, CropConfig(policy="static"))
    assert leakage(crops, landmarks, boxes, opening).score < 0.2


@pytest.mark.parametrize("length", [1, 10, 49])
def test_too_short_to_say(length):
    boxes, landmarks = face(length)
    assert np.isnan(leakage(boxes, landmarks, boxes, np.zeros(length)).score)


def test_a_still_mouth_scores_nothing():
    boxes, landmarks = face(100)
    assert leakage(boxes, landmarks, boxes, np.full(100, 0.1, np.float32)).score == 0


@pytest.mark.media
def test_real_talkers_rank_the_policies(media, detected):
    truth = np.load(media / "mouth_opening.npz")
    policies = ("per_frame", "highsync", "eyes", "static")
    scores = {policy: [] for policy in policies}
    for name in REAL:
        frames, real = truth[name].T
        opening = np.interp(np.arange(int(frames[-1]) + 1), frames, real)
        boxes, landmarks = (values[: len(opening)] for values in detected(name))
        opening = opening[: len(boxes)]
        for policy in policies:
            crops = crop_boxes(boxes, landmarks, CropConfig(policy=policy))
            scores[policy].append(leakage(crops, landmarks, boxes, opening).score)
    mean = {policy: float(np.mean(values)) for policy, values in scores.items()}
    assert mean["per_frame"] > 0.3
    assert mean["per_frame"] > mean["highsync"] + 0.25
    assert max(mean["highsync"], mean["eyes"], mean["static"]) < 0.15


@pytest.fixture
def detected(media, weights):
    from hs_data.pipeline.faces.detect import FacesConfig, detect_scaled
    from hs_data.pipeline.media.decode import DecodeConfig, frames
    from hs_data.pipeline.media.probe import probe
    from hs_data.pipeline.models.yunet import YuNetDetector

    network = YuNetDetector(weights / "face_detection_yunet_2023mar.onnx", min_score=0.6)

    def detect(name):
        found = [
            detect_scaled(network, [frame.rgb], FacesConfig(backend="yunet", max_side_px=320))[0]
            for frame in frames(media / name, probe(media / name), config=DecodeConfig())
        ]
        return np.stack([f.boxes[0] for f in found]), np.stack([f.landmarks[0] for f in found])

    return detect
