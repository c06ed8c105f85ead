"""Train the tiny HighSync, kill it half-way, resume it, and compare with a run that was never stopped, bit by bit."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from hs_data.trainer.checkpoint import checkpoints, find_checkpoint, read_state, read_tensors


def command(dataset: Path, run: Path, steps: int) -> list[str]:
    words = ["train", str(dataset), "--recipe", "highsync-stage1", "--size", "tiny", "--steps", str(steps)]
    settings = [f"run.save_every={steps // 2}", "run.validate_every=0", "optim.ema_decay=0.99", "run.device=cpu"]
    options = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "hs_data.cli", *words, "-o", str(run), *options]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="such as the demo: hs-data build --source demo --output demo")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # sums of floats depend on the number of threads
    with tempfile.TemporaryDirectory() as folder:
        straight, broken = Path(folder) / "straight", Path(folder) / "broken"
        subprocess.run(command(options.dataset, straight, options.steps), check=True, capture_output=True)
        words = command(options.dataset, broken, options.steps)
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not checkpoints(broken):
                time.sleep(0.1)
            time.sleep(2)
            process.send_signal(signal.SIGKILL)
        at = read_state(find_checkpoint(broken)).step
        subprocess.run([*words, "--resume"], check=True, capture_output=True)
        one, other = (read_tensors(find_checkpoint(run)) for run in (straight, broken))
        for part in ("model", "average", "optimizer"):
            left, right = getattr(one, part), getattr(other, part)
            if left.keys() != right.keys() or not all(torch.equal(left[name], right[name]) for name in left):
                sys.exit(f"{part} differs after a kill at step {at}")
        print(f"{options.steps} steps, killed after the checkpoint of step {at}: the same bits")


if __name__ == "__main__":
    main()
