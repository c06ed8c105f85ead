"""The commit log: what is done, one small file per unit, created once and only after the unit's data is on disk."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import DatasetError
from .schema import SCHEMA_VERSION
from .storage import canonical_json, create_if_absent, inside, read_json, write_bytes

DATA_FOLDERS = ("shards", "work/scores")
"""Where the files lie that commits name."""


@dataclass(frozen=True, kw_only=True)
class CommittedFile:
    """The file that holds the rows of a unit."""

    path: str
    """Below the dataset."""
    sha256: str
    bytes: int
    rows: int | None = None
    """Frames of a shard; None of a file of scores, as `row_groups`."""
    row_groups: int | None = None

    def to_json(self) -> dict[str, int | str]:
        """Return what is known of it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A finished unit: one receipt per item, the file that holds the rows, and what it cost."""

    phase: str
    """`probe`, `score` or `encode`."""
    unit: str
    """Hash of what the unit holds, its phase's fingerprint included."""
    fingerprint: str
    """Identity of the settings, models and code version that made it."""
    receipts: Mapping[str, dict[str, Any]]
    """Item id to what is known of it, a few hundred bytes each; no pixels, no latents."""
    file: CommittedFile | None = None
    """None when there are no rows."""
    costs: dict[str, float] = field(default_factory=dict)
    """CPU seconds per stage, and footage seconds."""
    generation: int = 0
    """Which try of the unit that was committed; the next one follows where this one does not stand."""


class CommitLog:
    """All commits of a dataset, under `work/commits`."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._folder = dataset / "work" / "commits"

    def add(
        self, commit: Commit, *, replace: bool = False, stands: Callable[[Commit], bool] = lambda earlier: True
    ) -> bool:
        """Record a finished unit; False when another attempt was first, whose commit then stands.

        Args:
            commit: what to record.
            replace: write it over the commit of its own generation.
            stands: told an earlier attempt's commit, says whether it holds; one that does not is followed by the next
                generation, and never written over.
        """
        stored = {name: getattr(commit, name) for name in ("phase", "fingerprint", "receipts", "costs")}
        stored["file"] = None if commit.file is None else commit.file.to_json()
        text = canonical_json({"schema_version": SCHEMA_VERSION, **stored})
        if replace:
            write_bytes(self.path_of(commit), text.encode())
            return True
        while not create_if_absent(self.path_of(commit), lambda temporary: _write(temporary, text)):
            if stands(self._read(self.path_of(commit), commit.phase)):
                return False
            commit = dataclasses.replace(commit, generation=commit.generation + 1)
        return True

    def path_of(self, commit: Commit) -> Path:
        """Return the file of a commit."""
        generation = f".{commit.generation}" if commit.generation else ""
        return self._folder / commit.phase / f"{commit.unit}{generation}.json"

    def remove(self, commit: Commit) -> None:
        """Take a commit back: what it held counts as not done."""
        self.path_of(commit).unlink(missing_ok=True)

    def load(self, phase: str, fingerprint: str | None = None) -> Iterator[Commit]:
        """Yield the commits of a phase, or those made with these settings, ordered by unit id and generation.

        Raises:
            DatasetError: one is damaged, of another version, or names what is no shard or file of scores of this
                dataset.
        """
        for path in sorted((self._folder / phase).glob("*.json"), key=_place):
            commit = self._read(path, phase)
            if fingerprint in (None, commit.fingerprint):
                yield commit

    def _read(self, path: Path, phase: str) -> Commit:
        unit, generation = _place(path)
        table = read_json(path)
        try:
            self._check_version(table.pop("schema_version", 1))  # the first version did not say it
            file = None if table["file"] is None else CommittedFile(**table["file"])
            commit = Commit(**{**table, "file": file, "phase": phase, "unit": unit, "generation": generation})
        except (AttributeError, KeyError, TypeError) as error:
            raise DatasetError(f"{path}: no commit of hs-data ({error!r}); remove it and build again") from error
        self._check_file(path, file)
        return commit

    def _check_version(self, version: object) -> None:
        """Refuse what another version left: its receipts may have other fields, or the same ones mean other things."""
        if version != SCHEMA_VERSION:
            what = f"made by another hs-data (schema {version}, this one has {SCHEMA_VERSION})"
            how = "remove it and build again, or build into a new folder"
            raise DatasetError(f"{self._folder.parent}: {what}; {how}")

    def _check_file(self, path: Path, file: CommittedFile | None) -> None:
        """Refuse a commit of somebody else's making: what it names would be read, and removed."""
        if file is None:
            return
        said_by = path.relative_to(self._dataset).as_posix()
        name = inside(self._dataset, file.path, said_by=said_by).relative_to(self._dataset)
        if name.parent.as_posix() not in DATA_FOLDERS:
            raise DatasetError(f"{path}: {name} is no shard or file of scores; remove this commit and build again")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _place(path: Path) -> tuple[str, int]:
    """Return the unit and the generation that a commit's file is named by: `UNIT.json`, `UNIT.1.json`, ..."""
    unit, _, generation = path.stem.partition(".")
    return unit, int(generation or 0)


def is_whole(dataset: Path, commit: Commit) -> bool:
    """Tell whether the file of a commit is there with the size it had."""
    if commit.file is None:
        return True
    path = dataset / commit.file.path
    return path.is_file() and path.stat().st_size == commit.file.bytes


def total_costs(dataset: Path) -> dict[str, float]:
    """Return CPU seconds by stage, and footage seconds, over all that was ever committed."""
    total: dict[str, float] = {}
    for phase in ("probe", "score", "encode"):
        for commit in CommitLog(dataset).load(phase):
            for name, seconds in commit.costs.items():
                label = f"{phase}: {name}"
                total[label] = total.get(label, 0.0) + seconds
    return total
