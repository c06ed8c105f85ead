"""Identity: a dissolve from one talker to another is found, and nothing else is taken for one."""

import itertools
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from hs_data.pipeline.dissolves import REACH, DissolveDetector
from hs_data.pipeline.faces.detect import Detections, FacesConfig
from hs_data.pipeline.faces.tracks import TracksConfig
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.costs import Costs
from hs_data.pipeline.media.decode import DecodeConfig
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.media.slots import Frame
from hs_data.pipeline.models.yunet import YuNetDetector
from hs_data.pipeline.scenes import ScenesConfig
from hs_data.pipeline.score.candidates import cut_clips, shots_between
from hs_data.pipeline.score.observer import VideoObserver

LIMIT = TracksConfig().max_dissolve
SIZE = (192, 128)


def _scene(seed: int) -> np.ndarray:
    """A picture [128, 256, 3] of soft blotches, wider than what is shown of it."""
    small = np.random.default_rng(seed).integers(20, 236, (8, 16, 3), np.uint8)
    return cv2.resize(small, (256, 128), interpolation=cv2.INTER_CUBIC)


def _show(scene: np.ndarray, shift: float = 0.0) -> np.ndarray:
    matrix = np.array([[1, 0, -32 - shift], [0, 1, 0]])
    return cv2.warpAffine(scene, matrix, SIZE, borderMode=cv2.BORDER_REPLICATE)


def _mix(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    return cv2.addWeighted(first, 1 - share, second, share, 0)


def _dissolve(first: Sequence[np.ndarray], second: Sequence[np.ndarray], num_frames: int) -> list[np.ndarray]:
    """The one, and the other after a dissolve of so many mixed frames."""
    start = len(first) - num_frames
    shares = [(step + 1) / (num_frames + 1) for step in range(num_frames)]
    mixed = [_mix(first[start + step], second[step], share) for step, share in enumerate(shares)]
    return [*first[:start], *mixed, *second[num_frames:]]


def _judge(pictures: Sequence[np.ndarray], cuts: Sequence[int] = ()) -> tuple[float, list[range]]:
    detector = DissolveDetector()
    for frame, picture in enumerate(pictures):
        detector.add(frame, picture)
    return max(detector.scores.values(), default=0.0), detector.changes(cuts, LIMIT)


# --- drawn pictures


@pytest.mark.parametrize("num_frames", [4, 10, 16, 25])
def test_a_dissolve_is_found_and_covered(num_frames: int):
    pictures = _dissolve([_show(_scene(1))] * 60, [_show(_scene(2))] * 60, num_frames)
    score, [change] = _judge(pictures)
    mixed = range(60 - num_frames, 60)
    assert score > 2 * LIMIT
    assert change.start <= mixed.start
    assert change.stop >= mixed.stop
    assert len(change) <= num_frames + 3 * REACH


def test_two_dissolves_are_two_changes():
    scenes = [[_show(_scene(seed))] * 60 for seed in (1, 2, 3)]
    _, changes = _judge(_dissolve(_dissolve(scenes[0], scenes[1], 10), scenes[2], 10))
    assert len(changes) == 2
    assert 50 in changes[0]
    assert 105 in changes[1]


MOVES = {
    "still": lambda t: _show(_scene(1)),
    "pan": lambda t: _show(_scene(1), 2.0 * (t - 20)),
    "shake": lambda t: _show(_scene(1), 12 * np.sin(t / 3)),
    "fade_from_black": lambda t: _mix(np.zeros_like(_show(_scene(1))), _show(_scene(1)), min(1, t / 25)),
    "gets_brighter": lambda t: cv2.convertScaleAbs(_show(_scene(1)), alpha=0.4 + 0.6 * min(1, t / 25)),
    "flash": lambda t: cv2.add(_show(_scene(1)), np.full_like(_show(_scene(1)), 90 * (20 <= t < 22))),
    "wipe": lambda t: np.where(np.arange(192)[None, :, None] < 8 * t, _show(_scene(2)), _show(_scene(1))),
}


@pytest.mark.parametrize("name", MOVES)
def test_what_is_no_dissolve_is_not_taken_for_one(name: str):
    score, changes = _judge([MOVES[name](t).astype(np.uint8) for t in range(45)])
    assert score < LIMIT
    assert changes == []


def test_a_cut_is_left_to_the_cut_detector():
    """Near a cut nothing is judged, even if there is a dissolve beside it."""
    pictures = _dissolve([_show(_scene(1))] * 60, [_show(_scene(2))] * 60, 10)
    assert _judge(pictures, cuts=[56])[1] == []
    assert len(_judge(pictures, cuts=[20, 100])[1]) == 1


def test_too_few_frames_have_no_score():
    assert _judge([_show(_scene(1))] * (2 * REACH)) == (0.0, [])


# --- from frames to clips


class _Counting:
    """Finds one face in the same place in every picture."""

    has_landmarks = False

    def __init__(self) -> None:
        self.calls: list[int] = []

    def detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        self.calls.append(len(pictures))
        box = np.array([[40, 20, 120, 110]], np.float32)
        return [Detections(boxes=box, scores=np.ones(1, np.float32), landmarks=None) for _ in pictures]


def _watch(detector, pictures: Sequence[np.ndarray], faces: FacesConfig) -> VideoObserver:
    footage = VideoObserver(
        detector,
        scenes=ScenesConfig(),
        faces=faces,
        tracks=TracksConfig(),
        costs=Costs(),
    )
    footage.watch((Frame(index=index, rgb=picture) for index, picture in enumerate(pictures)), 0)
    return footage


@pytest.mark.parametrize(("batch", "num_calls"), [(1, 33), (4, 9), (7, 6)])
def test_footage_is_the_same_for_every_batch(batch: int, num_calls: int):
    """Two shots, a dissolve in the second; 25 key frames, and 4 closer looks where each shot begins."""
    second = _dissolve([_show(_scene(2))] * 40, [_show(_scene(3))] * 30, 10)
    detector = _Counting()
    footage = _watch(detector, [_show(_scene(1))] * 63 + second, FacesConfig(batch=batch))
    assert list(footage.cuts) == [63]
    assert [(track.start_frame, track.end_frame) for track in footage.tracks] == [(0, 63), (63, 123)]
    assert sum(detector.calls) == 33
    assert len(detector.calls) == num_calls
    [change] = footage.changes
    shots = shots_between(0, 123, list(footage.cuts), start_kind="start", end_kind="end")
    pieces = cut_clips(shots, footage.tracks, TracksConfig(), 2, footage.changes)
    assert [(p.start_frame, p.end_frame, p.start_kind, p.end_kind) for p in pieces] == [
        (0, 61, "start", "cut"),
        (65, change.start, "cut", "identity"),
        (change.stop, 123, "identity", "end"),
    ]


# --- real talkers


def _talker(media, name: str, detector: YuNetDetector, num_frames: int = 60) -> list[np.ndarray]:
    """Frames [256, 256, 3] of a talker whose face is 100 px high in the middle at the start."""
    video = probe(media / name)
    frames = decode.frames(media / name, video, end_frame=num_frames, config=DecodeConfig())
    pictures = [frame.rgb for frame in frames]
    box = detector.detect(pictures[:1])[0].boxes[0].astype(float)
    scale, centre = 100 / (box[3] - box[1]), (box[:2] + box[2:]) / 2
    matrix = np.array([[scale, 0, 128 - scale * centre[0]], [0, scale, 128 - scale * centre[1]]])
    return [cv2.warpAffine(p, matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE) for p in pictures]


TALKERS = [
    "OpenTalker__video-retalking__examples_face_1.mp4",
    "OpenTalker__video-retalking__examples_face_5.mp4",
    "FuxiVirtualHuman__styletalk_KristiNoem_muxed.mp4",
    "rizkiarm__LipNet__evaluation_samples_GRID_lbbc2a.mpg",
]


@pytest.mark.media
def test_a_track_that_slides_from_one_talker_to_the_next_is_split(media, weights):
    """The detector sees one face all the time; the frames in which both are seen are in neither clip."""
    detector = YuNetDetector(next(weights.glob("*yunet*.onnx")), min_score=0.6)
    talkers = [_talker(media, name, detector) for name in TALKERS]
    for first, second in itertools.permutations(range(len(TALKERS)), 2):
        pictures = _dissolve(talkers[first], talkers[second], 10)
        footage = _watch(detector, pictures, FacesConfig(backend="yunet"))
        [track] = [track for track in footage.tracks if len(track.boxes) >= 12]
        assert (track.start_frame, track.end_frame) == (0, 110)
        [change] = footage.changes
        assert change.start <= 50
        assert change.stop >= 60
        assert len(change) <= 40


def _thumbnails(path) -> Iterator[np.ndarray]:
    return (frame.rgb for frame in decode.frames(path, probe(path), config=DecodeConfig()))


@pytest.mark.media
def test_the_real_dissolve_is_found_where_it_is(media):
    """It lasts from 2.52 to 3.00 s, frames 63 to 75."""
    score, [change] = _judge(list(_thumbnails(media / "derived__dev_crossfade.mp4")))
    assert score > 3 * LIMIT
    assert 50 <= change.start <= 63
    assert 75 <= change.stop <= 90


@pytest.mark.media
@pytest.mark.parametrize(
    "name",
    [
        "derived__dev_base.mp4",
        "derived__dev_jumpcut.mp4",
        "derived__dev_movingface.mp4",
        "derived__dev_lowbitrate.mp4",
        "KwaiVGI__LivePortrait__assets_examples_driving_d12.mp4",
        "X-LANCE__MSDWILD__samples_demo1_silence_mp4s_3.mp4",
        "X-LANCE__MSDWILD__samples_demo1_speaking_mp4s_7.mp4",
        "v-iashin__SparseSync__data_lrs3_h264_orig_strict_crop_25fps_224side_16000hz_aac_pretrain_C8zY0oAdQrs_00018_first6s.mp4",
    ],
)
def test_one_talker_who_moves_is_not_split(media, name: str):
    score, changes = _judge(list(_thumbnails(media / name)))
    assert score < 0.75 * LIMIT
    assert changes == []
