"""Builds in this process whose workers can be disturbed, for tests of outages, crashes and late attempts."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from hs_data.manifests import settings
from hs_data.manifests.errors import HsDataError
from hs_data.pipeline.demo.clips import Clip, clips
from hs_data.pipeline.faces.detect import Detections
from hs_data.pipeline.media.mp4 import add_sound, encode_video
from hs_data.pipeline.models.haar import HaarDetector
from hs_data.pipeline.run import build
from hs_data.pipeline.run.command import make_request
from hs_data.pipeline.run.progress import Display
from hs_data.pipeline.workers.pools import Event
from hs_data.pipeline.workers.units import Unit
from hs_data.pipeline.workers.worker import Setup, Worker
from hs_data.pipeline.workers.worker_status import WorkerStatus

SETTINGS = ("select.sync_rules=never", "select.min_face_px=0", "run.unit_s=60", "run.shard_mb=6")
NAMES = ("a.mp4", "b.mp4", "two.mp4")
"""The short videos; with these settings their four clips lie two in a shard."""
NUM_FRAMES = 85
SIDE = 256

Around = Callable[[Unit], AbstractContextManager[object]]


class KilledError(Exception):
    """Stands for a worker that dies."""


class InlinePool:
    """One worker in this process; `around` is entered around each unit."""

    def __init__(self, setup: dict[str, Any], around: Around) -> None:
        self._setup = setup
        self._around = around
        self._events: deque[Event] = deque()
        self._number = 0
        self._start()

    def _start(self) -> None:
        self._number += 1
        self._worker = Worker(Setup(**self._setup), f"w{self._number}")

    def idle(self) -> bool:
        return not self._events

    def submit(self, unit: Unit) -> str:
        name = f"w{self._number}"
        try:
            with self._around(unit):
                done = self._worker.run(Unit.from_table(unit.to_table()))
            self._events.append(Event(worker=name, unit=unit, done=done))
        except KilledError as death:
            WorkerStatus(Path(self._setup["dataset"]), name).turn_to(str(death))
            self._events.append(Event(worker=name, unit=unit))
            self._start()
        except (HsDataError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - as the main loop of a worker does
            self._events.append(Event(worker=name, unit=unit, failed=str(error)))
        return name

    def wait(self, timeout_s: float) -> list[Event]:
        assert timeout_s > 0
        return [self._events.popleft()] if self._events else []

    def kill(self, worker: str) -> None:
        raise AssertionError(worker)

    def recycle(self, worker: str) -> None:
        self._start()

    def close(self) -> None:
        pass


def draw_short(folder: Path) -> Path:
    """Draw three videos: a talker, another one, and both after one another."""
    folder.mkdir(parents=True)
    shots = []
    for name in ("talker_a.mp4", "talker_b_stereo_48k.mp4"):
        clip = next(clip for clip in clips() if clip.name == name)
        rgb = [cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for _, rgb in islice(_shown(clip), 170)]
        shots.append((rgb, clip.pcm()))
    (a, a_pcm), (b, b_pcm) = shots
    sound = NUM_FRAMES * 640
    films = {
        "a.mp4": (a[:NUM_FRAMES], a_pcm[:sound]),
        "b.mp4": (b[:NUM_FRAMES], b_pcm[:sound]),
        "two.mp4": (a[NUM_FRAMES:] + b[NUM_FRAMES:], np.concatenate([a_pcm[sound : 2 * sound], b_pcm[:sound]])),
    }
    for name, (pictures, pcm) in films.items():
        video = encode_video(((Fraction(n, 25), rgb) for n, rgb in enumerate(pictures)), Fraction(25))
        add_sound(video, pcm, folder / name, sample_rate_hz=16_000, num_channels=1)
    return folder


def _shown(clip: Clip) -> Iterator[tuple[Fraction, np.ndarray]]:
    assert clip.film.rate == 25
    yield from clip.film.pictures()


def dies(phase: str, times: int, at: int = 0, only: str | None = None) -> Around:
    """Return what kills the worker at the first units of a phase while it is at their `at`-th item, or at a file's."""
    deaths = 0

    @contextmanager
    def around(unit: Unit) -> Iterator[None]:
        nonlocal deaths
        victims = [item["id"] for item in unit.items if only is None or item["path"] == only]
        if unit.phase == phase and deaths < times and victims:
            deaths += 1
            raise KilledError(victims[min(at, len(victims) - 1)])
        yield

    return around


def worker(videos: Path, output: Path) -> Worker:
    """Return a worker of its own, as one that nobody waits for any more."""
    config = settings.to_table(_request(videos, output, SETTINGS).config)
    return Worker(Setup(config=config, root=str(videos.resolve()), dataset=str(output.resolve())), "late")


def run(
    videos: Path, output: Path, around: Around = lambda unit: nullcontext(), settings_: tuple[str, ...] = SETTINGS
) -> build.Outcome:
    """Build a folder in this process."""
    request = _request(videos, output, settings_)
    with undisturbed() as patch:
        patch.setattr(build, "make_pool", lambda executor, num_workers, setup: InlinePool(setup, around))
        return build.Build(request, Display(Console(file=io.StringIO()))).run()


@contextmanager
def undisturbed() -> Iterator[pytest.MonkeyPatch]:
    """Let workers live in pytest's process, whose timer is its own, and look at each picture once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerStatus, "deadline", lambda beat, budget_s: nullcontext(nullcontext()))
        patch.setattr(HaarDetector, "_detect_one", _remembered(HaarDetector._detect_one))
        yield patch


def _request(videos: Path, output: Path, assignments: tuple[str, ...]) -> build.Request:
    return make_request(
        source="folder",
        output=output,
        input_dir=videos,
        preset="embedded",
        config_file=None,
        assignments=list(assignments),
        executor="local",
        num_workers=1,
        limit=None,
        shard=None,
    )


def _remembered(detect: Callable[[Any, np.ndarray], Detections]) -> Callable[[Any, np.ndarray], Detections]:
    """Return a detector that looks at a picture once, however many builds there are: nine tenths of their time."""

    def find(detector: HaarDetector, picture: np.ndarray) -> Detections:
        key = hashlib.sha256(picture.tobytes()).hexdigest()
        if key not in FOUND:
            FOUND[key] = detect(detector, picture)
        return FOUND[key]

    return find


FOUND: dict[str, Detections] = {}


def contents(dataset: Path) -> dict[str, str]:
    """Return the hash of every file that makes a dataset."""
    paths = [*dataset.glob("*.parquet"), *dataset.glob("shards/*"), dataset / "dataset.json"]
    return {p.relative_to(dataset).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def times(folder: Path) -> dict[str, int]:
    """Return when each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}
