"""Score of the detector as a metric: its median, its limit, and its way into the table of clips."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from hs_data.manifests.dataset import open_dataset
from hs_data.pipeline.config import Config
from hs_data.pipeline.faces.tracks import Track
from hs_data.pipeline.score.measured_clip import MeasuredClip
from hs_data.pipeline.score.metrics import face_score
from hs_data.pipeline.score.registry import CLIP_SCHEMA, REASONS
from hs_data.pipeline.select import SelectConfig, select


def _measured(scores: Sequence[float], local: slice) -> object:
    clip = SimpleNamespace(track=Track(number=0, start_frame=7, scores=list(scores)), local=local)
    return face_score.measure(cast(MeasuredClip, clip))["face_score"]


def test_it_is_the_median_of_what_was_detected_inside_the_clip():
    scores = [0.1, np.nan, 0.7, np.nan, 0.9, 0.8, 0.2]
    assert _measured(scores, slice(1, 6)) == pytest.approx(0.8)
    assert _measured(scores, slice(0, 3)) == pytest.approx(0.4)


def test_it_is_null_where_no_detector_was_asked():
    assert _measured([np.nan] * 5, slice(0, 5)) is None


def test_a_limit_drops_what_lies_below_it_and_is_off_by_default(demo_dataset):
    clips = open_dataset(demo_dataset).clips(schema=CLIP_SCHEMA)
    scores = np.array([score for score in clips["face_score"].to_pylist() if score is not None])
    assert len(scores) == sum(track is not None for track in clips["track"].to_pylist())
    assert ((scores > Config().faces.min_score) & (scores <= 1)).all()
    limit = float(np.median(scores))
    assert 0 < (scores < limit).sum() < len(scores)

    def unsure(config: SelectConfig) -> int:
        found = select(clips, config, "highsync")["failures"].to_pylist()
        return sum("uncertain_face" in [failure["reason"] for failure in failures] for failures in found)

    assert unsure(SelectConfig()) == 0
    assert unsure(SelectConfig(min_face_score=limit)) == (scores < limit).sum()
    assert REASONS["uncertain_face"] == "the detector is not sure that there is a face"
