"""Dissolves between talkers against real clips of one talker: the tables of docs/identity.md.

Run: python benchmarks/identity.py (2 CPU cores, about 4 minutes, real clips and YuNet of ../shared)
"""

import itertools
from pathlib import Path

import cv2
import numpy as np
from processes import MEDIA, WEIGHTS

from hs_data.manifests.errors import MediaError
from hs_data.pipeline.dissolves import DissolveDetector
from hs_data.pipeline.faces.detect import FacesConfig
from hs_data.pipeline.faces.tracks import TracksConfig
from hs_data.pipeline.media import decode
from hs_data.pipeline.media.costs import Costs
from hs_data.pipeline.media.decode import DecodeConfig
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.models.yunet import YuNetDetector
from hs_data.pipeline.scenes import ScenesConfig
from hs_data.pipeline.score.observer import VideoObserver

YUNET = WEIGHTS / "face_detection_yunet_2023mar.onnx"
CROSSFADE = "derived__dev_crossfade.mp4"
LENGTHS = (4, 10, 25, 40)
NUM_FRAMES = 90
SIDE = 256
TALKERS = [
    "FACEGOOD__FACEGOOD-Audio2Face__code_test_AiSpeech_res_zismeif_first6s.mp4",
    "FuxiVirtualHuman__styletalk_KristiNoem_muxed.mp4",
    "FuxiVirtualHuman__styletalk_Obama_clip2_muxed.mp4",
    "FuxiVirtualHuman__styletalk_andrew_clip_1_muxed.mp4",
    "KwaiVGI__LivePortrait__assets_examples_driving_d12.mp4",
    "OpenTalker__SadTalker__examples_ref_video_WDA_KatieHill_000_first4s.mp4",
    "OpenTalker__video-retalking__examples_face_1.mp4",
    "OpenTalker__video-retalking__examples_face_3.mp4",
    "OpenTalker__video-retalking__examples_face_5.mp4",
    "R-V-Abhishek__Syncnet_FCN__data_example.avi",
    "ali-vilab__dreamtalk__data_style_clip_video_M030_front_neutral_level1_001.mp4",
    "bytedance__LatentSync__assets_demo1_video_first6s.mp4",
    "bytedance__LatentSync__assets_demo3_video_first8s.mp4",
    "rizkiarm__LipNet__evaluation_samples_GRID_bbaf2n.mpg",
    "rizkiarm__LipNet__evaluation_samples_GRID_lbbc2a.mpg",
    "rizkiarm__LipNet__evaluation_samples_GRID_lwbsza.mpg",
    "rizkiarm__LipNet__evaluation_samples_GRID_pwij3p.mpg",
    "rizkiarm__LipNet__evaluation_samples_GRID_sbia1a.mpg",
    "rizkiarm__LipNet__evaluation_samples_GRID_swiz3n.mpg",
    "tencent-ailab__V-Express__test_samples_vasa-1_3_gt.mp4",
]


def watch(path: Path, detector: YuNetDetector) -> tuple[float, list[range]]:
    """Return the largest score inside a track that is long enough to count, and the changes in such tracks."""
    parts = {"scenes": ScenesConfig(), "tracks": TracksConfig()}
    footage = VideoObserver(detector, faces=FacesConfig(backend="yunet"), costs=Costs(), **parts)
    footage.watch(decode.frames(path, probe(path), config=DecodeConfig()), 0)
    tracks = [
        range(t.start_frame, t.end_frame) for t in footage.tracks if len(t.boxes) >= TracksConfig().min_track_frames
    ]
    steps = np.arange(0.005, 1.2, 0.005)
    inside = [step for step in steps if _inside(footage._dissolve_detector.changes(footage.cuts, step), tracks)]
    return max(inside, default=0.0), _inside(footage.changes, tracks)


def _inside(changes: list[range], tracks: list[range]) -> list[range]:
    return [c for c in changes if any(c.start < track.stop and c.stop > track.start for track in tracks)]


def real_clips(detector: YuNetDetector) -> None:
    found = []
    for path in sorted(MEDIA.iterdir()):
        try:
            found.append((*watch(path, detector), path.name))
        except MediaError:
            continue
    found.sort(reverse=True, key=lambda row: row[0])
    split = [(name, changes) for _, changes, name in found if changes]
    print(f"{len(found)} clips that decode; split: {split}")
    for score, _, name in found[:8]:
        print(f"  {score:.3f} {name}")


def talker(name: str, detector: YuNetDetector) -> np.ndarray:
    """Return frames [T, 256, 256, 3], the face 100 px high in the middle at the start."""
    frames = decode.frames(MEDIA / name, probe(MEDIA / name), config=DecodeConfig())
    pictures = [frame.rgb for frame in itertools.islice(frames, NUM_FRAMES)]
    shrink = min(1.0, 640 / max(pictures[0].shape))
    small = cv2.resize(pictures[0], None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    box = detector.detect([small])[0].boxes[0].astype(float) / shrink
    scale, centre = 100 / (box[3] - box[1]), (box[:2] + box[2:]) / 2
    matrix = np.array([[scale, 0, SIDE / 2 - scale * centre[0]], [0, scale, SIDE / 2 - scale * centre[1]]])

    def cut(picture: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)

    return np.stack([cut(picture) for picture in pictures])


def spliced(talkers: dict[str, np.ndarray]) -> None:
    """Dissolve every talker into every other one, so that the faces lie on each other."""
    pairs = list(itertools.permutations(talkers, 2))
    for length in LENGTHS:
        scores, num_found, num_covered = {}, 0, 0
        for first, second in pairs:
            before, after = talkers[first][-75:], talkers[second][:75]
            start = len(before) - length
            shares = ((np.arange(length) + 1) / (length + 1))[:, None, None, None]
            mixed = (before[start:] * (1 - shares) + after[:length] * shares).round().astype(np.uint8)
            detector = DissolveDetector()
            for frame, picture in enumerate([*before[:start], *mixed, *after[length:]]):
                detector.add(frame, picture)
            changes = detector.changes((), TracksConfig().max_dissolve)
            scores[first, second] = max(detector.scores.values())
            num_found += any(c.start < start + length and c.stop > start for c in changes)
            num_covered += any(c.start <= start and c.stop >= start + length for c in changes)
        values = np.array(list(scores.values()))
        found, covered = num_found / len(pairs), num_covered / len(pairs)
        low, middle = np.percentile(values, (2, 50))
        print(f"{length} frames, {len(pairs)} pairs: found {found:.1%}, covered {covered:.1%}", end="; ")
        print(f"least {values.min():.3f}, 2nd percentile {low:.3f}, median {middle:.3f}; missed:")
        for pair, score in scores.items():
            if score <= TracksConfig().max_dissolve:
                print("  ", *pair)


def main() -> None:
    detector = YuNetDetector(YUNET, min_score=0.6)
    spliced({name: talker(name, detector) for name in TALKERS})
    real_clips(detector)


if __name__ == "__main__":
    main()
