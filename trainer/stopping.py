"""A run that is asked to stop saves first."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..manifests.errors import HsDataError


class StoppedError(HsDataError):
    """A run was asked to stop, and its state is saved."""

    exit_code = 130


@contextmanager
def asked_to_stop(tell: Callable[[int], object] | None = None) -> Iterator[list[int]]:
    """Collect SIGTERM, which a scheduler sends before it takes the machine away; empty while none has come.

    Args:
        tell: is called with the signal each time, to pass it on.
    """
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        asked.append(number)
        if tell is not None:
            tell(number)

    try:
        before = signal.signal(signal.SIGTERM, note)
    except ValueError:  # not the main thread: Ray Train runs us in one of its own and stops us itself
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
