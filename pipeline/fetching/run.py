"""Fetch one item after another: try, check, name, record; stop when the site says so."""

import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from ...manifests.errors import HsDataError
from ...manifests.sources.folder import is_media
from ...manifests.storage import digest, sync
from .display import FetchProgress
from .items import Downloader, FetchItem, FollowBytes
from .ledger import FetchLedger, FetchRow
from .statuses import STATUSES, FetchFault
from .streams import join_streams

WORK = ".fetch"
"""Folder of what is on its way; readers pass over hidden ones."""
TRIES = 3
"""Tries of one item in one run, while the connection breaks."""
WAIT_S = 2.0
"""Rest before the second try; twice as long before the third."""
MOST_BROKEN = 5
"""Items in a row whose connection breaks before the run stops: then it is not the items."""


@dataclass(frozen=True, kw_only=True)
class FetchOutcome:
    """Result of a run."""

    counts: Counter[str]
    """Items by status, all that were requested."""
    num_tried: int
    stopped: str | None
    """Reason why the run ended before its last item."""


def fetch(
    items: Sequence[FetchItem],
    downloader: Downloader,
    output: Path,
    display: FetchProgress,
    *,
    limit: int | None = None,
    again: Collection[str] = (),
    wait_s: float = WAIT_S,
) -> FetchOutcome:
    """Fetch what is not there yet and can be had; a run that ends in any way is gone on with by the next one.

    Args:
        items: all that are requested; each becomes a row of `fetch.jsonl`.
        downloader: brings the bytes.
        output: the folder; nothing is written outside it.
        display: told what happens.
        limit: try at most so many.
        again: statuses to try once more that are otherwise final.
        wait_s: before the second try of an item.

    Raises:
        HsDataError: another process fetches into this folder.
        OSError: the disk.
    """
    with _alone(output):
        ledger = FetchLedger(output)
        ledger.begin(items)
        todo = [item for item in items if _is_open(ledger.rows[item.id].status, again)][:limit]
        stopped, num_broken, num_tried = None, 0, 0
        with display.over(len(todo)):
            for item in todo:
                if num_tried and downloader.pause_s:
                    time.sleep(downloader.pause_s)
                row = ledger.end(_fetch_one(item, downloader, output, display.follow(item.name), wait_s))
                num_tried += 1
                display.show(row)
                num_broken = num_broken + 1 if row.status == "network_error" else 0
                if row.status == "throttled" or num_broken == MOST_BROKEN:
                    stopped = row.detail
                    break
        ledger.write()
        if _is_empty(output / WORK):
            (output / WORK).rmdir()
        counts = Counter(ledger.rows[item.id].status for item in items)
        return FetchOutcome(counts=counts, num_tried=num_tried, stopped=stopped)


def _is_open(status: str, again: Collection[str]) -> bool:
    return STATUSES[status].again or status in again


def _fetch_one(item: FetchItem, downloader: Downloader, output: Path, follow: FollowBytes, wait_s: float) -> FetchRow:
    """Try an item; what is on its way stays for the next run where that may go on with it."""
    folder = output / WORK / digest("fetch", item.id)[:20]
    row = FetchRow(id=item.id, name=item.name, status="ok")
    for number in range(TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = _name(downloader.download(item, folder, follow), output / item.path)
        except FetchFault as fault:
            row = replace(row, status=fault.status, detail=fault.detail)
            if fault.status == "network_error" and number + 1 < TRIES:
                time.sleep(wait_s * 2**number)
                continue
            if not STATUSES[fault.status].again or fault.status == "damaged":
                shutil.rmtree(folder, ignore_errors=True)
            return row
        shutil.rmtree(folder)
        path = file.relative_to(output).as_posix()
        return replace(row, status="ok", detail=None, path=path, bytes=file.stat().st_size)
    raise AssertionError("the last try returns")


def _name(files: Sequence[Path], stem: Path) -> Path:
    """Give downloaded files their place; media only with picture and sound."""
    if is_media(files[0].name):
        return join_streams(files, stem)
    final = stem.with_name(stem.name + files[0].suffix)
    final.parent.mkdir(parents=True, exist_ok=True)
    sync(files[0])
    files[0].replace(final)
    return final


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep other processes from fetching into the same folder; the system lets go of it however this one ends."""
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".fetch.lock", timeout=0):
            yield
    except Timeout as error:
        raise HsDataError(f"{output}: another process fetches into it; wait for it, or name another folder") from error


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
