"""Where a long command stands, for the line a minute that it prints."""

from collections.abc import Collection, Iterator
from typing import TypeVar

T = TypeVar("T")
_stands: dict[str, str] = {}


def counted(items: Collection[T], what: str) -> Iterator[T]:
    """Yield the items, and have `current` tell how many of them are done."""
    try:
        for number, item in enumerate(items):
            _stands[what] = f"{what} {number}/{len(items)}"
            yield item
    finally:
        _stands.pop(what, None)


def current() -> str:
    """Return where the loops stand that run now, the outermost first; empty where none is counted."""
    return ", ".join(list(_stands.values()))
