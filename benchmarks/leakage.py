"""Mouth signal, crop leakage and offset estimate on real talkers: the tables of docs/leakage.md and docs/sync.md.

Run: python benchmarks/leakage.py [--clips ../shared/media] [--weights ../shared/weights]
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import uniform_filter1d

from hs_data.manifests.records import SAMPLES_PER_FRAME
from hs_data.manifests.schema import CROP_POLICIES
from hs_data.pipeline import crop, leakage
from hs_data.pipeline.faces import mouth
from hs_data.pipeline.faces.detect import Detections, FaceDetector, FacesConfig, detect_scaled
from hs_data.pipeline.media import audio, decode
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.models.haar import HaarDetector
from hs_data.pipeline.models.yunet import YuNetDetector
from hs_data.pipeline.sync import correlation, estimate

SHARED = Path(__file__).resolve().parents[2] / "shared"
STRIDE = 5
"""Frames between detections, as the pipeline has it."""
MAX_FRAMES = 750
OBAMA = [f"FuxiVirtualHuman__styletalk_Obama_clip{i}_muxed.mp4" for i in (1, 2, 3)]
ANDREW = [f"FuxiVirtualHuman__styletalk_andrew_clip_{i}_muxed.mp4" for i in (1, 2)]
NOEM = "FuxiVirtualHuman__styletalk_KristiNoem_muxed.mp4"
ANCHOR = "R-V-Abhishek__Syncnet_FCN__data_example.avi"
DELAYED = [f"R-V-Abhishek__Syncnet_FCN__demo_output_test_offset_{frames}.avi" for frames in (5, 12)]
SENTENCES = ("bbaf2n", "lbbc2a", "lwbsza", "pwij3p", "sbia1a", "swiz3n")
GRID = [f"rizkiarm__LipNet__evaluation_samples_GRID_{sentence}.mpg" for sentence in SENTENCES]
CAR = [f"X-LANCE__MSDWILD__samples_demo1_speaking_mp4s_{i}.mp4" for i in (0, 3)]
SILENT = [f"X-LANCE__MSDWILD__samples_demo1_silence_mp4s_{i}.mp4" for i in (3, 9, 11, 12)]
VASA = [f"tencent-ailab__V-Express__test_samples_vasa-1_{i}_gt.mp4" for i in ("11", "3")]
OFFSETS = ("-200ms", "-80ms", "+40ms", "+120ms", "+320ms")
"""Known delays of the sound of `derived__dev_off*` against `derived__dev_base`."""


@dataclass
class Clip:
    """One talker as the pipeline sees them; T frames."""

    name: str
    boxes: list[np.ndarray] = field(default_factory=list)
    landmarks: list[np.ndarray] = field(default_factory=list)
    patches: dict[str, list[np.ndarray]] = field(default_factory=lambda: {"every": [], "fifth": [], "haar": []})
    pcm: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))

    def geometry(self, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [T, 4] and landmarks [T, 5, 2], detected on every n-th frame."""
        return between(np.stack(self.boxes), stride), between(np.stack(self.landmarks), stride)

    def opening(self, kind: str) -> np.ndarray:
        """The pixel signal [T]."""
        return mouth.opening(np.stack(self.patches[kind]))


def between(values: np.ndarray, stride: int) -> np.ndarray:
    """Keep every n-th row and the last one, and draw lines between."""
    keys = np.unique([*range(0, len(values), stride), len(values) - 1])
    columns = values[keys].reshape(len(keys), -1).T
    frames = np.arange(len(values))
    return np.stack([np.interp(frames, keys, column) for column in columns], axis=1).reshape(values.shape)


def watch(path: Path, yunet: FaceDetector, haar: FaceDetector) -> Clip:
    """Decode once; detect with YuNet on every frame and with Haar on every fifth, and take all three kinds of patch."""
    clip, video, box = Clip(path.name), probe(path), None
    window: list[np.ndarray] = []
    end = min(video.num_frames, MAX_FRAMES)
    for frame in decode.frames(path, video, end_frame=end, config=decode.DecodeConfig()):
        _add_face(clip, detect_scaled(yunet, [frame.rgb], FacesConfig(backend="yunet"))[0])
        clip.patches["every"].append(mouth.measure(frame.rgb, clip.boxes[-1], clip.landmarks[-1]))
        window.append(frame.rgb)
        if frame.index % STRIDE == 0 or frame.index == end - 1:
            box = _take_window(clip, window, box, haar)
            window = []
    if video.audio_codec:
        clip.pcm = audio.read(path, video, start_frame=0, end_frame=end)
    return clip


def _add_face(clip: Clip, found: Detections) -> None:
    """Take the largest face at first, then the one nearest to the last; a missed one stays where it was."""
    if not len(found.boxes):
        clip.boxes.append(clip.boxes[-1])
        clip.landmarks.append(clip.landmarks[-1])
        return
    heights = found.boxes[:, 3] - found.boxes[:, 1]
    badness = np.abs(found.boxes - clip.boxes[-1]).sum(axis=1) if clip.boxes else -heights
    assert found.landmarks is not None
    clip.boxes.append(found.boxes[badness.argmin()])
    clip.landmarks.append(found.landmarks[badness.argmin()])


def _take_window(clip: Clip, window: list[np.ndarray], box: np.ndarray | None, haar: FaceDetector) -> np.ndarray | None:
    """Take the patches of frames between two detections; Haar boxes as they are, a missed one stays where it was."""
    first = len(clip.patches["fifth"])
    found = detect_scaled(haar, [window[-1]], FacesConfig())[0].boxes
    new = found[np.argmax(found[:, 3])] if len(found) else box
    old = box if box is not None else new
    points = [clip.landmarks[max(first - 1, 0)], clip.landmarks[-1]]
    for place, rgb in enumerate(window):
        part = (place + 1) / len(window)
        drawn = points[0] + part * (points[1] - points[0])
        clip.patches["fifth"].append(mouth.measure(rgb, clip.boxes[-1], drawn))
        if old is not None and new is not None:
            clip.patches["haar"].append(mouth.measure(rgb, old + part * (new - old), None))
    return new


def truth_of(clip: Clip, truth: dict[str, np.ndarray]) -> np.ndarray:
    """Mouth opening of the landmark model on our frames, [T] (shorter than the clip where it stops early)."""
    frames, opening = truth[clip.name].T
    return np.interp(np.arange(min(len(clip.boxes), int(frames[-1]) + 1)), frames, opening)


def fast(signal: np.ndarray) -> np.ndarray:
    """Take off the mean of the surrounding second."""
    return signal - uniform_filter1d(signal.astype(np.float64), 25, mode="reflect")


def mouth_table(clips: list[Clip], truth: dict[str, np.ndarray]) -> Iterator[str]:
    """Correlation of the pixel signal with the landmark model."""
    yield "| patches placed by | clips | median r | median r, 1 s high-passed | least | at or above 0.6 |"
    yield "|---|---|---|---|---|---|"
    names = {"every": "YuNet, every frame", "fifth": "YuNet, every 5th frame", "haar": "Haar box, every 5th frame"}
    for kind, name in names.items():
        pairs = []
        for clip in clips:
            real = truth_of(clip, truth)
            if len(clip.patches[kind]) >= len(real):
                seen = clip.opening(kind)[: len(real)]
                pairs.append((np.corrcoef(seen, real)[0, 1], np.corrcoef(fast(seen), fast(real))[0, 1]))
        raw, high = np.array(pairs).T
        yield (
            f"| {name} | {len(pairs)} | {np.median(raw):.2f} | {np.median(high):.2f} | {high.min():.2f} "
            f"| {np.mean(high >= 0.6):.0%} |"
        )


def leakage_table(clips: list[Clip], truth: dict[str, np.ndarray], stride: int, smooth: float) -> Iterator[str]:
    """Leakage of each policy with the true and with the pixel opening, and with the true one moved in time."""
    yield "| policy | score, true opening | over 0.2 | score, pixel opening | over 0.2 | moved in time | jitter, px |"
    yield "|---|---|---|---|---|---|---|"
    for policy in CROP_POLICIES:
        config = crop.CropConfig(policy=policy, smooth_frames=smooth)
        rows = []
        for clip in clips:
            real = truth_of(clip, truth)
            boxes, points = (values[: len(real)] for values in clip.geometry(stride))
            crops = crop.crop_boxes(boxes, points, config)
            seen = clip.opening("every" if stride == 1 else "fifth")[: len(real)]
            signals = [real, seen, np.roll(real, len(real) // 3), np.roll(real, len(real) * 2 // 3)]
            scores = [leakage.leakage(crops, points, boxes, signal).score for signal in signals]
            rows.append([*scores[:2], np.mean(scores[2:]), crop.jitter(crops)])
        real, seen, moved, tremble = np.array(rows).T
        yield (
            f"| {policy} | {real.mean():.2f} | {np.mean(real > 0.2):.0%} | {seen.mean():.2f} "
            f"| {np.mean(seen > 0.2):.0%} | {moved.mean():.2f} | {np.median(tremble):.1f} |"
        )


def lead_table(clips: dict[str, Clip]) -> Iterator[str]:
    """Lead of whole clips."""
    yield "| clip | seconds | lead, frames | confidence | spread, frames |\n|---|---|---|---|---|"
    for clip in clips.values():
        if len(clip.pcm):
            found = correlation.estimate(clip.opening("fifth"), clip.pcm, estimate.SyncConfig())
            spread = "" if found.spread_frames is None else f"{found.spread_frames:.1f}"
            seconds, confidence = len(clip.boxes) / 25, found.confidence
            yield f"| {clip.name} | {seconds:.1f} | {found.audio_lead_frames:+.2f} | {confidence:.2f} | {spread} |"


def duration_table(clips: list[Clip]) -> Iterator[str]:
    """Pieces of long clips against the whole clip, and against other people's sound and their own played backwards."""
    yield (
        "| piece, s | pieces | median error, frames | within 1 | within 1 where confidence >= 0.3 (share) "
        "| median confidence: own / wrong sound | 95 % of wrong below | own above that | AUC |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    config = estimate.SyncConfig()
    whole = {
        clip.name: correlation.estimate(clip.opening("fifth"), clip.pcm, config).audio_lead_frames for clip in clips
    }
    for seconds in (3, 4, 5, 6, 8, 10, 15):
        own, wrong = [], []
        for clip, start, sound in pieces(clips, seconds * 25):
            opening = clip.opening("fifth")[start : start + seconds * 25]
            found = [correlation.estimate(opening, pcm, config) for pcm in sound]
            own.append((found[0].audio_lead_frames - whole[clip.name], found[0].confidence))
            wrong += [other.confidence for other in found[1:]]
        error, sure = np.abs(np.array(own)[:, 0]), np.array(own)[:, 1]
        limit, good = np.percentile(wrong, 95), sure >= 0.3
        yield (
            f"| {seconds} | {len(own)} | {np.median(error):.2f} | {np.mean(error <= 1):.0%} "
            f"| {np.mean(error[good] <= 1):.0%} ({good.mean():.0%}) | {np.median(sure):.2f} / {np.median(wrong):.2f} "
            f"| {limit:.2f} | {np.mean(sure > limit):.0%} | {np.mean(sure[:, None] > np.array(wrong)):.2f} |"
        )


def noise_table(clips: list[Clip]) -> Iterator[str]:
    """Leads with white noise laid over the sound, against those without."""
    yield "| speech over noise, dB | leads moved by at most 1 frame | median confidence |\n|---|---|---|"
    rng, config = np.random.default_rng(0), estimate.SyncConfig()
    clean = [correlation.estimate(clip.opening("fifth"), clip.pcm, config).audio_lead_frames for clip in clips]
    for level_db in (20, 10, 0):
        found = []
        for clip in clips:
            sound = clip.pcm + rng.normal(0, clip.pcm.std() * 10 ** (-level_db / 20), len(clip.pcm))
            noisy = np.clip(sound, -32768, 32767).astype(np.int16)
            found.append(correlation.estimate(clip.opening("fifth"), noisy, config))
        moved = np.abs(np.array([f.audio_lead_frames for f in found]) - clean)
        yield f"| {level_db} | {np.mean(moved <= 1):.0%} | {np.median([f.confidence for f in found]):.2f} |"


def pieces(clips: list[Clip], length: int) -> Iterator[tuple[Clip, int, list[np.ndarray]]]:
    """Yield each piece with its own sound first, then sound that cannot belong to it: reversed, and other clips'."""
    for place, clip in enumerate(clips):
        for start in range(0, len(clip.boxes) - length + 1, length):
            span = slice(start * SAMPLES_PER_FRAME, (start + length) * SAMPLES_PER_FRAME)
            others = [clips[(place + step) % len(clips)] for step in (3, 5, 7)]
            sound = [other.pcm[-length * SAMPLES_PER_FRAME :] for other in others if len(other.boxes) >= length]
            yield clip, start, [clip.pcm[span], clip.pcm[span][::-1].copy(), *sound]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=SHARED / "media", help="folder of the test clips")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights", help="folder of the YuNet file")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    truth = dict(np.load(args.clips / "mouth_opening.npz"))
    real = [name for name, rows in truth.items() if len(rows) >= 100 and np.isfinite(rows).all()]
    derived = ["derived__dev_base.mp4", *(f"derived__dev_off{name}.mp4" for name in OFFSETS)]
    wrong = ["derived__dev_swapped.mp4", "derived__dev_reversedaudio.mp4"]
    yunet = YuNetDetector(args.weights / "face_detection_yunet_2023mar.onnx", min_score=0.6)
    names = dict.fromkeys([*real, *GRID, *VASA, *CAR, *DELAYED, *derived, *wrong, *SILENT])
    clips = {name: watch(args.clips / name, yunet, HaarDetector()) for name in names}
    talkers = [clips[name] for name in real]
    mouths = [*talkers, *(clips[name] for name in GRID)]
    show(f"Mouth signal, {len(real)} talkers and {len(GRID)} of GRID", mouth_table(mouths, truth))
    for stride, smooth in ((1, 0.0), (1, 2.0), (5, 0.0), (5, 2.0)):
        title = f"Leakage, {len(real)} talkers, one detection in {stride} frames, smooth_frames = {smooth:g}"
        show(title, leakage_table(talkers, truth, stride, smooth))
    show("Lead of whole clips", lead_table(clips))
    long = [*OBAMA, *ANDREW, NOEM, ANCHOR, *CAR, *VASA]
    talks = [clips[name] for name in sorted(long)]
    show("Lead by duration", duration_table(talks))
    show(f"Lead under noise, {len(talks)} clips of 10 s and more", noise_table(talks))


def show(title: str, lines: Iterator[str]) -> None:
    """Print one table."""
    print(f"\n## {title}\n", *lines, sep="\n", flush=True)


if __name__ == "__main__":
    main()
