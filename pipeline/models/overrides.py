"""`models.toml` in the models folder: weights of one's own in the place of ours, or another place to get ours from."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ...manifests import settings
from ...manifests.errors import ConfigError
from .entries import MODEL_FILES, ModelFile

FILE = "models.toml"


@dataclass(frozen=True, kw_only=True)
class ModelOverride:
    """One table of `models.toml`: with `url` alone a mirror of the known file, otherwise another file."""

    filename: str = ""
    sha256: str = ""
    licence: str = "not stated"
    commercial: bool = False
    purpose: str = ""
    source: str = "your own"
    url: str = ""


def read_entries(folder: Path) -> dict[str, ModelFile]:
    """Return all models by name, those of `models.toml` in the place of ours.

    Raises:
        ConfigError: `models.toml` cannot be read, or has a name, key or value that cannot be.
    """
    entries = {entry.name: entry for entry in MODEL_FILES}
    file = folder / FILE
    if file.is_file():
        for name, table in settings.load_toml(file).items():
            entry = entries[known_name(name, where=f"{file}: ")]
            entries[name] = _replaced(entry, table, f"{file}: {name}")
    return entries


def known_name(name: str, *, where: str = "") -> str:
    """Return a name that is one of a model; raise `ConfigError` that names the nearest one otherwise."""
    names = [entry.name for entry in MODEL_FILES]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{where}{name}: no such model; did you mean {near}? There are {', '.join(names)}")
    return name


def _replaced(entry: ModelFile, table: object, where: str) -> ModelFile:
    if not isinstance(table, dict) or not table:
        raise ConfigError(f"{where}: is no table of settings; write [{entry.name}] and the settings below it")
    override = settings.build(ModelOverride, table, path=f"{where}.")
    if override.url and set(table) == {"url"}:
        return replace(entry, url=override.url)
    if not re.fullmatch(r"[0-9a-f]{64}", override.sha256):
        raise ConfigError(f"{where}.sha256: 64 hex digits in small letters are needed; `sha256sum FILE` prints them")
    if not override.filename or Path(override.filename).name != override.filename or override.filename.startswith("."):
        raise ConfigError(f"{where}.filename: the plain name of a file in the same folder is needed")
    return replace(
        entry,
        filename=override.filename,
        sha256=override.sha256,
        sha256_begins="",
        size_bytes=None,
        licence=override.licence,
        commercial=override.commercial,
        purpose=override.purpose or entry.purpose,
        source=override.source,
        url=override.url or None,
        overridden=True,
    )
