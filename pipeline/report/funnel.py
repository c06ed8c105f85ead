"""The funnel: what each stage took away and why; counted in frames, so that what goes in less what is lost comes out.

Up to the faces it counts footage: a second of a file once, whoever is seen. From there on it counts clips of one face
each, so that footage with two faces counts twice; the last stage says how much that is.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...manifests.dataset import Dataset
from ...manifests.errors import DatasetError
from ...manifests.records import FRAME_RATE
from .clip_columns import ClipColumns

FILE_COLUMNS = ["video_id", "outcome", "num_frames", "chunks", "chunk_ends", "chunk_outcomes"]
SCORED = ("ok", "no_face")
"""Outcomes of files that were looked at to the end."""
FRAMES_PER_HOUR = FRAME_RATE * 3600


@dataclass(frozen=True, kw_only=True)
class StageLoss:
    """Frames and clips that one reason took away."""

    reason: str
    number: int
    """Whole files or clips; 0 where only parts of files went."""
    num_frames: int

    @property
    def hours(self) -> float:
        """Length."""
        return self.num_frames / FRAMES_PER_HOUR


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the funnel; raises `DatasetError` where it does not add up."""

    name: str
    unit: str
    """What is numbered: files or clips."""
    number_in: int
    frames_in: int
    number_out: int
    frames_out: int
    losses: list[StageLoss] = field(default_factory=list)
    """The longest first."""
    frames_repeated: int = 0
    """How much more comes in than the stage before gave out: footage of several faces counts once for each."""

    def __post_init__(self) -> None:
        number = self.number_in - sum(loss.number for loss in self.losses)
        num_frames = self.frames_in - sum(loss.num_frames for loss in self.losses)
        if (number, num_frames) != (self.number_out, self.frames_out) or any(
            loss.num_frames < 0 for loss in self.losses
        ):
            what = f"{number} {self.unit} and {num_frames} frames are left of {self.number_in} and {self.frames_in}"
            raise DatasetError(
                f"funnel, {self.name}: {what}, not {self.number_out} and {self.frames_out}; build again, or report this"
            )

    @property
    def hours_in(self) -> float:
        """Length of what comes in."""
        return self.frames_in / FRAMES_PER_HOUR

    @property
    def hours_out(self) -> float:
        """Length of what goes on."""
        return self.frames_out / FRAMES_PER_HOUR

    @property
    def hours_repeated(self) -> float:
        """Length that comes in more than once."""
        return self.frames_repeated / FRAMES_PER_HOUR

    def to_json(self) -> dict[str, object]:
        """Return it as `report.json` has it."""
        hours = {name: round(getattr(self, name), 6) for name in ("hours_in", "hours_out", "hours_repeated")}
        losses = [{"reason": loss.reason, "number": loss.number, "hours": round(loss.hours, 6)} for loss in self.losses]
        numbers = {"number_in": self.number_in, "number_out": self.number_out}
        return {"name": self.name, "unit": self.unit, **numbers, **hours, "losses": losses}


def funnel(dataset: Dataset, clips: ClipColumns) -> list[Stage]:
    """Return the stages of a dataset: reading the files, finding faces, judging the clips.

    Raises:
        DatasetError: they do not add up; a bug of ours, or tables that do not belong together.
    """
    files = _Files(dataset.videos(FILE_COLUMNS))
    seen, faces = files.covered(clips, np.ones(len(clips), bool)), files.covered(clips, clips.has_face)
    read = files.read_stage(seen)
    select = _select_stage(clips, int(faces.sum()))
    losses = {
        "no_face": (files.number("no_face"), int((seen - faces).sum())),
        "between_clips": (0, read.frames_out - seen.sum()),
    }
    find = Stage(
        name="find faces",
        unit="files",
        number_in=read.number_out,
        frames_in=read.frames_out,
        number_out=files.number("ok"),
        frames_out=select.frames_in - select.frames_repeated,
        losses=_losses(losses),
    )
    return [read, find, select]


class _Files:
    """The input files by columns.

    Args:
        videos: with `FILE_COLUMNS`.
    """

    def __init__(self, videos: pa.Table) -> None:
        self._codes, self._words = _encode(videos["outcome"].combine_chunks())
        self._num_frames = videos["num_frames"].fill_null(0).to_numpy().astype(np.int64)
        self._is_scored = np.isin(self._codes, [place for place, word in enumerate(self._words) if word in SCORED])
        self._ids = videos["video_id"].combine_chunks()
        self._annotated, self._failed, self._failed_as = _sum_chunks(videos, self._num_frames)

    def number(self, outcome: str) -> int:
        """Count the files that ended so."""
        return int((self._codes == self._words.index(outcome)).sum()) if outcome in self._words else 0

    def covered(self, clips: ClipColumns, chosen: np.ndarray) -> np.ndarray:
        """Count the frames [F] of each scored file that lie in at least one of the clips `chosen`, [N] bool."""
        codes, words = clips.codes("video_id")
        scored = np.flatnonzero(self._is_scored)
        owners = pc.SetLookupOptions(self._ids.take(pa.array(scored, pa.int64())))
        found = pc.call_function("index_in", [pa.array(words, pa.string())], owners).fill_null(-1).to_numpy()
        places = found[codes] if len(words) else codes
        mine = chosen & (codes >= 0) & (places >= 0)
        start = clips.numbers("start_frame")[mine].astype(np.int64)
        length = clips.numbers("num_frames")[mine].astype(np.int64)
        return _union(scored[places[mine]], start, length, len(self._codes))

    def read_stage(self, seen: np.ndarray) -> Stage:
        """Return what becomes of the files before anybody looks for faces in them.

        Args:
            seen: [F] frames of each file that candidates cover; of a merged dataset, more may be than one build scored.
        """
        gone = np.where(self._is_scored, self._num_frames - np.maximum(self._annotated - self._failed, seen), 0)
        if (gone < 0).any():
            raise DatasetError(f"funnel, read: {(gone < 0).sum()} files are shorter than their clips; build again")
        failed = np.minimum(self._failed, gone)
        unscored = np.flatnonzero(~self._is_scored)
        numbers = np.bincount(self._codes[unscored], minlength=len(self._words))
        lengths = np.bincount(self._codes[unscored], self._num_frames[unscored], len(self._words))
        frames = Counter({word: int(length) for word, length in zip(self._words, lengths, strict=True)})
        frames["outside_annotation"] += int((gone - failed).sum())
        for place in np.flatnonzero(failed).tolist():
            frames[self._failed_as[place]] += int(failed[place])
        number = dict(zip(self._words, numbers.tolist(), strict=True))
        return Stage(
            name="read",
            unit="files",
            number_in=len(self._codes),
            frames_in=int(self._num_frames.sum()),
            number_out=int(self._is_scored.sum()),
            frames_out=int((self._num_frames - gone)[self._is_scored].sum()),
            losses=_losses({reason: (number.get(reason, 0), frames[reason]) for reason in frames}),
        )


def _sum_chunks(videos: pa.Table, num_frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Return of each file [F] the frames in stretches that were to be scored, those where that failed, and as what."""
    chunks, ends = (videos[name].combine_chunks() for name in ("chunks", "chunk_ends"))
    parents = pc.call_function("list_parent_indices", [chunks]).to_numpy()
    first = chunks.flatten().to_numpy()
    is_last = np.append(parents[1:] != parents[:-1], [True] * bool(len(parents)))
    last = np.where(is_last, num_frames[parents], np.append(first[1:], [0] * bool(len(first))))
    last[ends.is_valid().to_numpy(zero_copy_only=False)[parents]] = ends.flatten().to_numpy()
    annotated = np.bincount(parents, last - first, len(num_frames)).astype(np.int64)
    annotated = np.where(chunks.is_valid().to_numpy(zero_copy_only=False), annotated, num_frames)
    outcomes = videos["chunk_outcomes"].combine_chunks()
    owners = pc.call_function("list_parent_indices", [outcomes]).to_numpy()
    codes, words = _encode(outcomes.flatten())
    bad = np.flatnonzero(codes != words.index("ok") if "ok" in words else codes >= 0)
    spans = (last - first)[np.isin(parents, owners)]
    failed = np.bincount(owners[bad], spans[bad], len(num_frames)).astype(np.int64)
    return annotated, failed, {int(owners[place]): words[codes[place]] for place in reversed(bad)}


def _encode(column: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Return words as codes [N] and what they stand for."""
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _union(files: np.ndarray, start: np.ndarray, length: np.ndarray, num_files: int) -> np.ndarray:
    """Return the frames [F] of each file that at least one stretch covers; `files`, `start`, `length` are [N] int64."""
    order = np.lexsort((start, files))
    files, start, length = files[order], start[order], length[order]
    begin = start + files * (int((start + length).max(initial=0)) + 1)  # one line of frames, file behind file
    end = begin + length
    before = np.concatenate([[0], np.maximum.accumulate(end)[:-1]]) if len(end) else end
    fresh = np.maximum(0, end - np.maximum(begin, before))
    return np.bincount(files, fresh, num_files).astype(np.int64)


def _select_stage(clips: ClipColumns, frames_covered: int) -> Stage:
    """Return what the rules take; `frames_covered` is the footage that the clips with a face lie in."""
    num_frames = clips.numbers("num_frames").astype(np.int64)
    codes, words = clips.codes("reason")
    kept = clips.has_face & clips.is_kept
    lost = np.flatnonzero(clips.has_face & ~clips.is_kept & (codes >= 0))
    numbers = np.bincount(codes[lost], minlength=len(words))
    frames = np.bincount(codes[lost], num_frames[lost], len(words))
    frames_in = int(num_frames[clips.has_face].sum())
    return Stage(
        name="select",
        unit="clips",
        number_in=int(clips.has_face.sum()),
        frames_in=frames_in,
        number_out=int(kept.sum()),
        frames_out=int(num_frames[kept].sum()),
        losses=_losses({word: (numbers[place], frames[place]) for place, word in enumerate(words)}),
        frames_repeated=frames_in - frames_covered,
    )


def _losses(found: dict[str, tuple[int, int]]) -> list[StageLoss]:
    losses = [
        StageLoss(reason=reason, number=int(number), num_frames=int(frames))
        for reason, (number, frames) in found.items()
        if number or frames
    ]
    return sorted(losses, key=lambda loss: (-loss.num_frames, -loss.number, loss.reason))
