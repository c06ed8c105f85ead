"""Costs of a pass: CPU seconds by stage, for the report and the benchmark."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Costs:
    """Add up the process's CPU seconds under the stage that is running; a stage inside another one counts once."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = time.process_time()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside under `name`."""
        self._turn(name)
        try:
            yield
        finally:
            self._turn(None)

    def as_table(self) -> dict[str, float]:
        """Return CPU seconds by stage."""
        return {name: round(seconds, 4) for name, seconds in sorted(self.cpu_s.items())}

    def _turn(self, name: str | None) -> None:
        now = time.process_time()
        if self._open:
            self.cpu_s[self._open[-1]] += now - self._since
        self._since = now
        if name is None:
            self._open.pop()
        else:
            self._open.append(name)
