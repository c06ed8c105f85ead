"""Progress of a fetch: two bars on a terminal, elsewhere a line for each item that did not come and one a minute."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from .items import FollowBytes
from .ledger import FetchRow

LOG_EVERY_S = 60.0


class FetchProgress:
    """Show how a fetch goes.

    Args:
        console: where; standard error.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        is_plain = not console.is_terminal
        bar = BarColumn(bar_width=24)
        self._items = Progress(
            TextColumn("{task.description}"), bar, MofNCompleteColumn(), console=console, disable=is_plain
        )
        self._bytes = Progress(
            TextColumn("{task.description}"), bar, DownloadColumn(), console=console, disable=is_plain
        )
        self._counts: Counter[str] = Counter()
        self._total, self._task, self._file = 0, TaskID(0), TaskID(0)
        self._logged_s = time.monotonic()

    @contextmanager
    def over(self, total: int) -> Iterator[None]:
        """Show progress over so many items until the end of the block."""
        from rich.console import Group  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        self._total = total
        self._task = self._items.add_task("fetched", total=total)
        self._file = self._bytes.add_task("", total=None)
        if self._items.disable:
            yield
            return
        with Live(Group(self._items, self._bytes), console=self._console, transient=True):
            yield

    def follow(self, name: str) -> FollowBytes:
        """Return the function that is told of the bytes of an item."""
        self._bytes.reset(self._file, description=name[:40], total=None)
        return lambda done, total: self._bytes.update(self._file, completed=done, total=total)

    def show(self, row: FetchRow) -> None:
        """Tell how an item ended."""
        self._counts[row.status] += 1
        self._items.advance(self._task)
        if row.status != "ok":
            self._say(f"{row.name}: {row.status}: {row.detail}")
        elif self._items.disable and time.monotonic() - self._logged_s > LOG_EVERY_S:
            self._logged_s = time.monotonic()
            done = ", ".join(f"{number} {status}" for status, number in self._counts.most_common())
            self._say(f"{self._counts.total()} of {self._total}: {done}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)
