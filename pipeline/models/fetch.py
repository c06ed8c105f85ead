"""`hs-data models fetch`: download what is missing, verify it, and only then give it its name."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ...manifests.errors import ModelError
from ...manifests.storage import atomic_path, sha256_file
from . import lock
from .download import Follow, download, hub_folder, size_of
from .entries import ModelFile
from .registry import (
    ModelsConfig,
    check_licences,
    expected_sha256,
    find,
    get,
    has_known_part,
    how_to_get,
    models_dir,
    require,
)

LOG_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A model file that is there and verified."""

    name: str
    path: Path


def fetch(names: Sequence[str], config: ModelsConfig, *, offline: bool, console: Console) -> Iterator[Fetched]:
    """Yield the file of each model as soon as it is there; one that cannot be had does not keep the others away.

    Args:
        names: models, in the order to fetch them in.
        config: where they go, and what licences are allowed.
        offline: verify what is there, every byte of it, and download nothing.
        console: told what happens; standard error.

    Raises:
        ConfigError: a licence is not that of `models.licence`; nothing has been downloaded.
        ModelError: at the end, for those that are missing, refused or damaged.
    """
    check_licences(names, config)
    problems: list[str] = []
    missing: list[str] = []
    for name in dict.fromkeys(names):
        try:
            if find(name, config, trust=not offline) is None:
                if offline:
                    missing.append(name)
                    continue
                _fetch_one(get(name, config), config, console)
            yield Fetched(name=name, path=require(name, config))
        except ModelError as error:
            problems.append(str(error) if str(error).startswith(name) else f"{name}: {error}")
    if missing:
        problems.append(how_to_get(missing, config))
    if problems:
        raise ModelError("\n".join(problems))


def _fetch_one(entry: ModelFile, config: ModelsConfig, console: Console) -> None:
    """Download a model unless another process just did; then verify it, name it, and record its hash."""
    folder = models_dir(config)
    if entry.url is None:
        raise ModelError(how_to_get([entry.name], config))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f".{entry.filename}.lock", entry.name, console):
        if find(entry.name, config) is not None:
            return
        size = f", {entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else ""
        shown = f"{entry.name}: {entry.url} (licence: {entry.licence}{size})"
        console.print(shown, highlight=False, soft_wrap=True, markup=False)
        part = folder / f"{entry.filename}.part"
        sha256 = _download_verified(entry, part, folder, console)
        with atomic_path(folder / entry.filename) as temporary:
            part.replace(temporary)
        if entry.sha256 is None:
            _record(entry, folder, sha256, console)


def _download_verified(entry: ModelFile, part: Path, folder: Path, console: Console) -> str:
    """Download into `part` and return its hash; what an earlier try left is given up when it does not fit."""
    assert entry.url is not None
    while True:
        resumed = size_of(part) > 0 or hub_folder(part).is_dir()
        with _followed(entry, console) as follow:
            download(entry.url, part, follow)
        sha256 = sha256_file(part)
        wanted = expected_sha256(entry, folder)
        if sha256 == wanted or (wanted is None and has_known_part(entry, part, sha256)):
            return sha256
        size_bytes = part.stat().st_size
        part.unlink()
        if not resumed:
            raise ModelError(_refusal(entry, folder, sha256, size_bytes))
        console.print(f"{entry.name}: what was there did not fit; downloading all of it", highlight=False)


def _refusal(entry: ModelFile, folder: Path, sha256: str, size_bytes: int) -> str:
    if entry.sha256 is None and expected_sha256(entry, folder):
        return f"{entry.url}: {lock.changed(folder, entry.name, sha256)}"
    wanted = entry.sha256[:12] if entry.sha256 else entry.sha256_begins
    got = f"gave {size_bytes:,} bytes with sha256 {sha256[:12]}…, not {wanted}…"
    return f"{entry.name}: {entry.url} {got}; try again, or name another address or your own sha256 in models.toml"


def _record(entry: ModelFile, folder: Path, sha256: str, console: Console) -> None:
    path = folder / entry.filename
    new = lock.Record(
        filename=entry.filename, sha256=sha256, size_bytes=path.stat().st_size, source=f"downloaded from {entry.url}"
    )
    lock.record(folder, entry.name, new)
    note = (
        f"{entry.name}: nobody publishes its whole sha256; {sha256} is recorded in {lock.FILE} and checked from now on"
    )
    console.print(note, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _alone(guard: Path, name: str, console: Console) -> Iterator[None]:
    """Keep other processes from fetching the same file; the system lets go of it however this one ends."""
    held = FileLock(guard)
    try:
        held.acquire(timeout=0)
    except Timeout:
        console.print(f"{name}: another process fetches it; waiting", highlight=False, markup=False)
        held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def _followed(entry: ModelFile, console: Console) -> Iterator[Follow]:
    """Show a transfer as a bar on a terminal, and as a line a minute elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn())
    progress = Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    logged = time.monotonic()

    def follow(done: int, total: int | None) -> None:
        nonlocal logged
        progress.update(task, completed=done, total=total)
        if progress.disable and time.monotonic() - logged > LOG_EVERY_S:
            logged = time.monotonic()
            of_all = f" of {total / 1e6:.1f}" if total else ""
            console.print(f"{entry.name}: {done / 1e6:.1f}{of_all} MB", highlight=False, markup=False)

    with progress:
        task = progress.add_task(entry.name, total=entry.size_bytes)
        yield follow
