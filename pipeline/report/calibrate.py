"""Calibrate: a dataset's kept clips through its own sync estimator, written where the next report finds it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.table import Table

from ...manifests import settings
from ...manifests.dataset import Clip, Dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.status import counted
from ...manifests.storage import digest, read_json, write_json
from ..config import Config, resolve_device
from ..media.source_clip import open_source, source_folder
from ..networks import make_syncnet
from ..select import judges_sync
from ..sync import calibration
from ..sync.estimate import SyncNetwork
from .clip_columns import ClipColumns
from .rows import ClipRow

FILE = "calibration.json"
JUDGED_FROM, MOVED_FROM = "select.min_sync_confidence", "sync.min_confidence"
COLUMNS = ["clip_id", "video_id", "path", "start_frame", "num_frames", "boxes", "mouth_opening"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well known leads were found, as `calibration.json` holds it."""

    backend: str
    scores: str
    """Fingerprint of the scores that it was measured on."""
    clips: int
    chosen: str
    """Hash of the ids of the clips."""
    too_short: int
    """Clips that were not tried."""
    not_measured: int
    """Trials without enough speech."""
    foreign_pairs: int
    leads: Sequence[int]
    """Frames."""
    within_frames: float
    in_use: Mapping[str, float]
    """Setting to the confidence that it asks for."""
    thresholds: Sequence[calibration.ThresholdRow]
    by_lead: Sequence[calibration.LeadRow]


@dataclass(frozen=True, kw_only=True)
class SavedCalibration(Calibration):
    """A calibration as the report shows it."""

    is_stale: bool
    """Whether the scores are others by now."""


def calibrate(
    dataset: Dataset, *, limit: int, assignments: Sequence[str] = (), input_dir: Path | None = None
) -> Calibration:
    """Put known leads into kept clips, measure how they are found, and write `calibration.json`.

    The clips are the first ones by id of those with speech: ids are hashes, so they are a sample that stays.

    Args:
        dataset: an opened dataset; its own verdicts count.
        limit: clips that are tried.
        assignments: `models.KEY=VALUE`, where weights or device are others than at the build.
        input_dir: the source folder, which a network needs to see lips; the demo knows its own.

    Raises:
        ConfigError: a setting outside `models`, or no source folder.
        DatasetError: no clip can be tried, or a source file is gone or another one.
        ModelError: the weights of the sync network are missing.
    """
    config = _config(dataset, assignments)
    network = make_syncnet(config.sync, config.models)
    subjects = list(_subjects(dataset, config, network, limit, input_dir))
    spans = calibration.EXTRA_FRAMES[config.sync.backend]
    found = calibration.run(subjects, calibration.estimator(config.sync, config.speech, network), spans=spans)
    if not found.trials:
        raise DatasetError(f"{dataset.path}: no kept clip with speech is long enough to be tried; build more of them")
    limits = _in_force(config)
    measured = Calibration(
        backend=config.sync.backend,
        scores=dataset.index.fingerprints.score,
        clips=found.num_clips,
        chosen=digest("calibration", [subject.clip_id for subject in subjects])[:20],
        too_short=len(subjects) - found.num_clips,
        not_measured=found.num_unmeasured,
        foreign_pairs=len(found.foreign),
        leads=calibration.LEADS,
        within_frames=calibration.WITHIN_FRAMES,
        in_use=limits,
        thresholds=calibration.table(found, list(limits.values())),
        by_lead=list(calibration.by_lead(found)),
    )
    write_json(dataset.path / FILE, measured)
    return measured


def _in_force(config: Config) -> dict[str, float]:
    """Return the confidences that decide something: what is moved, and what is dropped."""
    trust = "high" if config.sync.backend == "syncnet" else "low"
    limits = {MOVED_FROM: config.sync.min_confidence} if config.sync.correct else {}
    if judges_sync(config.select, trust):
        limits[JUDGED_FROM] = config.select.min_sync_confidence
    return limits


def saved(dataset: Dataset, *, judged: bool) -> SavedCalibration | None:
    """Return what `calibrate` wrote; None where it did not.

    Args:
        dataset: an opened dataset.
        judged: whether its selection judges sync; else the confidence that it would ask for is not in use.

    Raises:
        DatasetError: the file is not what this version writes.
    """
    path = dataset.path / FILE
    if not path.is_file():
        return None
    try:
        found = Calibration(**read_json(path))
    except TypeError as error:
        raise DatasetError(f"{path}: damaged ({error}); run `hs-data calibrate` again, or remove it") from error
    deciding = {JUDGED_FROM: judged, MOVED_FROM: dataset.index.config["sync"]["correct"]}
    used = {name: value for name, value in found.in_use.items() if deciding[name]}
    is_stale = found.scores != dataset.index.fingerprints.score
    return SavedCalibration(**vars(replace(found, in_use=used)), is_stale=is_stale)


def _config(dataset: Dataset, assignments: Sequence[str]) -> Config:
    given = settings.parse_assignments(list(assignments))
    if set(given) - {"models"}:
        raise ConfigError(
            f"{', '.join(sorted(set(given) - {'models'}))}: only models.* can be set; others are the build's"
        )
    return resolve_device(settings.build(Config, settings.merge(dataset.index.config, given)))


def _subjects(
    dataset: Dataset, config: Config, network: SyncNetwork | None, limit: int, input_dir: Path | None
) -> Iterator[calibration.Subject]:
    clips = ClipColumns(dataset)
    stored = {clip.clip_id: clip for clip in dataset.kept}
    speaking = clips.is_kept & clips.equals("clip_class", "speech") & clips.has_id(set(stored))
    indices = clips.order[speaking[clips.order]][:limit]
    folder = source_folder(dataset, input_dir) if network is not None else None
    for index in counted(list(indices), "clips read"):
        row = clips.rows(np.array([index]), COLUMNS).to_pylist()[0]
        yield _subject(dataset, stored[row["clip_id"]], row, config, network, folder)


def _subject(
    dataset: Dataset, clip: Clip, row: ClipRow, config: Config, network: SyncNetwork | None, folder: Path | None
) -> calibration.Subject:
    if network is None or folder is None:
        seen = np.asarray(row["mouth_opening"], np.float32)
    else:
        boxes = np.asarray(row["boxes"], np.float32).reshape(-1, 4)
        seen = calibration.watch_lips(open_source(row, folder, config.decode), boxes, network)
    pcm = np.ascontiguousarray(dataset.read(clip, "pcm").reshape(-1))
    return calibration.Subject(clip_id=row["clip_id"], video_id=row["video_id"], seen=seen, pcm=pcm)


def tables(found: Calibration) -> Iterator[Table]:
    """Yield a calibration as a terminal shows it."""
    first = Table(box=None, pad_edge=False)
    for name in ("confidence", "trials", "reach it", "recall", "followed", "median error", "95 %", "foreign sound"):
        first.add_column(name, justify="right")
    used = {value: name for name, value in found.in_use.items()}
    for row in found.thresholds:
        words = [_share(row["share"]), _share(row["recall"]), _share(row["followed"])]
        words += [_frames(row["median_error"]), _frames(row["p95_error"]), _share(row["foreign"])]
        mark = "[bold]" if row["threshold"] in used else ""
        first.add_row(f"{mark}{row['threshold']:g}", str(row["trials"]), *words)
    yield first
    second = Table(box=None, pad_edge=False)
    for name in ("lead", "recall", "bias"):
        second.add_column(name, justify="right")
    for row in found.by_lead:
        second.add_row(f"{row['lead']:+d}", _share(row["recall"]), f"{row['bias']:+.2f}")
    yield second


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _frames(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
