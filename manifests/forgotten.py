"""Requests to forget, as hashes of names: nothing of them is kept in a dataset, and nothing brings it back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from .storage import digest, read_json, write_json

FILE = "forgotten.json"
FORGOTTEN = "forgotten"
"""Outcome of a probe that met content which was to be forgotten, under a new name."""
Input = dict[str, Any]
"""An input file as it is listed, with at least `path`, `youtube_id`, `identity` and `spans`."""
KINDS = ("video_id", "path", "youtube_id", "identity")
"""Names that can be forgotten: columns of the tables, and what sources say of an input."""


def hash_name(kind: str, name: str) -> str:
    """Return what stands for a name: it tells those who know the name that it was forgotten, and nothing to others."""
    return digest("forgotten", kind, name)


@dataclass(frozen=True, kw_only=True)
class ForgetRequest:
    """A request to forget a file or a person, in hashes alone."""

    asked: str
    """One of `KINDS`."""
    name: str
    """Hash of the name that was given."""
    names: tuple[str, ...]
    """Hashes of that name, and of the content and path of each file that goes whole."""
    videos: int
    """Files that went whole."""
    clips: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the request of JSON values, as `dataclasses.asdict` gives them."""
        return cls(**{**values, "names": tuple(values["names"])})


class Forgotten:
    """The list beside `dataset.json`, which outlives `work/`.

    Args:
        dataset: the dataset's folder; one without a list has forgotten nothing.

    Raises:
        DatasetError: the list is damaged.
    """

    def __init__(self, dataset: Path) -> None:
        self._path = dataset / FILE
        table = read_json(self._path) if self._path.is_file() else {"finished": True, "requests": []}
        self.requests = [ForgetRequest.from_json(request) for request in table["requests"]]
        """All that was ever asked."""
        self.is_finished: bool = table["finished"]
        """Whether all of it is gone; a kill may have come between."""
        self._names = {name for request in self.requests for name in request.names}

    def add(self, requests: Sequence[ForgetRequest]) -> None:
        """Write down what is to be forgotten, before anything is touched; the same request twice is one."""
        self.requests = self.requests + [request for request in requests if request not in self.requests]
        self._write(finished=False)

    def finish(self) -> None:
        """Write down that all of it is gone."""
        self._write(finished=True)

    def _write(self, *, finished: bool) -> None:
        self.is_finished = finished
        self._names = {name for request in self.requests for name in request.names}
        write_json(self._path, {"finished": finished, "requests": [asdict(request) for request in self.requests]})

    def holds(self, kind: str, name: str | None) -> bool:
        """Tell whether a name is to be forgotten."""
        return bool(self._names) and name is not None and hash_name(kind, name) in self._names

    def rows(self, table: pa.Table, kinds: Sequence[str] = KINDS) -> pc.Expression:
        """Return what holds for the rows of a table that are to be forgotten, by its columns that are names."""
        found = pc.scalar(False)
        for kind in kinds:
            if self._names and kind in table.column_names:
                names = [name for name in table[kind].unique().to_pylist() if self.holds(kind, name)]
                found |= pc.field(kind).isin(pa.array(names, pa.string()))
        return found


def drop_forgotten(inputs: Iterable[Input], forgotten: Forgotten) -> list[Input]:
    """Return the inputs without those whose path, YouTube id or person is forgotten, and without such spans."""
    if not forgotten.requests:
        return list(inputs)
    left = []
    for item in inputs:
        spans = [
            span for span in item["spans"] if not forgotten.holds("identity", span["identity"] or item["identity"])
        ]
        gone = forgotten.holds("path", item["path"]) or forgotten.holds("youtube_id", item["youtube_id"])
        # Without its spans a file would be taken whole.
        gone = gone or (not spans if item["spans"] else forgotten.holds("identity", item["identity"]))
        if not gone:
            left.append({**item, "spans": spans})
    return left
