"""`fetch.jsonl`: one row for each requested item, appended as items end and put in order between runs."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ...manifests.storage import sync, write_bytes
from .items import FetchItem
from .statuses import STATUSES

FILE = "fetch.jsonl"


@dataclass(frozen=True, kw_only=True)
class FetchRow:
    """State of one item."""

    id: str
    name: str
    status: str
    """A member of `STATUSES`."""
    detail: str | None = None
    path: str | None = None
    """Path of the file, below the folder."""
    bytes: int | None = None
    attempts: int = 0
    """Runs that tried."""
    at: str | None = None
    """Time of the last one, UTC."""


class FetchLedger:
    """The rows of a folder.

    A killed run leaves rows that repeat an item, of which the last one counts, or half a line at the end, which counts
    as not written.

    Args:
        folder: the output of a fetch.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.rows: dict[str, FetchRow] = {row.id: row for row in _read(self._path)}

    def begin(self, items: Iterable[FetchItem]) -> None:
        """Put the items of this run first, with what is known of them; rows of other runs stay behind them."""
        rows = {row.id: row for row in self.preview(items)}
        self.rows = rows | {key: row for key, row in self.rows.items() if key not in rows}
        self.write()

    def preview(self, items: Iterable[FetchItem]) -> list[FetchRow]:
        """Return the rows that `begin` would write."""
        return [_standing(item, self.rows.get(item.id), self._path.parent) for item in items]

    def end(self, row: FetchRow) -> FetchRow:
        """Record how one item ended, on the disk before anything else happens."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = replace(row, at=now, attempts=self.rows[row.id].attempts + 1)
        self.rows[row.id] = row
        with self._path.open("ab") as file:
            file.write(_line(row))
        sync(self._path)
        return row

    def write(self) -> None:
        """Write one row for each item, in order."""
        write_bytes(self._path, b"".join(_line(row) for row in self.rows.values()))


def _standing(item: FetchItem, known: FetchRow | None, folder: Path) -> FetchRow:
    """Say how it stands before a run: what is on the disk comes first, then what an earlier run found out."""
    new = FetchRow(id=item.id, name=item.name, status=item.status)
    if known is None:
        return new
    if known.status in ("ok", "already_there"):
        is_ours = known.path is not None and (folder / known.path).is_file()
        return known if is_ours else new
    return new if item.status != "waiting" else replace(known, name=item.name)


def _read(path: Path) -> Iterable[FetchRow]:
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            row = FetchRow(**json.loads(line))
        except (ValueError, TypeError):
            continue  # the last line of a run that was killed, or nothing
        if row.status in STATUSES:
            yield row


def _line(row: FetchRow) -> bytes:
    return json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"
