"""A dataset of three files of two people in VoxCeleb2's layout, made of the demo's, for tests that change datasets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ANNA, BERT = "id00001", "id00002"
FILES = {
    f"dev/mp4/{ANNA}/aaaaaaaaaaa/00001.mp4": "talker_a.mp4",
    f"dev/mp4/{ANNA}/bbbbbbbbbbb/00001.mp4": "sound_early_3.mp4",
    f"dev/mp4/{BERT}/ccccccccccc/00001.mp4": "cuts.mp4",
}
"""Path below the source folder to the demo's file."""
FIRST, SECOND, THIRD = FILES
SETTINGS = ("select.sync_rules=never", "select.val_share=0.5", "run.shard_mb=14")


def write_videos(demo_videos: Path, folder: Path) -> Path:
    """Lay the files out as VoxCeleb2 does."""
    for path, name in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(demo_videos / name, folder / path)
    return folder


def build(videos: Path, output: Path, *words: str, settings: tuple[str, ...] = SETTINGS) -> str:
    """Build in one local worker and return what was said."""
    command = [sys.executable, "-m", "hs_data.cli", "build", "--source", "voxceleb2", "--input", str(videos)]
    command += ["--output", str(output), "--preset", "embedded", "--executor", "local", "--workers", "1"]
    command += [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def copy(dataset: Path, to: Path) -> Path:
    """Copy a dataset with hard links: what is written is written anew, so that the links of the first one stay."""
    shutil.copytree(dataset, to, copy_function=os.link)
    return to


def times(folder: Path) -> dict[str, int]:
    """Return when each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}
