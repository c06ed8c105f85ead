"""Run a build as a user does, watch what its processes use, kill them all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MEDIA = Path(__file__).parents[1].parent / "shared" / "media"
WEIGHTS = Path(__file__).parents[1].parent / "shared" / "weights"


def build_command(*words: str) -> list[str]:
    """Return the command line of a build."""
    return [sys.executable, "-m", "hs_data.cli", "build", *words]


def words_of_folder(videos: Path, dataset: Path) -> list[str]:
    """Return the words that build a folder with preset `cpu` in one worker, however small its faces are."""
    words = ["--source", "folder", "--input", str(videos), "--output", str(dataset), "--preset", "cpu"]
    settings = ["--set", f"models.dir={WEIGHTS}", "--set", "select.min_face_px=0"]
    return [*words, *settings, "--executor", "local", "--workers", "1"]


def start(*words: str) -> subprocess.Popen:
    """Start a build without showing what it prints."""
    return subprocess.Popen(build_command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def descendants(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
    found = [pid]
    for place in found:
        found += [child for child, parent in parents.items() if parent == place]
    return found


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL a driver, its workers and what they started, at once."""
    for pid in descendants(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def worker_memory_mb(pid: int) -> float:
    """Return the resident memory of the largest local worker of a build, MB."""
    largest = 0.0
    for child in descendants(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        if b"hs_data.pipeline.workers.local_worker" in words and "VmRSS" in status:
            largest = max(largest, int(status.split("VmRSS:")[1].split()[0]) / 1024)
    return largest


def watch_memory(process: subprocess.Popen, every_s: float = 1.0) -> list[float]:
    """Return the memory of the largest worker over time, until the build ends."""
    series = []
    while process.poll() is None:
        series.append(worker_memory_mb(process.pid))
        time.sleep(every_s)
    return [value for value in series if value]
