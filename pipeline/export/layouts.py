"""Layouts of an export: where the films go and what lies beside them, for each kind of reader."""

import csv
import io
import json
import tarfile
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ...manifests.dataset import Dataset
from ...manifests.records import SAMPLE_RATE_HZ
from ...manifests.storage import atomic_path, write_bytes
from .clips import SPLITS, ExportClip

ExportKind = Literal["latentsync-filelist", "webdataset", "hf"]
HF_SPLITS = {"val": "validation"}
"""Split to the name that `datasets` has for it, where it is another."""
STAGING = ".films"
"""Films on their way into an archive."""


class ExportLayout(Protocol):
    """Interface of a kind of export."""

    def target(self, clip: ExportClip) -> Path:
        """Return where the film of a clip is to be written."""
        ...

    def prepare(self, clips: Sequence[ExportClip]) -> set[str]:
        """Return the ids of the clips whose films an earlier run made; take away what is no longer wanted."""
        ...

    def finish(self, clips: Sequence[ExportClip], made: Set[str]) -> dict[str, str]:
        """Write what lies beside the films of the clips that are made; return clip id to file below the output."""
        ...


@dataclass(frozen=True, kw_only=True)
class FileList:
    """LatentSync: `clips/<id>.mp4`, and a text file of absolute paths for each split."""

    output: Path

    def target(self, clip: ExportClip) -> Path:
        """Return `clips/<id>.mp4`."""
        return self.output / "clips" / f"{clip.clip_id}.mp4"

    def prepare(self, clips: Sequence[ExportClip]) -> set[str]:
        """Look for films."""
        return _made(self.output / "clips", clips, self.target)

    def finish(self, clips: Sequence[ExportClip], made: Set[str]) -> dict[str, str]:
        """Write `<split>_fileslist.txt`, the name in LatentSync's settings."""
        for split, some in _by_split(clips, made).items():
            lines = "".join(f"{self.target(clip).resolve()}\n" for clip in some)
            _write_or_remove(self.output / f"{split}_fileslist.txt", lines)
        return {name: f"clips/{name}.mp4" for name in made}


@dataclass(frozen=True, kw_only=True)
class VideoFolder:
    """Hugging Face: `<split>/<id>.mp4` and `<split>/metadata.csv`, as `load_dataset("videofolder")` reads them."""

    output: Path

    def target(self, clip: ExportClip) -> Path:
        """Return `<split>/<id>.mp4`."""
        return self.output / HF_SPLITS.get(clip.split, clip.split) / f"{clip.clip_id}.mp4"

    def prepare(self, clips: Sequence[ExportClip]) -> set[str]:
        """Look for films."""
        folders = {split: self.output / HF_SPLITS.get(split, split) for split in SPLITS}
        return set().union(*(_made(folders[split], some, self.target) for split, some in _by_split(clips).items()))

    def finish(self, clips: Sequence[ExportClip], made: Set[str]) -> dict[str, str]:
        """Write the tables; the column `file_name` is the one that is asked for, the others come as they are."""
        for split, some in _by_split(clips, made).items():
            text = io.StringIO()
            if some:
                writer = csv.DictWriter(text, ["file_name", *some[0].facts], lineterminator="\n")
                writer.writeheader()
                writer.writerows({"file_name": f"{clip.clip_id}.mp4", **clip.facts} for clip in some)
            _write_or_remove(self.output / HF_SPLITS.get(split, split) / "metadata.csv", text.getvalue())
        files = {clip.clip_id: self.target(clip).relative_to(self.output).as_posix() for clip in clips}
        return {name: files[name] for name in made}


@dataclass(frozen=True, kw_only=True)
class WebDataset:
    """WebDataset: `<split>-NNNNNN.tar` with `<id>.json`, `<id>.mp4` and `<id>.wav`."""

    output: Path
    dataset: Dataset
    per_archive: int

    def target(self, clip: ExportClip) -> Path:
        """Return a path among the films on their way into an archive."""
        return self.output / STAGING / f"{clip.clip_id}.mp4"

    def prepare(self, clips: Sequence[ExportClip]) -> set[str]:
        """Look into the archives; one that holds other clips than planned is taken apart."""
        planned = {path: [clip.clip_id for clip in some] for path, some in self._archives(clips)}
        wanted = {clip.clip_id: clip for clip in clips}
        whole: set[str] = set()
        for path in sorted(self.output.glob("*-*.tar")):
            ids = _ids_in(path)
            if ids == planned.get(path):
                whole.update(ids)
            else:
                self._take_apart(path, wanted)
        return whole | _made(self.output / STAGING, clips, self.target)

    def finish(self, clips: Sequence[ExportClip], made: Set[str]) -> dict[str, str]:
        """Lay the films into archives; those that are whole are left as they are."""
        files: dict[str, str] = {}
        for path, group in self._archives(clips):
            some = [clip for clip in group if clip.clip_id in made]
            files |= {clip.clip_id: path.name for clip in some}
            if some and not path.is_file():
                with atomic_path(path) as temporary:
                    self._write(temporary, some)
            for clip in some:
                self.target(clip).unlink(missing_ok=True)
        if (self.output / STAGING).is_dir():
            (self.output / STAGING).rmdir()
        return files

    def _archives(self, clips: Sequence[ExportClip]) -> Iterator[tuple[Path, list[ExportClip]]]:
        """Yield the archives with the clips planned for each: one that cannot be made moves no other."""
        for split, some in _by_split(clips).items():
            for index, start in enumerate(range(0, len(some), self.per_archive)):
                yield self.output / f"{split}-{index:06d}.tar", some[start : start + self.per_archive]

    def _write(self, path: Path, clips: Sequence[ExportClip]) -> None:
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for clip in clips:
                facts = json.dumps(clip.facts, sort_keys=True, ensure_ascii=False).encode()
                parts = {"json": facts, "mp4": self.target(clip).read_bytes(), "wav": self._wav(clip)}
                for ending, content in parts.items():
                    member = tarfile.TarInfo(f"{clip.clip_id}.{ending}")  # no time, no owner: equal clips, equal bytes
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))

    def _wav(self, clip: ExportClip) -> bytes:
        file = io.BytesIO()
        with wave.open(file, "wb") as sound:
            sound.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            sound.writeframes(self.dataset.read(clip.stored, "pcm").tobytes())
        return file.getvalue()

    def _take_apart(self, path: Path, wanted: Mapping[str, ExportClip]) -> None:
        """Keep the films of an archive and remove it."""
        with tarfile.open(path) as archive:
            for member in archive:
                stem, _, ending = member.name.partition(".")
                content = archive.extractfile(member)
                if ending == "mp4" and stem in wanted and content is not None:
                    write_bytes(self.target(wanted[stem]), content.read())
        path.unlink()


def _by_split(clips: Sequence[ExportClip], made: Set[str] | None = None) -> dict[str, list[ExportClip]]:
    """Return the clips, or those that are made, of each split; of none too."""
    some = [clip for clip in clips if made is None or clip.clip_id in made]
    return {split: [clip for clip in some if clip.split == split] for split in SPLITS}


def _made(folder: Path, clips: Sequence[ExportClip], target: Callable[[ExportClip], Path]) -> set[str]:
    """Return the ids whose films are in a folder, and remove films of clips that are not wanted there."""
    wanted = {target(clip): clip.clip_id for clip in clips}
    there = set(folder.glob("*.mp4"))
    for path in there - wanted.keys():
        path.unlink()
    return {wanted[path] for path in there & wanted.keys()}


def _ids_in(path: Path) -> list[str]:
    """Return the ids of the films in an archive, in their order."""
    with tarfile.open(path) as archive:
        return [name.removesuffix(".mp4") for name in archive.getnames() if name.endswith(".mp4")]


def _write_or_remove(path: Path, text: str) -> None:
    if text:
        write_bytes(path, text.encode())
    else:
        path.unlink(missing_ok=True)
