"""Named selections: other verdicts on the same clips, beside a dataset's own, which stay as they are; no shards.

DATASET/selections/NAME/selection.json     the rules, what they judged, sha256 of the verdicts
DATASET/selections/NAME/verdicts.parquet   one row per candidate clip: its id and the columns below
"""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import ConfigError, DatasetError
from .schema import FIXED_CLIP_SCHEMA
from .settings import Table
from .storage import atomic_path, inside, read_json, sha256_file, write_json

FOLDER = "selections"
JUDGED = ("verdict", "reason", "value", "threshold", "failures", "clip_class", "split")
"""Columns that a selection sets; all other columns are the dataset's."""
SCHEMA = pa.schema([FIXED_CLIP_SCHEMA.field(name) for name in ("clip_id", *JUDGED)])
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class SelectionFacts:
    """Rules of a selection, and hashes of what they judged and found, as `selection.json` states them."""

    name: str
    changes: Table
    """Limits that were asked for, as a settings table."""
    select: Table
    """All limits: keys of `[select]`."""
    scores: str
    """Fingerprint of the scores that were judged."""
    sha256: str = ""
    """Hash of the file of verdicts."""
    replaces: str | None = None
    """That of the verdicts that were there before; a kill may have left them."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """An opened selection."""

    name: str
    facts: SelectionFacts
    verdicts: pa.Table
    """Rows of `SCHEMA`."""

    def over(self, clips: pa.Table) -> pa.Table:
        """Return clips, `clip_id` among their columns, with these verdicts in place of their own.

        Raises:
            DatasetError: a clip that was not there when the selection was made.
        """
        indices = pc.call_function("index_in", [clips["clip_id"]], pc.SetLookupOptions(self.verdicts["clip_id"]))
        if indices.null_count:
            what = f"{indices.null_count} clips came after it was made"
            raise DatasetError(f"selection {self.name}: {what}; run  hs-data select DATASET --name {self.name}")
        for index, name in enumerate(clips.column_names):
            if name in JUDGED:
                clips = clips.set_column(index, SCHEMA.field(name), self.verdicts[name].take(indices))
        return clips


def folder_of(dataset: Path, name: str) -> Path:
    """Return where a selection lies.

    Raises:
        ConfigError: a name that is no plain file name.
        DatasetError: a link leads out of the dataset.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"selection {name!r}: not a name; use letters, digits, _ . and -, 64 at most")
    return inside(dataset, f"{FOLDER}/{name}")


def names(dataset: Path) -> list[str]:
    """Return the selections of a dataset, sorted."""
    found = (path.parent.name for path in inside(dataset, FOLDER).glob("*/selection.json"))
    return sorted(name for name in found if NAME.fullmatch(name))


def save(dataset: Path, name: str, facts: SelectionFacts, verdicts: pa.Table) -> Path:
    """Write a selection and return its folder; one of that name is replaced.

    Args:
        dataset: the dataset's folder.
        name: of the selection.
        facts: the rules; the hashes of verdicts are set here.
        verdicts: a clip table; columns that `SCHEMA` has not are left out.
    """
    folder = folder_of(dataset, name)
    before = folder / "verdicts.parquet"
    facts = replace(facts, replaces=sha256_file(before) if before.is_file() else None)
    with atomic_path(folder / "verdicts.parquet") as temporary:
        pq.write_table(verdicts.select(SCHEMA.names).cast(SCHEMA), temporary, compression="zstd")
        # The facts first: whoever takes rows out and is killed in between still sees the rows, and does both again.
        write_json(folder / "selection.json", asdict(replace(facts, sha256=sha256_file(temporary))))
    return folder


def require_saved(dataset: Path, name: str) -> None:
    """Refuse verdicts that changed since they were saved; those that a killed `save` was to replace are whole too.

    Raises:
        DatasetError: names the file.
    """
    facts, path = load_facts(dataset, name), folder_of(dataset, name) / "verdicts.parquet"
    if path.is_file() and sha256_file(path) not in (facts.sha256, facts.replaces):
        raise DatasetError(f"{path}: not what was saved; run  hs-data select DATASET --name {name}")


def load_facts(dataset: Path, name: str) -> SelectionFacts:
    """Return the rules of a selection, without its verdicts.

    Raises:
        ConfigError: a name that is no plain file name.
        DatasetError: there is none of that name, or it is damaged.
    """
    path = folder_of(dataset, name) / "selection.json"
    if not path.is_file():
        known = ", ".join(names(dataset)) or "none"
        raise DatasetError(f"{dataset}: no selection {name} (there: {known}); make it with  hs-data select --name")
    try:
        return SelectionFacts(**read_json(path))
    except TypeError as error:
        raise DatasetError(f"{path}: damaged ({error}); run  hs-data select DATASET --name {name}") from error


def load(dataset: Path, name: str) -> Selection:
    """Open a selection.

    Raises:
        ConfigError: a name that is no plain file name.
        DatasetError: there is none of that name, or its verdicts are not those that it was saved with.
    """
    facts, path = load_facts(dataset, name), folder_of(dataset, name) / "verdicts.parquet"
    if not path.is_file() or sha256_file(path) != facts.sha256:
        raise DatasetError(f"{path}: not what was saved; run  hs-data select DATASET --name {name}")
    return Selection(name=name, facts=facts, verdicts=pq.read_table(path, schema=SCHEMA))
