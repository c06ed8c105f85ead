"""The commit log: what is done, one small file per unit, created once and only after the unit's data is on disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import DatasetError
from .storage import canonical_json, create_if_absent, inside, read_json, write_bytes

DATA_FOLDERS = ("shards", "work/scores")
"""Where the files lie that commits name."""


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
    file: dict[str, Any] | None = None
    """Path below the dataset, sha256, bytes and rows; None when there are no rows."""
    costs: dict[str, float] = field(default_factory=dict)
    """CPU seconds per stage, and footage seconds."""


class CommitLog:
    """All commits of a dataset, under `work/commits`."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._folder = dataset / "work" / "commits"

    def add(self, commit: Commit, *, replace: bool = False) -> bool:
        """Record a finished unit; False when another attempt was first, whose commit then stands unless `replace`."""
        text = canonical_json(
            {name: getattr(commit, name) for name in ("phase", "fingerprint", "receipts", "file", "costs")}
        )
        path = self._folder / commit.phase / f"{commit.unit}.json"
        if replace:
            write_bytes(path, text.encode())
            return True
        return create_if_absent(path, lambda temporary: _write(temporary, text))

    def remove(self, commit: Commit) -> None:
        """Take a commit back: what it held counts as not done."""
        (self._folder / commit.phase / f"{commit.unit}.json").unlink(missing_ok=True)

    def load(self, phase: str, fingerprint: str | None = None) -> Iterator[Commit]:
        """Yield the commits of a phase, or those made with these settings, ordered by unit id.

        Raises:
            DatasetError: one is damaged, or names what is no shard or file of scores of this dataset.
        """
        for path in sorted((self._folder / phase).glob("*.json")):
            table = read_json(path)
            self._check_file(path, table["file"])
            if fingerprint in (None, table["fingerprint"]):
                yield Commit(unit=path.stem, **table)

    def _check_file(self, path: Path, file: Mapping[str, Any] | None) -> None:
        """Refuse a commit of somebody else's making: what it names would be read, and removed."""
        if file is None:
            return
        said_by = path.relative_to(self._dataset).as_posix()
        name = inside(self._dataset, file["path"], said_by=said_by).relative_to(self._dataset)
        if name.parent.as_posix() not in DATA_FOLDERS:
            raise DatasetError(f"{path}: {name} is no shard or file of scores; remove this commit and build again")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
