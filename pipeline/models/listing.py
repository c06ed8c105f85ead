"""`hs-data models`: every model with its licence, size and hash, and whether it is on this machine."""

from typing import TypedDict

from . import lock
from .entries import ModelFile
from .registry import ModelsConfig, entries, expected_sha256, find, models_dir


class ModelRow(TypedDict):
    """A row of the list; None is what nobody knows."""

    name: str
    purpose: str
    licence: str
    commercial: bool
    size_bytes: int | None
    sha256: str | None
    checked: str
    """File or publisher that the hash is compared with."""
    source: str
    url: str | None
    filename: str
    overridden: bool
    found: str
    """Path of the file, or the folder that it is not in."""


def list_models(config: ModelsConfig) -> list[ModelRow]:
    """Return a row for each model.

    Raises:
        ConfigError: `models.toml` is not right.
        ModelError: `models.lock.json` is damaged.
    """
    return [_describe(entry, config) for entry in entries(config)]


def _describe(entry: ModelFile, config: ModelsConfig) -> ModelRow:
    folder = models_dir(config)
    recorded = None if entry.sha256 else lock.read_lock(folder).get(entry.name)
    path = find(entry.name, config)
    return {
        "name": entry.name,
        "purpose": entry.purpose,
        "licence": entry.licence,
        "commercial": entry.commercial,
        "size_bytes": recorded.size_bytes if recorded else entry.size_bytes,
        "sha256": expected_sha256(entry, folder),
        "checked": _how_checked(entry, recorded),
        "source": entry.source,
        "url": entry.url,
        "filename": entry.filename,
        "overridden": entry.overridden,
        "found": str(path) if path else f"not in {folder}",
    }


def _how_checked(entry: ModelFile, recorded: lock.Record | None) -> str:
    if entry.sha256:
        return "against your models.toml" if entry.overridden else "against the published sha256"
    if recorded:
        return f"against {lock.FILE} ({recorded.source})"
    begins = f"begins with {entry.sha256_begins}; " if entry.sha256_begins else ""
    return f"{begins}the whole sha256 is not published, and recorded in {lock.FILE} at the first download or use"
