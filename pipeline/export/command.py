"""The `export` command: check what is asked for, cut what is not there yet, lay it out, say how it went."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import ConfigError, HsDataError
from ...manifests.processes import leave_terminal
from ...manifests.status import counted
from ...manifests.storage import digest, read_json, write_bytes, write_json
from ..media.source_clip import made_folder
from .clips import ExportClip, kept_clips
from .cut import Cutting, Failure, Pixels, cut
from .layouts import ExportKind, ExportLayout, FileList, VideoFolder, WebDataset

MARK = "export.json"
"""Says what an output folder holds; there before the first film."""
TABLE = "export.jsonl"
Ended = dict[str, Failure | None]
"""Clip id to why it was not exported, or None."""
CutTask = tuple[Sequence[ExportClip], dict[str, Path], Cutting]
"""Arguments of `cut`: the clips of one source file, their targets, and how."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """An export as it was asked for."""

    dataset: Path
    kind: ExportKind
    output: Path
    root: Path | None = None
    """The source folder; None: the videos that the source made itself, where it does."""
    pixels: Pixels = "source"
    size: int = 512
    """Side of the picture, px."""
    crf: int = 16
    per_archive: int = 256
    """Clips in an archive of WebDataset."""
    num_workers: int = 1
    limit: int | None = None
    """Only the first so many clips, by id."""


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """The end of an export, in numbers."""

    num_clips: int
    num_new: int
    """Clips that this run cut."""
    counts: Mapping[str, int]
    """Clips by how they ended, `ok` or a reason."""
    output: Path

    def as_json(self) -> dict[str, object]:
        """Return it as the command prints it."""
        ended = dict(sorted(self.counts.items()))
        return {"clips": self.num_clips, "new": self.num_new, **ended, "output": str(self.output)}


def export(request: ExportRequest, console: Console) -> ExportSummary:
    """Export the kept clips of a dataset; what an earlier run made is left as it is.

    Raises:
        ConfigError: an option that cannot be, or an output folder that holds something else.
        DatasetError: the dataset cannot be read or has no clip.
        HsDataError: not one clip could be exported, or a worker died.
        OSError: the disk.
    """
    dataset = open_dataset(request.dataset)
    cutting = _cutting(dataset, request)
    clips = kept_clips(dataset)[: request.limit]
    _mark(dataset, request)
    layout = _layout(dataset, request)
    ended: Ended = dict.fromkeys(layout.prepare(clips))
    todo = [clip for clip in clips if clip.clip_id not in ended]
    ended |= _cut_all(todo, layout.target, cutting, request.num_workers, console)
    files = layout.finish(clips, {name for name, failure in ended.items() if failure is None})
    _write_table(request.output / TABLE, clips, ended, files)
    counts = Counter(failure.reason if failure else "ok" for failure in ended.values())
    if not counts["ok"]:
        first = next(failure for failure in ended.values() if failure)
        raise HsDataError(f"{request.output}: no clip was exported; {first.reason}: {first.detail}")
    return ExportSummary(num_clips=len(clips), num_new=len(todo), counts=counts, output=request.output)


def _cutting(dataset: Dataset, request: ExportRequest) -> Cutting:
    """Check the options and say how clips are cut."""
    if request.size % 2:
        raise ConfigError(f"--size {request.size}: is odd; H.264 halves the colours")
    if request.pixels == "jpeg":
        if "frame_jpeg" not in dataset.shard(dataset.kept[0].shard).columns if dataset.kept else ():
            raise ConfigError("--pixels jpeg: these shards have none; use --pixels source, or build with jpeg_quality")
        if request.size != 512:
            raise ConfigError("--size: JPEG crops have 512 px; leave it out, or use --pixels source")
        root = None
    else:
        made = made_folder(dataset)
        root = request.root or (made if made and made.is_dir() else None)
        if root is None or not root.is_dir():
            where = f"--input {request.root}: no such folder" if request.root else "export: needs --input"
            raise ConfigError(f"{where}; name the source folder that the dataset was built from, or use --pixels jpeg")
    return Cutting(dataset=dataset.path, root=root, pixels=request.pixels, size=request.size, crf=request.crf)


def _mark(dataset: Dataset, request: ExportRequest) -> None:
    """Claim the output folder; refuse one that holds something else, for films are told apart by clip alone."""
    prints = dataset.index.fingerprints
    mark = {
        "to": request.kind,
        "pixels": request.pixels,
        "size": request.size,
        "crf": request.crf,
        "made_from": digest(dataset.index.source, prints.score, prints.encode)[:20],
    }
    path = request.output / MARK
    if path.is_file():
        if (found := read_json(path)) != mark:
            other = ", ".join(name for name in mark if found.get(name) != mark[name])
            raise ConfigError(f"--output {request.output}: holds an export with other {other}; name an empty folder")
        return
    if request.output.exists() and (not request.output.is_dir() or any(request.output.iterdir())):
        raise ConfigError(f"--output {request.output}: holds other things; name an empty folder")
    write_json(path, mark)


def _layout(dataset: Dataset, request: ExportRequest) -> ExportLayout:
    if request.kind == "latentsync-filelist":
        return FileList(output=request.output)
    if request.kind == "hf":
        return VideoFolder(output=request.output)
    return WebDataset(output=request.output, dataset=dataset, per_archive=request.per_archive)


def _cut_all(
    clips: Sequence[ExportClip],
    target: Callable[[ExportClip], Path],
    cutting: Cutting,
    num_workers: int,
    console: Console,
) -> Ended:
    """Cut the clips file by file, here or in other processes."""
    files: dict[str, list[ExportClip]] = {}
    for clip in clips:
        files.setdefault(clip.path, []).append(clip)
    tasks = [(some, {clip.clip_id: target(clip) for clip in some}, cutting) for some in files.values()]
    ended: Ended = {}
    bar = BarColumn(bar_width=24)
    columns = (TextColumn("{task.description}"), bar, MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("clips", total=len(clips))
        for _, found in zip(counted(tasks, "files"), _results(tasks, num_workers), strict=True):
            ended |= found
            progress.advance(task, len(found))
            for name, failure in found.items():
                if failure:
                    line = f"{name}: {failure.reason}: {failure.detail}"
                    console.print(line, highlight=False, soft_wrap=True, markup=False)
    return ended


def _results(tasks: Sequence[CutTask], num_workers: int) -> Iterator[Ended]:
    if num_workers < 2:
        yield from (cut(*task) for task in tasks)
        return
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=leave_terminal) as pool:
        try:
            yield from (done.result() for done in as_completed([pool.submit(cut, *task) for task in tasks]))
        except BrokenProcessPool as error:
            what = "a worker died (memory, or a file that crashes the decoder)"
            raise HsDataError(f"export: {what}; run again, with --workers 1 to see at which file") from error


def _write_table(path: Path, clips: Sequence[ExportClip], ended: Ended, files: dict[str, str]) -> None:
    rows = []
    for clip in clips:
        failure = ended[clip.clip_id]
        row = {"clip_id": clip.clip_id, "split": clip.split, "status": failure.reason if failure else "ok"}
        rows.append({**row, "detail": failure.detail if failure else None, "file": files.get(clip.clip_id)})
    write_bytes(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
