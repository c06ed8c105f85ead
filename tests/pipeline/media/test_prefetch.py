"""Prefetch: the same items, the same error, never further ahead than asked, and no thread left behind."""

import threading
from collections.abc import Iterator

import pytest

from hs_data.manifests.errors import MediaError
from hs_data.pipeline.media.prefetch import prefetch


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [0, 1, 7, 1000])
def test_items_come_in_their_order(depth: int):
    assert list(prefetch(iter(range(100)), depth)) == list(range(100))
    assert _threads() == []


@pytest.mark.parametrize("depth", [0, 3])
def test_an_error_comes_after_the_items_before_it(depth: int):
    def fails() -> Iterator[int]:
        yield from range(5)
        raise MediaError("decode_error", "broken")

    ahead = prefetch(fails(), depth)
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(MediaError, match="broken"):
        next(ahead)
    assert _threads() == []


def test_it_is_never_further_ahead_than_asked():
    pulled = 0

    def counted() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    items = prefetch(counted(), 4)
    for taken in range(1, 50):
        assert next(items) == taken
        assert pulled <= taken + 4 + 1  # one more is in the thread's hand
    items.close()  # type: ignore[attr-defined]
    assert _threads() == []
    assert pulled < 60


def test_a_reader_that_stops_early_ends_the_thread_and_the_iterator_stays_usable():
    items = iter(range(100))
    ahead = prefetch(items, 2)
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert _threads() == []
    assert 1 <= next(items) <= 4
