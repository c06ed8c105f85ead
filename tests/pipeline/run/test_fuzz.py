"""A small seeded sample of `benchmarks/fuzz.py`: damaged files of every kind, and a build that accounts for each."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_damaged_files_are_all_accounted_for(backend: str, tmp_path: Path):
    words = ["--files", "60", "--seed", "3", "--backend", backend, "--keep", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is wrong" in done.stdout
    num_kinds, num_mutations = map(int, re.findall(r"of (\d+) kinds, (\d+) mutations", done.stdout)[0])
    assert num_kinds >= 15
    assert num_mutations >= 20
    assert re.search(r"list +18 +not_media 18", done.stdout)
