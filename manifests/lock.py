"""Locks of a dataset: one process writes it at a time, or several that each build a part of it."""

import contextlib
import fcntl
import logging
import os
import platform
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import DatasetError
from .storage import read_json, write_json

logger = logging.getLogger(__name__)
FOLDER = ".locks"
"""Below the dataset; hidden, so that nothing takes it for data."""
HEARTBEAT_S = 30.0
"""How often a holder gives a sign of life; only processes of other machines look at it."""
SILENCE_S = 600.0
"""A holder on another machine that gave none for so long is taken to be gone."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that writes a dataset."""

    command: str
    """Its work in a word, for people."""
    part: str
    """Which part of a build it does, as `3/16`; empty where it does all."""
    host: str
    machine: str
    """Boot of the host and namespace of its process ids: where these are equal, `pid` can be looked up."""
    pid: int
    began: int
    """When the process began, in clock ticks since the boot: process ids are used again."""
    since: str
    """When it took the lock, UTC."""

    @property
    def is_alive(self) -> bool:
        """Whether the process lives; it must be of this machine."""
        return _began(self.pid) == self.began

    def shares_with(self, other: "Holder") -> bool:
        """Tell whether both may write at once: different parts of as many."""
        return bool(self.part and other.part) and self.part != other.part and self._total == other._total

    @property
    def _total(self) -> str:
        return self.part.partition("/")[2]


@contextmanager
def lock_dataset(dataset: Path, command: str, part: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold a dataset while it is written.

    A holder that was killed is told from one that lives: on this machine by its process, on others by its heartbeat.

    Args:
        dataset: the folder; it is made where it is not there.
        command: what is done.
        part: `(i, n)` of a build in n parts; parts of as many share the dataset.

    Raises:
        DatasetError: another process writes it.
    """
    folder, is_new = dataset / FOLDER, not dataset.exists()
    dataset.mkdir(parents=True, exist_ok=True)
    own = _this_process(command, "" if part is None else f"{part[0]}/{part[1]}")
    path = folder / f"{own.part.replace('/', 'of') or 'all'}.json"
    with _guard(dataset):
        for other in sorted(folder.glob("*.json")):
            _check(dataset, other, own)
        write_json(path, asdict(own))
    released = threading.Event()
    threading.Thread(target=_beat, args=(path, released), daemon=True).start()
    try:
        yield
    finally:
        released.set()
        with _guard(dataset), contextlib.suppress(OSError):  # other parts hold it, or there is data beside it
            path.unlink(missing_ok=True)
            folder.rmdir()
            if is_new:
                dataset.rmdir()


@contextmanager
def lock_written(dataset: Path, command: str, *, writes: bool = True) -> Iterator[None]:
    """Hold a dataset that a command rewrites; a folder that is none is left to the command to refuse."""
    is_dataset = (dataset / "dataset.json").is_file() or (dataset / "work").is_dir()
    with lock_dataset(dataset, command) if writes and is_dataset else contextlib.nullcontext():
        yield


def _check(dataset: Path, path: Path, own: Holder) -> None:
    """Remove the lock of a holder that is gone, and refuse where one that lives does not share.

    Raises:
        DatasetError: it lives, as far as one can tell from here.
    """
    holder = Holder(**read_json(path))
    silent_s, hint = None, "wait for it, or stop it"
    if holder.machine == own.machine:
        gone = not holder.is_alive
    else:
        silent_s = _silence_s(path)
        gone = silent_s > SILENCE_S
        hint = f"its last sign of life is {silent_s:.0f} s old; if it is gone for sure, remove {path}"
    if gone:
        logger.warning("%s: `%s`, process %d on %s, is gone; going on", dataset, *_who(holder))
        path.unlink(missing_ok=True)
    elif not own.shares_with(holder):
        command, pid, host = _who(holder)
        who = f"`{command}`, process {pid} on {host}"
        raise DatasetError(f"{dataset}: {who}, writes it since {holder.since}; {hint}")


def _who(holder: Holder) -> tuple[str, int, str]:
    part = f" --shard {holder.part}" if holder.part else ""
    return f"hs-data {holder.command}{part}", holder.pid, holder.host


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look and write."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have no flock; there two that begin within the same millisecond may miss each other.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _beat(path: Path, released: threading.Event) -> None:
    while not released.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):  # a share that is away for a while
            os.utime(path)


def _silence_s(path: Path) -> float:
    """Return the age of a heartbeat, by the clock of the file system: those of two machines may differ."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp") as now:
        os.utime(now.name)
        return os.stat(now.name).st_mtime - path.stat().st_mtime


def _this_process(command: str, part: str) -> Holder:
    began = _began(os.getpid())
    assert began is not None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Holder(
        command=command,
        part=part,
        host=platform.node(),
        machine=f"{boot} {os.readlink('/proc/self/ns/pid')}",
        pid=os.getpid(),
        began=began,
        since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    )


def _began(pid: int) -> int | None:
    """Return when a process began, or None where it has ended, even if nobody has asked how."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
