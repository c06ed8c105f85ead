"""Kill a build (driver and workers, SIGKILL) at random moments until it is done; the dataset must be the same."""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import build_command, kill_all, start


def contents(dataset: Path) -> dict[str, str]:
    """Return the hash of every file that makes the dataset."""
    paths = [*dataset.glob("*.parquet"), *dataset.glob("shards/[!.]*"), dataset / "dataset.json"]
    return {p.relative_to(dataset).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        words = ["--source", "demo", "--executor", options.executor, "--workers", "2", "--output"]
        began = time.monotonic()
        subprocess.run(build_command(*words, str(whole)), check=True, capture_output=True)
        length_s = time.monotonic() - began
        killed = finished = 0
        while killed < options.kills:
            process = start(*words, str(broken))
            # Short runs first: later ones would find everything done and end before they are killed.
            time.sleep(chance.uniform(0.3, max(1.0, 3 * length_s / options.kills)))
            if process.poll() is None:
                kill_all(process)
                killed += 1
            else:
                finished += 1
                if finished > options.kills:
                    break
        subprocess.run(build_command(*words, str(broken)), check=True, capture_output=True)
        same = contents(whole) == contents(broken)
        print(f"{options.executor}: {length_s:.1f} s unbroken; killed {killed} times; same bytes: {same}")
        if not same:
            one, two = contents(whole), contents(broken)
            print("differ:", sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name)))
            sys.exit(1)


if __name__ == "__main__":
    main()
