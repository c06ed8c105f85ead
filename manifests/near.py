"""Near names: what somebody who misspelt a name probably meant."""

import difflib
from collections.abc import Iterable

MAX_COMPARED = 20_000
"""Comparing takes some 20 us a name."""
MAX_EXTRA_CHARACTERS = 4


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a word, whatever its case; None where none is alike."""
    likely = [name for name in known if abs(len(name) - len(word)) <= MAX_EXTRA_CHARACTERS][:MAX_COMPARED]
    names = {name.lower(): name for name in likely}
    found = difflib.get_close_matches(word.lower(), names, n=1)
    return names[found[0]] if found else None


def choice(word: str, known: Iterable[str]) -> str:
    """Return the way out for a word that is none of the known names: the near one, and all there are."""
    names = list(known)
    near = nearest(word, names)
    return (f"did you mean {near}? " if near else "") + f"choose one of {', '.join(names)}"
