"""Clips: how tracks become candidates of 3 to 10 s, and what is left where nobody is seen."""

from collections.abc import Sequence

import numpy as np
import pytest

from hs_data.pipeline.faces.detect import Detections
from hs_data.pipeline.faces.tracks import Linker, Track, TracksConfig
from hs_data.pipeline.score.candidates import CandidateClip, Shot, cut_clips, shots_between

CONFIG = TracksConfig()
GUARD = 2


def _track(start: int, end: int, number: int = 0, heights: np.ndarray | None = None) -> Track:
    tall = np.full(end - start, 100.0) if heights is None else heights
    return Track(
        number=number,
        start_frame=start,
        boxes=[np.array([0, 0, 80, height], np.float32) for height in tall],
        landmarks=[None] * (end - start),
        detected=[True] * (end - start),
    )


def _shot(start: int, end: int, start_kind: str = "start", end_kind: str = "end") -> Shot:
    return Shot(start_frame=start, end_frame=end, start_kind=start_kind, end_kind=end_kind)


def _spans(pieces: list[CandidateClip]) -> list[tuple[int | None, int, int, str, str]]:
    return [(p.track and p.track.number, p.start_frame, p.end_frame, p.start_kind, p.end_kind) for p in pieces]


# --- shots


def test_shots_lie_between_cuts_and_know_their_ends():
    shots = shots_between(100, 500, [200, 300], start_kind="chunk", end_kind="end")
    assert shots == [_shot(100, 200, "chunk", "cut"), _shot(200, 300, "cut", "cut"), _shot(300, 500, "cut", "end")]


def test_cuts_outside_or_at_the_ends_do_not_count():
    assert shots_between(100, 500, [50, 100, 500, 600], start_kind="start", end_kind="chunk") == [
        _shot(100, 500, "start", "chunk")
    ]


@pytest.mark.parametrize(
    ("shot", "expected"),
    [
        (_shot(10, 50), (10, 50)),
        (_shot(10, 50, "cut"), (12, 50)),
        (_shot(10, 50, "chunk", "cut"), (10, 48)),
        (_shot(10, 50, "cut", "cut"), (12, 48)),
    ],
    ids=["no_cut", "cut_before", "cut_after", "cuts"],
)
def test_guard_frames_are_taken_at_cuts_only(shot: Shot, expected: tuple[int, int]):
    assert shot.trimmed(GUARD) == expected


# --- lengths


@pytest.mark.parametrize(
    ("num_frames", "lengths"),
    [
        (12, [12]),
        (75, [75]),
        (250, [250]),
        (251, [126, 125]),
        (500, [250, 250]),
        (501, [167, 167, 167]),
        (505, [168, 169, 168]),
        (1000, [250] * 4),
    ],
)
def test_a_long_track_is_cut_into_equal_parts_of_at_most_ten_seconds(num_frames: int, lengths: list[int]):
    pieces = cut_clips([_shot(0, num_frames)], [_track(0, num_frames)], CONFIG, GUARD)
    assert sorted(piece.num_frames for piece in pieces) == sorted(lengths)
    edges = [piece.start_frame for piece in pieces] + [pieces[-1].end_frame]
    assert edges[0] == 0
    assert [piece.end_frame for piece in pieces] == edges[1:], "parts must follow each other"
    assert edges[-1] == num_frames


@pytest.mark.parametrize("num_frames", range(250, 3000, 97))
def test_no_part_is_longer_than_the_limit_or_shorter_than_the_others(num_frames: int):
    lengths = [p.num_frames for p in cut_clips([_shot(0, num_frames)], [_track(0, num_frames)], CONFIG, GUARD)]
    assert sum(lengths) == num_frames
    assert max(lengths) <= 250
    assert max(lengths) - min(lengths) <= 1


def test_parts_say_that_they_continue():
    pieces = cut_clips([_shot(0, 600, "cut", "end")], [_track(0, 600)], CONFIG, GUARD)
    assert _spans(pieces) == [
        (0, 2, 201, "cut", "piece"),
        (0, 201, 401, "piece", "piece"),
        (0, 401, 600, "piece", "end"),
    ]


# --- guards and ends


def test_a_track_loses_the_guard_frames_beside_cuts():
    pieces = cut_clips([_shot(100, 200, "cut", "cut")], [_track(100, 200)], CONFIG, GUARD)
    assert _spans(pieces) == [(0, 102, 198, "cut", "cut")]


def test_a_track_that_does_not_touch_the_cut_loses_nothing():
    pieces = cut_clips([_shot(100, 300, "cut", "cut")], [_track(110, 280)], CONFIG, GUARD)
    assert _spans(pieces) == [(0, 110, 280, "gap", "gap")]


@pytest.mark.parametrize(
    ("start", "end", "start_kind", "end_kind"),
    [
        (0, 200, "start", "end"),
        (5, 195, "start", "end"),
        (6, 195, "gap", "end"),
        (5, 194, "start", "gap"),
        (50, 150, "gap", "gap"),
    ],
)
def test_a_track_begins_with_its_shot_unless_the_face_came_later(start: int, end: int, start_kind: str, end_kind: str):
    pieces = cut_clips([_shot(0, 200)], [_track(start, end)], CONFIG, GUARD)
    [piece] = [piece for piece in pieces if piece.track is not None]
    assert (piece.start_frame, piece.end_frame, piece.start_kind, piece.end_kind) == (start, end, start_kind, end_kind)


@pytest.mark.parametrize(("num_frames", "num_pieces"), [(11, 0), (12, 1)])
def test_a_track_of_a_few_frames_is_noise(num_frames: int, num_pieces: int):
    pieces = cut_clips([_shot(0, 100)], [_track(50, 50 + num_frames)], CONFIG, GUARD)
    assert sum(piece.track is not None for piece in pieces) == num_pieces


@pytest.mark.parametrize(("num_frames", "num_pieces"), [(15, 0), (16, 1)])
def test_guard_frames_can_make_a_track_noise(num_frames: int, num_pieces: int):
    pieces = cut_clips([_shot(0, num_frames, "cut", "cut")], [_track(0, num_frames)], CONFIG, GUARD)
    assert len(pieces) == num_pieces


def test_tracks_go_to_the_shot_that_they_lie_in():
    shots = shots_between(0, 300, [100, 200], start_kind="start", end_kind="end")
    pieces = cut_clips(shots, [_track(0, 100, 0), _track(100, 200, 1), _track(200, 300, 2)], CONFIG, GUARD)
    assert _spans(pieces) == [(0, 0, 98, "start", "cut"), (1, 102, 198, "cut", "cut"), (2, 202, 300, "cut", "end")]


# --- another person


def test_a_change_of_person_splits_a_track_and_its_frames_are_left_out():
    pieces = cut_clips([_shot(0, 400)], [_track(0, 400)], CONFIG, GUARD, [range(150, 170)])
    assert _spans(pieces) == [(0, 0, 150, "start", "identity"), (0, 170, 400, "identity", "end")]


def test_each_side_of_a_change_is_divided_for_itself():
    pieces = cut_clips([_shot(0, 600)], [_track(0, 600)], CONFIG, GUARD, [range(280, 300)])
    assert _spans(pieces) == [
        (0, 0, 140, "start", "piece"),
        (0, 140, 280, "piece", "identity"),
        (0, 300, 450, "identity", "piece"),
        (0, 450, 600, "piece", "end"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([range(10, 30)], [(30, 200)]),
        ([range(180, 215)], [(0, 180)]),
        ([range(-5, 8)], [(8, 200)]),
        ([range(200, 220)], [(0, 200)]),
        ([range(50, 60), range(100, 110)], [(0, 50), (60, 100), (110, 200)]),
        ([range(200)], []),
    ],
    ids=["short_before", "at_the_end", "at_the_start", "beside", "two", "all"],
)
def test_what_a_change_leaves_is_kept_unless_it_is_noise(changes: list[range], expected: list[tuple[int, int]]):
    pieces = cut_clips([_shot(0, 230)], [_track(0, 200)], CONFIG, GUARD, changes)
    assert [(p.start_frame, p.end_frame) for p in pieces if p.track is not None] == expected


# --- size


def _growing(num_frames: int, ratio: float) -> np.ndarray:
    return 100 * ratio ** (np.arange(num_frames) / (num_frames - 1))


def test_a_face_that_grows_too_much_is_split_where_the_halves_are_long_enough():
    """Over 200 frames by 1.9; each half grows by 1.9 ** 0.5 = 1.38, which one crop of fixed height takes."""
    track = _track(0, 200, heights=_growing(200, 1.9))
    assert _spans(cut_clips([_shot(0, 200)], [track], CONFIG, GUARD)) == [
        (0, 0, 100, "start", "piece"),
        (0, 100, 200, "piece", "end"),
    ]


@pytest.mark.parametrize(("ratio", "num_pieces"), [(1.39, 1), (1.41, 2)])
def test_the_limit_of_the_ratio_is_exact(ratio: float, num_pieces: int):
    track = _track(0, 200, heights=_growing(200, ratio))
    assert len(cut_clips([_shot(0, 200)], [track], CONFIG, GUARD)) == num_pieces


@pytest.mark.parametrize(("num_frames", "num_pieces"), [(149, 1), (150, 2), (151, 2)])
def test_halves_are_never_shorter_than_the_shortest_clip(num_frames: int, num_pieces: int):
    pieces = cut_clips(
        [_shot(0, num_frames)], [_track(0, num_frames, heights=_growing(num_frames, 3.0))], CONFIG, GUARD
    )
    assert len(pieces) == num_pieces
    assert sum(piece.num_frames for piece in pieces) == num_frames


def test_only_the_part_that_grows_is_split():
    heights = np.concatenate([np.full(250, 100.0), _growing(250, 1.9)])
    pieces = cut_clips([_shot(0, 500)], [_track(0, 500, heights=heights)], CONFIG, GUARD)
    assert [(p.start_frame, p.end_frame) for p in pieces] == [(0, 250), (250, 375), (375, 500)]


# --- nobody


def test_a_shot_without_any_face_is_one_stretch_however_short():
    assert _spans(cut_clips([_shot(0, 10)], [], CONFIG, GUARD)) == [(None, 0, 10, "start", "end")]
    pieces = cut_clips([_shot(100, 200, "cut", "cut")], [], CONFIG, GUARD)
    assert _spans(pieces) == [(None, 102, 198, "cut", "cut")]


@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_shot_that_is_all_guard_has_no_stretch(num_frames: int):
    assert cut_clips([_shot(0, num_frames, "cut", "cut")], [], CONFIG, GUARD) == []


@pytest.mark.parametrize(("gap", "num_stretches"), [(24, 0), (25, 1), (60, 1)])
def test_a_stretch_without_a_face_counts_from_one_second(gap: int, num_stretches: int):
    tracks = [_track(0, 100, 0), _track(100 + gap, 300, 1)]
    pieces = cut_clips([_shot(0, 300)], tracks, CONFIG, GUARD)
    nobody = [piece for piece in pieces if piece.track is None]
    assert _spans(nobody) == [(None, 100, 100 + gap, "gap", "gap")] * num_stretches


def test_two_people_leave_a_stretch_only_where_neither_is_seen():
    tracks = [_track(30, 130, 0), _track(100, 200, 1), _track(120, 180, 2)]
    pieces = cut_clips([_shot(0, 260)], tracks, CONFIG, GUARD)
    assert _spans(pieces) == [
        (None, 0, 30, "start", "gap"),
        (0, 30, 130, "gap", "gap"),
        (1, 100, 200, "gap", "gap"),
        (2, 120, 180, "gap", "gap"),
        (None, 200, 260, "gap", "end"),
    ]


def test_a_track_that_is_noise_leaves_its_frames_to_nobody():
    assert _spans(cut_clips([_shot(0, 100)], [_track(40, 45)], CONFIG, GUARD)) == [(None, 0, 100, "start", "end")]


# --- from detections to clips


def _seen(is_there: bool) -> Detections:
    boxes = np.array([[100, 100, 300, 340]], np.float32)[: int(is_there)]
    return Detections(boxes=boxes, scores=np.ones(len(boxes), np.float32), landmarks=None)


def test_ten_seconds_with_a_gap_of_one_are_two_clips():
    def detect(frames: Sequence[int]) -> list[Detections]:
        return [_seen(not 110 <= frame < 135) for frame in frames]

    linker = Linker(CONFIG, 5, detect, lambda track, new: None)
    linker.advance(250, set(), last=True)
    shots = shots_between(0, 250, [], start_kind="start", end_kind="end")
    assert _spans(cut_clips(shots, linker.tracks, CONFIG, GUARD)) == [
        (0, 0, 110, "start", "gap"),
        (None, 110, 135, "gap", "gap"),
        (1, 135, 250, "gap", "end"),
    ]
