"""Tracks: who is who from frame to frame, gaps, cuts, and how often the detector is asked."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hs_data.pipeline.faces.detect import Detections
from hs_data.pipeline.faces.tracks import Linker, Track, TracksConfig, iou

Boxes = Callable[[int], Sequence[Sequence[float] | np.ndarray]]


def _detections(boxes: Sequence[Sequence[float] | np.ndarray], *, landmarks: bool = True) -> Detections:
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    # Five points on a line through the box: they move as the box moves.
    points = np.stack([array[:, :2] + (array[:, 2:] - array[:, :2]) * k / 6 for k in range(1, 6)], axis=1)
    return Detections(boxes=array, scores=np.ones(len(array), np.float32), landmarks=points if landmarks else None)


def _link(
    boxes: Boxes,
    num_frames: int,
    *,
    stride: int = 1,
    cuts: set[int] | None = None,
    start: int = 0,
    batch: int = 1,
    **config,
) -> tuple[Linker, list[int]]:
    """Link all frames; every track must hear of each of its frames once, in order."""
    looked: list[int] = []
    heard: dict[int, list[int]] = {}

    def detect(frames: Sequence[int]) -> list[Detections]:
        assert len(frames) <= batch
        looked.extend(frames)
        return [_detections(boxes(frame)) for frame in frames]

    linker = Linker(
        TracksConfig(**config),
        stride,
        detect,
        lambda track, new: heard.setdefault(track.number, []).extend(new),
        batch,
    )
    linker.start(start)
    for frame in range(start, num_frames):  # as frames arrive
        linker.advance(frame + 1, cuts or set())
    linker.advance(num_frames, cuts or set(), last=True)
    for track in linker.tracks:
        assert heard[track.number] == list(range(track.start_frame, track.end_frame))
        assert len(track.boxes) == len(track.landmarks) == len(track.detected)
        assert np.isfinite(track.scores).tolist() == track.detected
    assert len(looked) == len(set(looked)) == linker.num_looked
    return linker, looked


def _spans(linker: Linker) -> list[tuple[int, int]]:
    return [(track.start_frame, track.end_frame) for track in linker.tracks]


def _still(*ranges: tuple[int, int]) -> Boxes:
    """A face that is seen in these frames, always in the same place."""
    return lambda frame: [[10, 10, 110, 110]] if any(low <= frame < high for low, high in ranges) else []


# --- overlap


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
        ([0, 0, 10, 10], [2, 2, 8, 8], 0.36),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0.0),
    ],
    ids=["same", "half", "inside", "touching", "apart", "empty"],
)
def test_overlap_is_intersection_over_union(left: list[float], right: list[float], expected: float):
    other = [100, 100, 101, 101]
    found = iou(np.array([left, other], np.float64), np.array([right, other, right], np.float64))
    assert found.shape == (2, 3)
    assert found[0] == pytest.approx([expected, 0, expected])


# --- one face


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8])
def test_a_moving_face_is_one_track(stride: int):
    def boxes(frame: int) -> list[list[float]]:
        return [[10 + 2 * frame, 10 + frame, 110 + 2 * frame, 110 + frame]]

    linker, _ = _link(boxes, 60, stride=stride)
    [track] = linker.tracks
    assert (track.start_frame, track.end_frame, track.ended_by) == (0, 60, "end")
    np.testing.assert_allclose(np.stack(track.boxes), [boxes(frame)[0] for frame in range(60)], atol=1e-3)
    points = np.stack([point for point in track.landmarks if point is not None])
    np.testing.assert_allclose(points, [_detections(boxes(f)).landmarks[0] for f in range(60)], atol=1e-3)  # type: ignore[index]


@pytest.mark.parametrize(("stride", "num_frames", "num_looks"), [(1, 60, 60), (5, 60, 16), (5, 62, 17), (10, 60, 15)])
def test_a_steady_face_is_looked_for_on_key_frames_only(stride: int, num_frames: int, num_looks: int):
    """The first window is looked at closely, for the face comes; after it, one look a window."""
    linker, looked = _link(_still((0, num_frames)), num_frames, stride=stride)
    assert _spans(linker) == [(0, num_frames)]
    assert linker.num_looked == num_looks
    assert looked[-1] == num_frames - 1


def test_nothing_is_looked_at_closely_where_nobody_is():
    linker, looked = _link(_still(), 60, stride=5)
    assert linker.tracks == []
    assert looked == list(range(4, 60, 5))


def test_what_was_interpolated_is_told_from_what_was_detected():
    linker, looked = _link(_still((0, 20)), 20, stride=5)
    assert [frame for frame, seen in enumerate(linker.tracks[0].detected) if seen] == sorted(looked)


@pytest.mark.parametrize("start", range(17, 26))
@pytest.mark.parametrize("length", [12, 13, 14, 15, 16])
def test_coming_and_going_is_found_to_the_frame(start: int, length: int):
    linker, _ = _link(_still((start, start + length)), 60, stride=5)
    assert _spans(linker) == [(start, start + length)]
    assert linker.tracks[0].ended_by == "gap"


def test_looking_closer_costs_the_windows_where_something_changes():
    linker, looked = _link(_still((22, 41)), 60, stride=5)
    assert _spans(linker) == [(22, 41)]
    closely = set(range(20, 25)) | set(range(40, 45))
    pending = set(range(45, 50))  # the face that went away may still come back until frame 46
    assert closely <= set(looked) <= closely | pending | set(range(4, 60, 5))


def test_frames_need_not_begin_at_zero():
    linker, looked = _link(_still((103, 120)), 130, stride=5, start=100)
    assert _spans(linker) == [(103, 120)]
    assert min(looked) == 100


def test_windows_do_not_depend_on_how_the_frames_arrive():
    def run(steps: Sequence[int]) -> tuple[list[tuple[int, int]], list[int]]:
        looked: list[int] = []

        def detect(frames: Sequence[int]) -> list[Detections]:
            looked.extend(frames)
            return [_detections(_still((3, 31), (34, 60))(frame)) for frame in frames]

        linker = Linker(TracksConfig(), 5, detect, lambda track, new: None)
        for before in steps:
            linker.advance(before, set())
        linker.advance(60, set(), last=True)
        return _spans(linker), looked

    assert run(range(1, 61)) == run([60]) == run([3, 4, 17, 18, 44])


# --- gaps


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("lost", range(14, 30))
@pytest.mark.parametrize("gap", [5, 6])
def test_a_gap_of_five_frames_is_bridged_and_one_of_six_is_not(gap: int, lost: int, stride: int):
    linker, looked = _link(_still((0, lost), (lost + gap, 60)), 60, stride=stride)
    missed = not set(range(lost, lost + gap)) & set(looked)
    assert not missed or gap < stride, "a gap that covers a key frame is always seen"
    if gap == 5 or missed:
        assert _spans(linker) == [(0, 60)]
        assert not any(linker.tracks[0].detected[lost : lost + gap])
    else:
        assert _spans(linker) == [(0, lost), (lost + gap, 60)]
        assert [track.ended_by for track in linker.tracks] == ["gap", "end"]


@pytest.mark.parametrize("gap", [1, 3, 5])
def test_a_bridge_is_exactly_linear(gap: int):
    before, after = np.array([0, 0, 100, 100.0]), np.array([12, -6, 118, 106.0])

    def boxes(frame: int) -> list[np.ndarray]:
        return [before] if frame < 20 else [] if frame < 20 + gap else [after]

    linker, _ = _link(boxes, 40)
    [track] = linker.tracks
    for step in range(gap + 2):
        part = step / (gap + 1)
        expected = before + part * (after - before)
        np.testing.assert_allclose(track.boxes[19 + step], expected, atol=1e-4)
        points = _detections([expected]).landmarks
        assert points is not None
        np.testing.assert_allclose(track.landmarks[19 + step], points[0], atol=1e-4)  # type: ignore[arg-type]


def test_the_longest_gap_is_a_setting():
    boxes = _still((0, 20), (22, 40))
    assert _spans(_link(boxes, 40, max_gap_frames=2)[0]) == [(0, 40)]
    assert _spans(_link(boxes, 40, max_gap_frames=1)[0]) == [(0, 20), (22, 40)]
    assert _spans(_link(_still((0, 20), (21, 40)), 40, max_gap_frames=0)[0]) == [(0, 20), (21, 40)]


def test_landmarks_are_not_invented_between_frames_without_them():
    def detect(frames: Sequence[int]) -> list[Detections]:
        return [_detections([[0, 0, 100, 100]], landmarks=frame != 9) for frame in frames]

    linker = Linker(TracksConfig(), 5, detect, lambda track, new: None)
    linker.advance(20, set(), last=True)
    known = [points is not None for points in linker.tracks[0].landmarks]
    assert known == [True] * 5 + [False] * 9 + [True] * 6
    assert [frame for frame in range(20) if linker.tracks[0].detected[frame]] == [0, 1, 2, 3, 4, 9, 14, 19]


# --- cuts


@pytest.mark.parametrize("stride", [1, 5, 6])
@pytest.mark.parametrize("cut", range(17, 25))
def test_no_track_crosses_a_cut(cut: int, stride: int):
    linker, _ = _link(_still((0, 60)), 60, stride=stride, cuts={cut})
    assert _spans(linker) == [(0, cut), (cut, 60)]
    assert [track.ended_by for track in linker.tracks] == ["cut", "end"]


def test_a_gap_is_not_bridged_over_a_cut():
    linker, _ = _link(_still((0, 20), (23, 60)), 60, stride=5, cuts={22})
    assert _spans(linker) == [(0, 20), (23, 60)]
    assert linker.tracks[0].ended_by == "cut"


def test_several_cuts_in_one_window_are_all_kept():
    linker, _ = _link(_still((0, 60)), 60, stride=5, cuts={20, 22, 23})
    assert _spans(linker) == [(0, 20), (20, 22), (22, 23), (23, 60)]


# --- two faces


@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize("swapped", [False, True], ids=["left_first", "best_first_changes"])
def test_faces_that_cross_keep_their_identity(stride: int, swapped: bool):
    """One is 40 px higher: where they overlap most, each still overlaps itself more."""

    def boxes(frame: int) -> list[list[float]]:
        left = [4.0 * frame, 0, 4.0 * frame + 100, 100]
        right = [400 - 4.0 * frame, 40, 500 - 4.0 * frame, 140]
        return [right, left] if swapped and frame % 2 else [left, right]

    linker, _ = _link(boxes, 100, stride=stride)
    assert _spans(linker) == [(0, 100), (0, 100)]
    for track, top in zip(linker.tracks, (0, 40), strict=True):
        assert np.stack(track.boxes)[:, 1] == pytest.approx(np.full(100, top))


def test_the_best_total_wins_not_the_best_first_pair():
    """Greedy linking would give the left detection to the right track and lose one face."""
    linker, _ = _link(
        lambda frame: [[0, 0, 100, 100], [60, 0, 160, 100]] if frame < 12 else [[30, 0, 130, 100], [75, 0, 175, 100]],
        24,
    )
    assert _spans(linker) == [(0, 24), (0, 24)]
    assert [track.boxes[-1][0] for track in linker.tracks] == [30, 75]


def test_a_second_face_that_comes_is_a_track_of_its_own():
    first, second = [0, 0, 100, 100], [300, 0, 400, 100]
    linker, _ = _link(lambda frame: [first] + [second] * (13 <= frame < 37), 60, stride=5)
    assert _spans(linker) == [(0, 60), (13, 37)]
    assert [track.number for track in linker.tracks] == [0, 1]


def test_a_face_that_jumps_is_another_track():
    """Boxes that overlap by less than `min_iou` are not the same face."""

    def boxes(shift: float) -> Boxes:
        return lambda frame: [[0, 0, 100, 100]] if frame < 20 else [[shift, 0, 100 + shift, 100]]

    near, far = 53.0, 55.0  # overlaps of 0.307 and 0.290
    assert _spans(_link(boxes(near), 40)[0]) == [(0, 40)]
    assert _spans(_link(boxes(far), 40)[0]) == [(0, 20), (20, 40)]


# --- batches


def _busy(frame: int) -> list[list[float]]:
    """One who moves, one who comes and goes, one who is lost for 3 frames and for 6."""
    mover = [3.0 * frame, 0, 3.0 * frame + 100, 100]
    guest = [700.0, 0, 800, 100]
    flicker = [1000.0, 0, 1100, 100]
    return [mover] + [guest] * (22 <= frame < 61) + [flicker] * (not 33 <= frame < 36) * (not 70 <= frame < 76)


@pytest.mark.parametrize("stride", [1, 3, 5])
@pytest.mark.parametrize("batch", [4, 7])
def test_a_batch_changes_neither_tracks_nor_what_is_looked_at(batch: int, stride: int):
    """113 frames end in the middle of a window and of a batch; two cuts share a window, one falls on a key frame."""

    def run(batch: int) -> tuple[Linker, list[int]]:
        return _link(_busy, 113, stride=stride, start=2, cuts={47, 90, 91}, batch=batch)

    (single, looked), (batched, looked_batched) = run(1), run(batch)
    assert _spans(batched) == _spans(single)
    assert sorted(looked_batched) == sorted(looked)
    for left, right in zip(batched.tracks, single.tracks, strict=True):
        np.testing.assert_array_equal(np.stack(left.boxes), np.stack(right.boxes))
        np.testing.assert_array_equal(np.stack(left.landmarks), np.stack(right.landmarks))  # type: ignore[arg-type]
        assert (left.detected, left.ended_by) == (right.detected, right.ended_by)


@pytest.mark.parametrize(("batch", "num_calls"), [(1, 44), (4, 11), (7, 7)])
def test_a_batch_saves_calls(batch: int, num_calls: int):
    """200 frames: 40 key frames, and 4 closer looks where the face comes."""
    calls: list[int] = []

    def detect(frames: Sequence[int]) -> list[Detections]:
        calls.append(len(frames))
        return [_detections([[0, 0, 100, 100]])] * len(frames)

    linker = Linker(TracksConfig(), 5, detect, lambda track, new: None, batch)
    linker.advance(200, set(), last=True)
    assert (len(calls), sum(calls)) == (num_calls, 44)


@pytest.mark.parametrize("batch", [1, 4])
def test_linking_lags_by_less_than_a_batch(batch: int):
    """What is not linked yet must be held: fewer than `batch` times `stride` frames."""
    linker = Linker(TracksConfig(), 5, lambda frames: [_detections([])] * len(frames), lambda track, new: None, batch)
    lags = []
    for arrived in range(1, 101):
        linker.advance(arrived, set())
        lags.append(arrived - linker.position)
    assert max(lags) == 5 * batch - 1


# --- others


@pytest.mark.parametrize(
    "values",
    [
        {"min_iou": 0.0},
        {"min_iou": 1.1},
        {"max_gap_frames": -1},
        {"max_clip_s": 0.0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(values: dict):
    with pytest.raises(ValueError, match="is out of range"):
        TracksConfig(**values)


def test_a_track_ends_after_its_last_frame():
    assert Track(number=0, start_frame=7, boxes=[np.zeros(4)] * 3).end_frame == 10
