"""Calibration: known leads put into kept clips, and how well the dataset's own sync estimator finds them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from ...manifests.records import SAMPLES_PER_FRAME
from ...manifests.status import counted
from ..media.source_clip import SourceClip
from . import correlation, distances, lip_crops, speech
from .estimate import MIN_FRAMES, SyncConfig, SyncEstimate, SyncNetwork
from .lips import CONTEXT_FRAMES, LipStream

LEADS = tuple(range(-10, 11))
"""Leads that are put in, frames: LatentSync keeps up to 6, and ten leave room to the 15 that are looked for."""
WITHIN_FRAMES = 1.0
"""A lead this near is found: what `sync.dead_band_frames` leaves alone."""
MOST_STEPS = 9
"""Thresholds of the table that are taken from what was measured."""
Estimate = Callable[[np.ndarray, np.ndarray], SyncEstimate]


class ThresholdRow(TypedDict):
    """Trials that reach a threshold of the confidence, and how right they are; see `table`."""

    threshold: float
    trials: int
    share: float
    foreign: float | None
    recall: float | None
    followed: float | None
    median_error: float | None
    p95_error: float | None


class LeadRow(TypedDict):
    """Trials of one lead that was put in."""

    lead: int
    recall: float
    bias: float


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A kept clip: what its estimator sees of the mouth, and the sound that is stored of it."""

    clip_id: str
    video_id: str
    seen: np.ndarray
    """[T] mouth opening, or [T - 4, D] vectors of a network."""
    pcm: np.ndarray
    """[640 T] int16 at 16 kHz."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.pcm) // SAMPLES_PER_FRAME


@dataclass(frozen=True, kw_only=True)
class LeadTrial:
    """One lead put into one clip."""

    lead: int
    """Lead that was put in, frames; positive: the sound was made early."""
    found: float
    """Lead that the estimator found, frames."""
    moved: float
    """Lead found here less the lead found in the untouched clip, frames: right when it equals `lead`."""
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials of all clips."""

    trials: list[LeadTrial]
    foreign: list[float]
    """Confidence of each clip with the sound of a clip of another video."""
    num_clips: int
    num_unmeasured: int
    """Trials that the estimator called too short of speech; they count as no trial."""


def estimator(sync: SyncConfig, voice: speech.SpeechConfig, network: SyncNetwork | None) -> Estimate:
    """Return what measures a lead of `seen` frames and their samples as a build with these settings does."""
    if network is None:
        return lambda seen, pcm: correlation.estimate(seen, pcm, sync)

    def estimate(seen: np.ndarray, pcm: np.ndarray) -> SyncEstimate:
        voiced = speech.detect_speech(pcm, voice)
        return distances.estimate(seen, network.embed_sound(pcm), voiced, sync)

    return estimate


def watch_lips(clip: SourceClip, boxes: np.ndarray, network: SyncNetwork) -> np.ndarray:
    """Return a network's vectors [T - 4, D] of the lips of a clip in its source.

    Args:
        clip: where it lies.
        boxes: [T, 4] float32 of the face, source px.
        network: the sync network.
    """
    stream = LipStream(network)
    for index, frame in enumerate(clip.frames()):
        stream.add(lip_crops.crop(frame.rgb, *lip_crops.place(boxes, index)))
    return stream.finish()


def cut(subject: Subject, lead: int, *, spans: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what is seen and the samples that are heard with it when the sound comes `lead` frames early.

    Both are cut out of the clip, so no silence is put in; the clip is |lead| frames shorter.

    Args:
        subject: the clip.
        lead: frames; positive: what is heard at a frame belongs to the frame that is seen `lead` later.
        spans: frames after its own that an entry of `seen` looks at (`EXTRA_FRAMES`).
    """
    first, last = max(0, -lead), subject.num_frames - max(0, lead)
    heard = subject.pcm[(first + lead) * SAMPLES_PER_FRAME : (last + lead) * SAMPLES_PER_FRAME]
    return subject.seen[first : last - spans], heard


def run(subjects: Sequence[Subject], estimate: Estimate, *, spans: int, leads: Sequence[int] = LEADS) -> Trials:
    """Put every lead into every clip, and the sound of others; equal clips give equal trials.

    Args:
        subjects: the clips; those that are too short for the largest lead are left out.
        estimate: the estimator.
        spans: 0 for a mouth opening, `CONTEXT_FRAMES` for vectors.
        leads: what to put in, frames.
    """
    reach = max(abs(lead) for lead in leads)
    long = [subject for subject in subjects if subject.num_frames - reach >= MIN_FRAMES]
    trials, foreign, num_unmeasured = [], [], 0
    for index, subject in enumerate(counted(long, "clips tried")):
        own = estimate(*cut(subject, 0, spans=spans))
        for lead in leads:
            found = estimate(*cut(subject, lead, spans=spans))
            if found.speech_s == 0 or own.speech_s == 0:
                num_unmeasured += 1
                continue
            moved = found.audio_lead_frames - own.audio_lead_frames
            trials.append(LeadTrial(lead=lead, found=found.audio_lead_frames, moved=moved, confidence=found.confidence))
        other = next((o for o in [*long[index + 1 :], *long[:index]] if o.video_id != subject.video_id), None)
        if other is not None:
            foreign.append(_swapped(subject, other, estimate, spans))
    return Trials(trials=trials, foreign=foreign, num_clips=len(long), num_unmeasured=num_unmeasured)


def _swapped(subject: Subject, other: Subject, estimate: Estimate, spans: int) -> float:
    length = min(subject.num_frames, other.num_frames)
    return estimate(subject.seen[: length - spans], other.pcm[: length * SAMPLES_PER_FRAME]).confidence


def table(found: Trials, in_use: Sequence[float]) -> list[ThresholdRow]:
    """Return a row per confidence threshold: how much reaches it, and how right that is.

    Args:
        found: the trials; at least one.
        in_use: thresholds that the dataset's settings have, to be among the rows.

    Returns:
        `share`: of the trials that reach the threshold. `recall`: of those, found within a frame of what was put in,
        the stored sound taken to be in sync. `followed`: of those, moved by what was put in, whatever was found before.
        `median_error`, `p95_error`: frames. `foreign`: share of the clips with foreign sound that reach it.
    """
    confidence = np.array([trial.confidence for trial in found.trials])
    error = np.abs([trial.found - trial.lead for trial in found.trials])
    moved = np.abs([trial.moved - trial.lead for trial in found.trials])
    foreign = np.array(found.foreign)
    return [_row(threshold, confidence, error, moved, foreign) for threshold in thresholds(confidence, in_use)]


def thresholds(confidence: np.ndarray, in_use: Sequence[float]) -> list[float]:
    """Return round thresholds from 0 to where a twentieth of the trials is left, and those in use."""
    high = max(float(np.quantile(confidence, 0.95)), 1e-3)
    rough = high / MOST_STEPS
    decade = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= rough)
    scale = [round(float(step * number), 6) for number in range(int(high / step) + 1)]
    return sorted({0.0, *scale, *in_use})


def _row(
    threshold: float, confidence: np.ndarray, error: np.ndarray, moved: np.ndarray, foreign: np.ndarray
) -> ThresholdRow:
    reached = confidence >= threshold
    row = ThresholdRow(
        threshold=threshold,
        trials=int(reached.sum()),
        share=round(float(reached.mean()), 4),
        foreign=round(float((foreign >= threshold).mean()), 4) if len(foreign) else None,
        recall=None,
        followed=None,
        median_error=None,
        p95_error=None,
    )
    if reached.any():
        median, high = np.percentile(error[reached], (50, 95))
        row["recall"] = round(float((error[reached] <= WITHIN_FRAMES).mean()), 4)
        row["followed"] = round(float((moved[reached] <= WITHIN_FRAMES).mean()), 4)
        row["median_error"], row["p95_error"] = round(float(median), 3), round(float(high), 3)
    return row


def by_lead(found: Trials) -> Iterator[LeadRow]:
    """Yield a row per lead that was put in: share found within a frame, and the median of what was found less it."""
    for lead in sorted({trial.lead for trial in found.trials}):
        errors = np.array([trial.found - lead for trial in found.trials if trial.lead == lead])
        recall = round(float((np.abs(errors) <= WITHIN_FRAMES).mean()), 4)
        yield {"lead": lead, "recall": recall, "bias": round(float(np.median(errors)), 3)}


EXTRA_FRAMES = {"correlation": 0, "syncnet": CONTEXT_FRAMES}
"""Frames after its own that an entry of the estimator's input looks at: a network sees five at once."""
