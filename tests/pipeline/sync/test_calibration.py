"""Calibration: what is put in is found with its sign, a wrong estimator is seen to be wrong, and the report tells."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from hs_data.manifests.records import SAMPLES_PER_FRAME
from hs_data.pipeline.sync import calibration, speech
from hs_data.pipeline.sync.estimate import SyncConfig, SyncEstimate
from hs_data.pipeline.sync.lips import CONTEXT_FRAMES
from hs_data.pipeline.sync.speech import SpeechConfig


def talker(seed: int, seconds: int = 6, late: int = 0) -> calibration.Subject:
    """A mouth that opens for every hiss; the sound comes `late` frames after it."""
    random = np.random.default_rng(seed)
    times = np.arange(seconds * 16_000) / 16_000
    strength = np.interp(times, np.arange(0, seconds, 0.1), random.random(seconds * 10) ** 2)
    pcm = np.roll((strength * random.normal(0, 3000, len(times))).astype(np.int16), late * SAMPLES_PER_FRAME)
    opening = strength.reshape(-1, SAMPLES_PER_FRAME).mean(axis=1).astype(np.float32)
    return calibration.Subject(clip_id=f"clip{seed}", video_id=f"v{seed}", seen=opening, pcm=pcm)


@pytest.fixture(scope="module")
def talkers() -> list[calibration.Subject]:
    return [talker(seed) for seed in range(6)]


def test_what_is_cut_is_early_sound(talkers):
    """What is heard at a frame is what was heard `lead` frames later in the clip; nothing is put in."""
    subject = talkers[0]
    for lead in (-10, -3, 0, 7):
        seen, heard = calibration.cut(subject, lead, spans=0)
        assert len(heard) == SAMPLES_PER_FRAME * len(seen) == SAMPLES_PER_FRAME * (150 - abs(lead))
        first = int(np.flatnonzero(subject.seen == seen[20])[0])
        assert (heard[20 * 640 : 21 * 640] == subject.pcm[(first + lead) * 640 : (first + lead + 1) * 640]).all()


def test_the_correlation_finds_what_is_put_in(talkers):
    found = calibration.run(talkers, calibration.estimator(SyncConfig(), SpeechConfig(), None), spans=0)
    assert (found.num_clips, len(found.trials), len(found.foreign)) == (6, 6 * 21, 6)
    rows = list(calibration.by_lead(found))
    assert [row["lead"] for row in rows] == list(calibration.LEADS)
    assert all(row["recall"] == 1 and abs(row["bias"]) < 0.7 for row in rows)
    table = calibration.table(found, [0.3])
    assert [row["threshold"] for row in table] == sorted({row["threshold"] for row in table})
    assert table[0] | {"threshold": 0.0, "share": 1.0, "recall": 1.0, "followed": 1.0, "foreign": 1.0} == table[0]
    assert all(a["trials"] >= b["trials"] for a, b in itertools.pairwise(table))
    strict = next(row for row in table if row["threshold"] == 0.3)
    assert strict["share"] == 1.0
    assert strict["foreign"] <= 1 / 6 + 1e-3


def test_a_dataset_that_is_out_of_sync_is_seen(talkers):
    """The estimator follows what is put in, and yet its leads are not those of sound that is in sync."""
    late = [talker(seed, late=3) for seed in range(3)]
    found = calibration.run(late, calibration.estimator(SyncConfig(), SpeechConfig(), None), spans=0, leads=(-4, 0, 4))
    row = calibration.table(found, [])[0]
    assert (row["recall"], row["followed"]) == (0.0, 1.0)
    assert row["median_error"] == pytest.approx(3, abs=0.5)
    assert [round(row["bias"]) for row in calibration.by_lead(found)] == [-3, -3, -3]


def test_an_estimator_that_knows_nothing_is_seen(talkers):
    random = np.random.default_rng(0)

    def guess(seen: np.ndarray, pcm: np.ndarray) -> SyncEstimate:
        found = {"audio_lead_frames": float(random.uniform(-15, 15)), "confidence": float(random.random())}
        return SyncEstimate(**found, curve=np.zeros(0, np.float32), spread_frames=None, trust="high")

    row = calibration.table(calibration.run(talkers, guess, spans=0), [])[0]
    assert row["recall"] < 0.2
    assert row["median_error"] > 4


class Ears:
    """Hears the level of five frames, as the lips below show it."""

    def embed_lips(self, crops: np.ndarray) -> np.ndarray:
        raise AssertionError("the lips are given")

    def embed_sound(self, pcm: np.ndarray) -> np.ndarray:
        return windows(np.abs(pcm.reshape(-1, SAMPLES_PER_FRAME).astype(np.float32)).mean(axis=1) / 2000, 5)


def windows(signal: np.ndarray, lost: int) -> np.ndarray:
    padded = np.pad(signal, (0, 5))
    return np.lib.stride_tricks.sliding_window_view(padded, 5)[: len(signal) - lost].astype(np.float32)


def test_a_network_finds_what_is_put_in(talkers, monkeypatch):
    monkeypatch.setattr(speech, "detect_speech", lambda pcm, config: np.ones(len(pcm) // SAMPLES_PER_FRAME, bool))
    ears = Ears()
    subjects = []
    for subject in talkers[:2]:
        level = np.abs(subject.pcm.reshape(-1, SAMPLES_PER_FRAME).astype(np.float32)).mean(axis=1) / 2000
        subjects.append(replace(subject, seen=windows(level, 4)))
    found = calibration.run(subjects, calibration.estimator(SyncConfig(), SpeechConfig(), ears), spans=CONTEXT_FRAMES)
    assert all(row["recall"] == 1 and abs(row["bias"]) < 0.3 for row in calibration.by_lead(found))
    monkeypatch.setattr(speech, "detect_speech", lambda pcm, config: np.zeros(len(pcm) // SAMPLES_PER_FRAME, bool))
    mute = calibration.run(subjects, calibration.estimator(SyncConfig(), SpeechConfig(), ears), spans=CONTEXT_FRAMES)
    assert (len(mute.trials), mute.num_unmeasured) == (0, 42)


def test_clips_too_short_for_the_largest_lead_are_left_out(talkers):
    short = talker(9, seconds=2)
    found = calibration.run(
        [short, talkers[0]], calibration.estimator(SyncConfig(), SpeechConfig(), None), spans=0, leads=(0, 10)
    )
    assert (found.num_clips, len(found.trials), found.foreign) == (1, 2, [])


def test_thresholds_are_round_and_hold_those_in_use():
    scale = calibration.thresholds(np.linspace(0, 9.3, 200), [3.0, 0.27])
    assert scale == [0.0, 0.27, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert calibration.thresholds(np.zeros(3), [0.3])[0] == 0.0
