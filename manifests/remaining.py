"""The time that is left of a long piece of work, from what was done of it."""

import time


class Remaining:
    """Seconds that are left at the speed since the beginning.

    Args:
        total: what is to be done, in any unit.
        done: how much was done before; it took none of our time.
    """

    def __init__(self, total: float, done: float = 0.0) -> None:
        self._total = total
        self._before = self._done = done
        self._began = time.monotonic()

    def begin(self) -> None:
        """Forget the time until now: it went into starting up."""
        self._began, self._before = time.monotonic(), self._done

    def reached(self, done: float) -> None:
        """Take how much is done."""
        self._done = done

    def seconds(self) -> float | None:
        """Return the seconds that are left, or None while nothing was done."""
        new = self._done - self._before
        if new <= 0:
            return None
        return max(0.0, self._total - self._done) * (time.monotonic() - self._began) / new

    def text(self) -> str:
        """Return them for people, as `1:02:03 left`; empty while nothing was done."""
        seconds = self.seconds()
        if seconds is None:
            return ""
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left"
