"""Messages between a pool and its workers, as objects and as lines of JSON. Imports nothing that starts a program."""

import json
from dataclasses import asdict, dataclass

from ...manifests.settings import Table


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """Everything that a worker is told once."""

    config: Table
    """The resolved settings."""
    root: str
    """The source folder."""
    dataset: str
    """The output folder."""

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str) -> "WorkerSetup":
        """Read what `to_json` wrote."""
        return WorkerSetup(**json.loads(line))


@dataclass(frozen=True, kw_only=True)
class Done:
    """A unit that is committed: a few numbers for the display."""

    unit_id: str
    seconds: float
    outcomes: dict[str, int]
    """Items by outcome: `ok` or a reason."""
    cpu_s: dict[str, float]
    memory_mb: float
    """Largest memory the worker ever had."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A worker's word on a unit: `done`, or `failed` with the exception's text."""

    done: Done | None = None
    failed: str | None = None
    fatal: bool = False
    """Whether the failure is one that no other unit would escape: a missing model, a full disk."""

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str) -> "Answer":
        """Read what `to_json` wrote."""
        values = json.loads(line)
        done = None if values["done"] is None else Done(**values["done"])
        return Answer(done=done, failed=values["failed"], fatal=values["fatal"])
