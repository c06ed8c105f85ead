"""Asked to stop, a run saves first; asked again with Ctrl-C, it ends at once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..manifests.errors import HsDataError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a scheduler sends before it takes the machine away."""
SAME_KEY_S = 0.5
"""A Ctrl-C so soon after the first is the same one: a launcher passes on what the terminal has sent already."""
STOP_FILE = ".stop"
"""In a run's folder: asks its workers to stop where no signal reaches them."""


class StoppedError(HsDataError):
    """A run was asked to stop; what it had is saved."""

    exit_code = 130


@contextmanager
def asked_to_stop(first: Callable[[], object], again: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Take Ctrl-C and SIGTERM; yield whether one has come.

    Both functions are called in a thread of their own, for the main one may be inside a call of C++ for a long time.

    Args:
        first: is called at the first of them.
        again: is called at every Ctrl-C after that one.
    """
    asked = threading.Event()
    read, write = os.pipe()
    os.set_blocking(write, False)
    fd_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)  # written to at once, wherever Python is
    before = {number: signal.signal(number, _wait_for_listener) for number in SIGNALS}
    listener = threading.Thread(target=_listen, args=(read, asked, first, again), daemon=True)
    listener.start()
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(fd_before)
        os.close(write)
        listener.join()
        os.close(read)


def _wait_for_listener(_number: int, _frame: object) -> None:
    """Do nothing in the main thread: the listener reads the signal from its pipe."""


def _listen(read: int, asked: threading.Event, first: Callable[[], object], again: Callable[[], object]) -> None:
    since = 0.0
    while content := os.read(read, 1):
        if content[0] not in SIGNALS:
            continue
        if not asked.is_set():
            asked.set()
            since = time.monotonic()
            first()
        elif content[0] == signal.SIGINT and time.monotonic() - since > SAME_KEY_S:
            again()


@contextmanager
def stop_requests(run: Path, first: Callable[[], object], again: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Yield whether a process that trains was asked to stop: by a signal, or by the stop file of its run.

    Ray Train runs us in a thread, which takes no signals; its driver leaves the file.
    """
    if threading.current_thread() is threading.main_thread():
        with asked_to_stop(first, again) as asked:
            yield asked
    else:
        yield (run / STOP_FILE).exists
