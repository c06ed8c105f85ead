"""`make bench`: every measurement of docs/benchmarks.md, one after the other; about an hour on 2 cores."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    ("cost.py",),
    ("kill.py", "--executor", "local", "--kills", "20"),
    ("kill.py", "--executor", "ray", "--kills", "20"),
    ("codec.py",),
    ("leakage.py",),
    ("memory.py",),
    ("networks.py",),
    ("training.py",),
)


def main() -> None:
    for script, *options in SCRIPTS:
        print(f"== {' '.join([script, *options])}", flush=True)
        subprocess.run([sys.executable, str(Path(__file__).parent / script), *options], check=True)


if __name__ == "__main__":
    main()
