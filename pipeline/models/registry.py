"""Model files that a build needs, and their paths on this machine. Nothing is downloaded here."""

import hashlib
import logging
import os
import shlex
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...manifests import settings
from ...manifests.errors import ConfigError, ModelError
from . import lock
from .entries import ModelFile
from .hashes import hash_file
from .overrides import read_entries

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Folder of the weights, licences that are allowed, and the device and numbers that networks compute in."""

    dir: str = ""
    """Folder of weight files; empty: `$HS_DATA_MODELS`, or `~/.cache/hs-data/models`."""
    licence: Literal["any", "commercial"] = "any"
    """`commercial`: weights whose licence does not allow commercial use are refused before any work."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the networks; `auto`: on CUDA where there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers that networks compute in; `auto`: bfloat16 on CUDA, float32 on a CPU. Other numbers, other scores."""


def configure(assignments: Sequence[str]) -> ModelsConfig:
    """Return the settings that `--set` words give where only `models.*` means something; `ConfigError` on others."""
    table = settings.parse_assignments(list(assignments))
    config = settings.build(ModelsConfig, settings.section(table, "models"), path="models.")
    table.pop("models", None)
    if table:
        strange = next(iter(table))
        hint = settings.meant(strange, [key for key, _, _ in settings.keys(ModelsConfig, path="models.")])
        raise ConfigError(f"--set {strange}: only models.* means something here; {hint}")
    return config


def models_dir(config: ModelsConfig) -> Path:
    """Return the folder where weights are looked for."""
    named = config.dir or os.environ.get("HS_DATA_MODELS", "")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "hs-data" / "models"


def with_absolute_dir(config: ModelsConfig) -> ModelsConfig:
    """Write the folder out in full, for workers with another working folder or environment."""
    return replace(config, dir=str(models_dir(config)))


def entries(config: ModelsConfig) -> list[ModelFile]:
    """Return all models, overrides in the place of ours; raise `ConfigError` when `models.toml` is not right."""
    return list(read_entries(models_dir(config)).values())


def get(name: str, config: ModelsConfig) -> ModelFile:
    """Return the entry of a model; a `KeyError` is a bug of ours."""
    return read_entries(models_dir(config))[name]


def find(name: str, config: ModelsConfig, *, trust: bool = True) -> Path | None:
    """Return the file of a model, or None when it is not there.

    A file counts by its hash, whatever its name. Where no full hash is known yet, it counts by its name and the part of
    the hash that is known.

    Args:
        name: of the model.
        config: where to look.
        trust: whether to believe hashes that were found before of files that have not changed since.
    """
    entry, folder = get(name, config), models_dir(config)
    if not folder.is_dir():
        return None
    named, recorded = folder / entry.filename, lock.read_lock(folder).get(name)
    wanted = expected_sha256(entry, folder)
    if wanted is None:
        return named if named.is_file() and has_known_part(entry, named, hash_file(named, trust=trust)) else None
    size_bytes = entry.size_bytes or (recorded.size_bytes if recorded and not entry.overridden else None)
    for path in [named, *_by_size(folder, size_bytes)]:
        if path.is_file() and hash_file(path, trust=trust) == wanted:
            return path
    return None


def _by_size(folder: Path, size_bytes: int | None) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        unfinished = path.name.startswith(".") or path.suffix == ".part"
        if not unfinished and path.is_file() and path.stat().st_size == size_bytes:
            yield path


def expected_sha256(entry: ModelFile, folder: Path) -> str | None:
    """Return the hash that a file must have: the published one, or the one recorded here, or None."""
    recorded = None if entry.sha256 else lock.read_lock(folder).get(entry.name)
    return recorded.sha256 if recorded else entry.sha256


def has_known_part(entry: ModelFile, path: Path, sha256: str) -> bool:
    """Tell whether a file's hash begins as it should: its own, or that of the one file zipped in it.

    `torch.hub` puts the first digits of a hash into a file's name; of which of the two it leaves to the author.
    """
    return sha256.startswith(entry.sha256_begins) or _hash_inside(path).startswith(entry.sha256_begins)


def _hash_inside(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [member for member in archive.infolist() if not member.is_dir()]
            return hashlib.sha256(archive.read(inside[0])).hexdigest() if len(inside) == 1 else ""
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError):
        return ""  # no whole zip


def require(name: str, config: ModelsConfig) -> Path:
    """Return the file of a model; raise what `require_all` raises."""
    return require_all([name], config)[name]


def require_all(names: Sequence[str], config: ModelsConfig) -> dict[str, Path]:
    """Return the files of models by name; a hash that nobody published is recorded the first time.

    Raises:
        ConfigError: a licence is not that of `models.licence`.
        ModelError: files are missing or changed; it says which, and the command that fetches them.
    """
    check_licences(names, config)
    found = {name: find(name, config) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ModelError(how_to_get(missing, config))
    paths = {name: path for name, path in found.items() if path is not None}
    for name, path in paths.items():
        _record(get(name, config), path, models_dir(config))
    return paths


def _record(entry: ModelFile, path: Path, folder: Path) -> None:
    if expected_sha256(entry, folder) is not None:
        return
    new = lock.Record(
        filename=path.name, sha256=hash_file(path), size_bytes=path.stat().st_size, source="found in the folder"
    )
    try:
        lock.record(folder, entry.name, new)
    except OSError as error:
        logger.info("%s: its hash cannot be recorded (%s); it counts by its name", path, error.strerror)


def check_licences(names: Sequence[str], config: ModelsConfig) -> None:
    """Refuse models whose licence is not that of `models.licence`.

    Raises:
        ConfigError: it names the models and their licences.
    """
    if config.licence == "any":
        return
    refused = [entry for entry in (get(name, config) for name in dict.fromkeys(names)) if not entry.commercial]
    if refused:
        named = ", ".join(f"{entry.name} (licence: {entry.licence})" for entry in refused)
        raise ConfigError(
            f"models.licence=commercial: refuses {named}; choose other backends, or set models.licence=any"
        )


def how_to_get(names: Sequence[str], config: ModelsConfig) -> str:
    """Say that models are missing, what lies in their place, and the command that fetches them."""
    folder = models_dir(config)
    missing = [get(name, config) for name in dict.fromkeys(names)]
    by_hand = [f"put {entry.filename} there" for entry in missing if entry.url is None]
    fetched = " ".join(entry.name for entry in missing if entry.url is not None)
    where = f" --set {shlex.quote(f'models.dir={config.dir}')}" if config.dir else ""
    ways = [*([f"run  hs-data models fetch {fetched}{where}"] if fetched else []), *by_hand]
    others = [
        f" ({entry.filename} there has another sha256)" for entry in missing if (folder / entry.filename).is_file()
    ]
    return f"{', '.join(entry.name for entry in missing)}: not in {folder}{''.join(others)}; {', and '.join(ways)}"


def sha256_of(name: str, config: ModelsConfig) -> str:
    """Return the hash of the file that is used as a model: published, overridden, recorded, or found.

    Raises:
        ModelError: it is not known and the file is not there.
    """
    known = expected_sha256(get(name, config), models_dir(config))
    return known or hash_file(require(name, config))


def fingerprint(names: Sequence[str], config: ModelsConfig) -> str:
    """Return one hash over the models in use and what they compute in, for the identity of what they made.

    Where the files lie, their licence and the device change nothing; the precision does, for networks of torch.
    """
    words = sorted(sha256_of(name, config) for name in names)
    if uses_torch(names, config):
        words.append(config.precision)
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def uses_torch(names: Sequence[str], config: ModelsConfig) -> bool:
    """Tell whether one of the models is computed by torch."""
    return any(get(name, config).framework == "torch" for name in names)


def as_used(names: Sequence[str], config: ModelsConfig) -> list[dict[str, str]]:
    """Return what a dataset states of the models that made it."""
    return [
        {"name": name, "sha256": sha256_of(name, config), "licence": get(name, config).licence}
        for name in dict.fromkeys(names)
    ]
