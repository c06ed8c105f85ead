"""Decode ahead in a thread, so that pictures are ready while a network computes."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")
END = object()


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Yield what an iterator yields, in its order, pulled by a thread that is at most `depth` items ahead.

    Decoders and networks both let go of Python's lock while they work. What the iterator raises is raised here, after
    the items before it. Closing this generator stops the thread before it returns.

    Args:
        items: used by the thread alone from now on.
        depth: items that wait at most; 0 uses no thread. A 1080x1920 picture takes 6 MB.
    """
    if depth <= 0:
        yield from items
        return
    waiting: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    failures: list[BaseException] = []

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def pull() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by the reader
            failures.append(error)
        finally:
            put(END)

    thread = threading.Thread(target=pull, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not END:
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
    if failures:
        raise failures[0]
