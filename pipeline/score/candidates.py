"""Clips: how the tracks of a stretch of footage are cut into the pieces that are kept or dropped."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...manifests.records import FRAME_RATE
from ..faces.tracks import Track, TracksConfig

MAX_HEIGHT_RATIO = 1.4
"""Tallest over shortest face in a clip; above, the clip is halved, as HighSync asks (h_max < 1.4 h_min)."""
MIN_FACELESS_S = 1.0
"""A shorter stretch without any face inside a shot is a gap of a track, told by its neighbours."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A stretch between two cuts (or ends of the footage)."""

    start_frame: int
    end_frame: int
    start_kind: str
    """`start`, `cut` or `chunk`."""
    end_kind: str
    """`end`, `cut` or `chunk`."""

    def trimmed(self, guard_frames: int) -> tuple[int, int]:
        """Return the shot without the guard frames beside its cuts."""
        start = self.start_frame + guard_frames * (self.start_kind == "cut")
        return start, self.end_frame - guard_frames * (self.end_kind == "cut")


@dataclass(frozen=True, kw_only=True)
class CandidateClip:
    """A candidate clip: a stretch of one track, or of no track where there is no face."""

    track: Track | None
    start_frame: int
    end_frame: int
    start_kind: str
    end_kind: str

    @property
    def num_frames(self) -> int:
        """Length at 25 fps."""
        return self.end_frame - self.start_frame


def shots_between(start: int, end: int, cuts: Sequence[int], *, start_kind: str, end_kind: str) -> list[Shot]:
    """Cut the footage `start:end` at the first frames of its shots."""
    edges = [start, *(cut for cut in cuts if start < cut < end), end]
    last = len(edges) - 2
    return [
        Shot(
            start_frame=left,
            end_frame=right,
            start_kind=start_kind if index == 0 else "cut",
            end_kind=end_kind if index == last else "cut",
        )
        for index, (left, right) in enumerate(itertools.pairwise(edges))
    ]


def cut_clips(
    shots: Sequence[Shot],
    tracks: Sequence[Track],
    config: TracksConfig,
    guard_frames: int,
    changes: Sequence[range] = (),
    *,
    min_half_s: float = 3.0,
) -> list[CandidateClip]:
    """Cut every track into candidate clips, and add the stretches without a face.

    A track lies inside one shot. It loses the guard frames at cuts and the stretches in which another person may come
    (`changes`, in order), each rest is divided into equal parts of at most `max_clip_s`, and a part whose face changes
    size too much is halved while the halves are long enough (`min_half_s`).
    """
    pieces: list[CandidateClip] = []
    for shot in shots:
        inside = [t for t in tracks if shot.start_frame <= t.start_frame < shot.end_frame]
        inside = [track for track in inside if len(track.boxes) >= config.min_track_frames]
        pieces += _faceless(shot, inside, guard_frames)
        for track in inside:
            pieces += _cut_track(shot, track, config, guard_frames, changes, min_half_s)
    return sorted(pieces, key=lambda piece: (piece.start_frame, -1 if piece.track is None else piece.track.number))


def _cut_track(
    shot: Shot, track: Track, config: TracksConfig, guard_frames: int, changes: Sequence[range], min_half_s: float
) -> list[CandidateClip]:
    low, high = shot.trimmed(guard_frames)
    start, end = max(track.start_frame, low), min(track.end_frame, high)
    start_kind = shot.start_kind if track.start_frame - shot.start_frame <= config.max_gap_frames else "gap"
    end_kind = shot.end_kind if shot.end_frame - track.end_frame <= config.max_gap_frames else "gap"
    whole = CandidateClip(track=track, start_frame=start, end_frame=end, start_kind=start_kind, end_kind=end_kind)
    stretches = [piece for piece in _split_at(whole, changes) if piece.num_frames >= config.min_track_frames]
    return [part for stretch in stretches for part in _divide(stretch, track, config.max_clip_s, min_half_s)]


def _split_at(piece: CandidateClip, changes: Sequence[range]) -> list[CandidateClip]:
    """Take the changes out of a piece; what is left may be empty."""
    parts = []
    for change in changes:
        if change.start < piece.end_frame and change.stop > piece.start_frame:
            parts.append(replace(piece, end_frame=change.start, end_kind="identity"))
            piece = replace(piece, start_frame=change.stop, start_kind="identity")
    return [*parts, piece]


def _divide(piece: CandidateClip, track: Track, max_clip_s: float, min_half_s: float) -> list[CandidateClip]:
    """Cut a piece into equal parts that are short enough, and those by the size of the face."""
    start, end = piece.start_frame, piece.end_frame
    num_parts = -(-(end - start) // round(max_clip_s * FRAME_RATE))
    edges = [start + round(part * (end - start) / num_parts) for part in range(num_parts + 1)]
    spans = [
        span for left, right in itertools.pairwise(edges) for span in _split_by_size(track, left, right, min_half_s)
    ]
    return [
        CandidateClip(
            track=track,
            start_frame=left,
            end_frame=right,
            start_kind=piece.start_kind if left == start else "piece",
            end_kind=piece.end_kind if right == end else "piece",
        )
        for left, right in spans
    ]


def _split_by_size(track: Track, start: int, end: int, min_half_s: float) -> list[tuple[int, int]]:
    boxes = np.stack(track.boxes[start - track.start_frame : end - track.start_frame])
    heights = boxes[:, 3] - boxes[:, 1]
    middle = (start + end) // 2
    shortest_half = min(middle - start, end - middle)
    if heights.max() <= MAX_HEIGHT_RATIO * heights.min() or shortest_half < min_half_s * FRAME_RATE:
        return [(start, end)]
    return [*_split_by_size(track, start, middle, min_half_s), *_split_by_size(track, middle, end, min_half_s)]


def _faceless(shot: Shot, tracks: Sequence[Track], guard_frames: int) -> list[CandidateClip]:
    """Return the stretches of a shot that no track covers; a shot without any track is one, however short."""
    low, high = shot.trimmed(guard_frames)
    if high <= low:
        return []
    seen = np.zeros(high - low, bool)
    for track in tracks:
        seen[max(0, track.start_frame - low) : max(0, track.end_frame - low)] = True
    changes = np.flatnonzero(np.diff(np.concatenate([[True], seen, [True]]).astype(int)))
    stretches = [(low + int(a), low + int(b)) for a, b in zip(changes[::2], changes[1::2], strict=True)]
    return [
        CandidateClip(
            track=None,
            start_frame=left,
            end_frame=right,
            start_kind=shot.start_kind if left == low else "gap",
            end_kind=shot.end_kind if right == high else "gap",
        )
        for left, right in stretches
        if not tracks or right - left >= MIN_FACELESS_S * FRAME_RATE
    ]
