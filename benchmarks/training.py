"""Train the tiny HighSync on the demo, both stages, and see whether it listens: `python benchmarks/training.py`.

Held-out clips tell how much the loss grows with another clip's sound; a generated video, whether its mouth follows the
sound that it was given more than another one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hs_data.manifests.dataset import open_dataset
from hs_data.pipeline.sync import correlation
from hs_data.pipeline.sync.estimate import SyncConfig
from hs_data.trainer.metrics import read_metrics

VIDEO, SOUND, OTHER = "sound_late_2.mp4", "talker_a_long_wide.mp4", "talker_b_stereo_48k.mp4"
"""A held-out video, a sound of a held-out video that it is given, and a sound that it is not given."""


def run(*words: object) -> float:
    """Run hs-data and return its seconds."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "hs_data.cli", *map(str, words)], check=False, capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.decode())
    return time.perf_counter() - began


def build(videos: Path, dataset: Path) -> None:
    """Score a folder of films with the demo's models, whatever they are like."""
    words = ["build", "--source", "folder", "--input", videos, "--output", dataset, "--preset", "embedded"]
    run(*words, "--executor", "local", "--set", "select.min_face_px=0")


def follows(mouth: np.ndarray, pcm: np.ndarray) -> tuple[float, float]:
    """Return how well a mouth [T] goes with a sound at the best shift of 3 frames, and that shift, frames."""
    length = min(len(mouth), len(pcm) // 640)
    found = correlation.estimate(mouth[:length], pcm[: length * 640], SyncConfig(max_shift_frames=3))
    return found.confidence, found.audio_lead_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where data and runs are kept; what is there is used")
    parser.add_argument("--stage1", type=int, default=400, help="steps")
    parser.add_argument("--stage2", type=int, default=120, help="steps")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        measure(options.folder or Path(temporary), options.stage1, options.stage2)


def measure(folder: Path, stage1: int, stage2: int) -> None:
    """Build, train, generate, and print what came out."""
    demo = folder / "demo"
    if not (demo / "dataset.json").is_file():
        run("build", "--source", "demo", "--output", demo, "--executor", "local")
    common = ["--size", "tiny", "--set", "data.num_val_samples=64", "--set", "run.validate_every=60"]
    for name, steps, more in (("stage1", stage1, ()), ("stage2", stage2, ("--init", folder / "stage1"))):
        if not (folder / name).exists():
            words = ["train", demo, "--recipe", f"highsync-{name}", "--steps", steps, "-o", folder / name]
            print(f"{name}: {steps} steps in {run(*words, *more, *common):.0f} s", flush=True)
        judged = [line for line in read_metrics(folder / name) if "val_gap" in line.values]
        for line in (judged[0], judged[-1]):
            shown = ", ".join(
                f"{name} {line.values[name]:.5f}" for name in ("val_loss", "val_gap", "val_gap_low", "val_gap_high")
            )
            print(f"  step {line.step}: {shown}")
    films = folder / "films"
    films.mkdir(exist_ok=True)
    sources = demo / "demo_videos"
    words = ["--video", sources / VIDEO, "--audio", sources / SOUND, "-o", films / "generated.mp4"]
    print(f"generate: {run('generate', folder / 'stage2', *words, '--window', 8, '--overlap', 2):.0f} s", flush=True)
    build(films, folder / "films-dataset")
    scores = open_dataset(folder / "films-dataset").clips(["mouth_opening", "start_frame"]).to_pylist()
    sounds = open_dataset(demo)
    clips = sounds.clips(["path", "clip_id", "start_frame"]).to_pylist()
    rows = {row["path"]: row["clip_id"] for row in clips if row["start_frame"] == 0}
    kept = {clip.clip_id: clip for clip in sounds.kept}
    mouth = np.array(scores[0]["mouth_opening"], np.float32)
    for what, name in (("the sound it was given", SOUND), ("another sound", OTHER)):
        confidence, lead = follows(mouth, sounds.read(kept[rows[name]], "pcm").reshape(-1))
        print(f"mouth of the generated film with {what}: correlation {confidence:.3f} at {lead:+.2f} frames")


if __name__ == "__main__":
    main()
