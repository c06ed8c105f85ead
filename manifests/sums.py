"""Sums: sha256 of the files that people read, the report and the card, in the form that `sha256sum -c` takes."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from .storage import sha256_file, write_bytes

FILE = "SHA256SUMS"
CARD, PAGE, FACTS = "README.md", "report/index.html", "report/report.json"
SUMMED: tuple[str, ...] = (CARD, PAGE, FACTS)


def write_summed(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files and, after them, their sums; what would not change is left alone.

    The old sums go first: a kill leaves files that nothing is said of, and never sums of other files.

    Args:
        folder: a dataset, or a named selection.
        contents: by a name out of `SUMMED`.
    """
    lines = "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in SUMMED if name in contents)
    sums = folder / FILE
    if sums.is_file() and sums.read_bytes() != lines.encode():
        sums.unlink()
    for name, content in contents.items():
        write_bytes(folder / name, content)
    write_bytes(sums, lines.encode())


def changed(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the files that are not as they were written, and what is wrong with each; nothing where no sums are."""
    if not (folder / FILE).is_file():
        return
    *lines, end = (folder / FILE).read_bytes().decode(errors="replace").split("\n")
    for line in [*lines, *([end] if end else [])]:
        sha256, _, name = line.partition("  ")
        if name not in SUMMED:  # which also keeps us from reading what lies elsewhere
            yield FILE, f"holds a line that hs-data did not write ({line[:80]!r})"
        elif not (folder / name).is_file():
            yield name, "is missing"
        elif sha256_file(folder / name) != sha256:
            yield name, f"has another sha256 than {FILE} says"
