"""Metrics of the picture of the face: sharpness, light, rating and motion."""

from collections.abc import Mapping

import numpy as np

from ....manifests.records import MISSING_SHARE
from ....manifests.schema import BULKY_FIELDS
from ....manifests.settings import Range
from ..candidates import CandidateClip
from ..measured_clip import MeasuredClip
from ..metric import Limit, Metric, MetricFamily, Value
from ..observer import TrackObservations


def measure(clip: MeasuredClip) -> Mapping[str, Value]:
    """Measure the face's picture, and what of the clip's frames is cut or damaged."""
    patches = np.stack(clip.seen.patches[clip.local]).astype(np.float32)
    return {
        **measure_picture(clip.piece, clip.seen),
        "motion": float(np.abs(np.diff(patches, axis=0)).mean()) if len(patches) > 1 else 0.0,
        "max_cut_score": clip.max_cut_score,
        "missing_share": clip.num_stale / clip.piece.num_frames,
    }


def measure_picture(piece: CandidateClip, seen: TrackObservations) -> dict[str, Value]:
    """Return sharpness, light and rating of the face, and its thumbnail nearest to the middle of the clip."""
    looks = [look for frame, look in seen.looks.items() if piece.start_frame <= frame < piece.end_frame]
    middle = (piece.start_frame + piece.end_frame) // 2
    ratings = [rating for frame, rating in seen.ratings.items() if piece.start_frame <= frame < piece.end_frame]
    nearest = min(seen.thumbnails, key=lambda frame: abs(frame - middle), default=None)
    row: dict[str, Value] = {
        "iqa": float(np.median(ratings)) if ratings else None,
        "thumbnail": None if nearest is None else seen.thumbnails[nearest],
    }
    if looks:
        names = ("sharpness", "brightness", "contrast")
        row |= {name: float(np.median([getattr(look, name) for look in looks])) for name in names}
    return row


def _quality_limit(name: str, default: float, high: float, doc: str, order: int, *, off_at_zero: bool = False) -> Limit:
    return Limit(
        name=name,
        default=default,
        range=Range(0, high),
        doc=doc,
        side="max" if name.startswith("max") else "min",
        reason="low_visual_quality",
        order=order,
        off_at_zero=off_at_zero,
    )


FAMILY = MetricFamily(
    measure=measure,
    metrics=(
        Metric(
            name="sharpness",
            doc="variance of the Laplacian of the face at 192 px",
            order=220,
            range=(0, None),
            title="Sharpness",
            group="Picture",
            figure=60,
            limits=(
                _quality_limit(
                    "min_sharpness", 15.0, 1_000_000, "Variance of the Laplacian of the face at 192 px.", 110
                ),
            ),
        ),
        Metric(
            name="brightness",
            doc="mean grey level of the face",
            order=230,
            unit="grey level",
            range=(0, 255),
            title="Brightness",
            group="Picture",
            figure=70,
            limits=(
                _quality_limit("min_brightness", 25.0, 255, "Mean grey level of the face, 0-255.", 120),
                _quality_limit("max_brightness", 235.0, 255, "Mean grey level of the face, 0-255.", 130),
            ),
        ),
        Metric(
            name="contrast",
            doc="deviation of the grey levels of the face",
            order=240,
            unit="grey level",
            range=(0, 255),
            title="Contrast",
            group="Picture",
            figure=80,
        ),
        Metric(
            name="iqa",
            doc="how much more the face looks like a good photo than a bad one to CLIP (`quality.iqa=clip_iqa`)",
            order=250,
            range=(0, 1),
            title="Rating by CLIP-IQA",
            group="Picture",
            figure=90,
            limits=(
                _quality_limit(
                    "min_iqa",
                    0.0,
                    1,
                    "CLIP's rating of the face as a good photo, 0-1 (needs quality.iqa). 0: not judged.",
                    140,
                    off_at_zero=True,
                ),
            ),
        ),
        Metric(
            name="motion",
            doc="mean change of the mouth picture from frame to frame",
            order=260,
            unit="grey level",
            range=(0, 255),
            title="Motion of the mouth picture",
            group="Picture",
            figure=100,
            limits=(
                Limit(
                    name="min_motion",
                    default=0.02,
                    range=Range(0, 255),
                    doc="Mean change of the mouth picture from frame to frame, grey levels; a still picture has 0.",
                    side="min",
                    reason="static_video",
                    order=100,
                ),
            ),
        ),
        Metric(name="max_cut_score", doc="largest score of a cut inside the clip", order=270, range=(0, None)),
        Metric(
            name="missing_share",
            doc="frames whose own picture was damaged, so that an older one is shown",
            order=280,
            range=(0, 1),
            limits=(
                Limit(
                    name="max_missing_share",
                    default=MISSING_SHARE,
                    range=Range(0, MISSING_SHARE),
                    doc="Share of the clip's frames that could not be decoded; the picture before is shown instead.",
                    side="max",
                    reason="frame_count_mismatch",
                    order=20,
                ),
            ),
        ),
        Metric(name="thumbnail", type=BULKY_FIELDS["thumbnail"], doc="JPEG of the face", order=420),
    ),
)
