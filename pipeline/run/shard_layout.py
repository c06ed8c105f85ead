"""The layout of shards: which kept clips lie together, the same after any outage or crash as if there had been none.

Clips that are to be encoded at one time make a round, which is cut into units. A round stays open as long as an input
of its time cannot be read or has something set aside. When one of them is back, the round is cut anew with what it
gives: the units then are those of an unbroken build, and what was encoded before is copied.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...manifests.storage import digest, read_json, write_json
from ..workers.outcomes import is_retried
from ..workers.units import Item, Unit, UnitSize, group
from .ledger import Ledger

MAX_PASSES = 4
"""One to encode, others to lay together what crashes tore apart; a crash while that is done asks for another."""


@dataclass(eq=False)
class Round:
    """Clips that were planned at one time."""

    plan: Path
    """The file that it is written down in."""
    inputs: frozenset[str] = frozenset()
    """Hashes of the paths of the inputs of that time, those of earlier open rounds left out."""
    waiting: frozenset[str] | None = None
    """Those that could not be read when its run ended; None while it has not ended."""
    units: list[dict[str, Any]] = field(default_factory=list)

    @property
    def items(self) -> set[str]:
        """Items that were planned in it."""
        return {item for unit in self.units for item in unit["items"]}

    def may_grow(self, waiting: Collection[str]) -> bool:
        """Tell whether it is to be cut anew: its run has not ended, or an input is back."""
        return self.waiting is None or not self.waiting <= set(waiting)


def hash_path(path: str) -> str:
    """Return what stands for an input in a plan."""
    return digest("path", path)[:20]


class ShardLayout:
    """The open rounds of a dataset, under `work/plan`, one file for each part of a job array.

    Args:
        dataset: the dataset's folder.
        shard: which part of a job array this is; None takes the rounds of all parts.
        fingerprint: identity of the settings; rounds of others are forgotten.
    """

    def __init__(self, dataset: Path, shard: tuple[int, int] | None, fingerprint: str) -> None:
        part = "" if shard is None else f"-{shard[0]}of{shard[1]}"
        self._dataset = dataset
        self._own = dataset / "work" / "plan" / f"encode{part}.json"
        self._fingerprint = fingerprint
        plans = [self._own] if shard is not None else sorted({self._own, *self._own.parent.glob("encode*.json")})
        self._rounds = [found for plan in plans for found in self._load(plan)]
        self.ledger = Ledger(dataset, "encode", fingerprint)
        """What is known of the clips."""

    def units(
        self, items: Sequence[Item], paths: Iterable[str], waiting: Iterable[str], *, size: UnitSize
    ) -> list[Unit]:
        """Return the units that this run wants, done or not, and write them down.

        Args:
            items: all kept clips, in order.
            paths: the inputs of this run.
            waiting: those that cannot be read now.
            size: of the units of a round.
        """
        waiting = [*waiting, *(item["path"] for item in items if self.ledger.is_set_aside(item["id"]))]
        growing = [each for each in self._rounds if each.may_grow({hash_path(path) for path in waiting})]
        taken = frozenset().union(*(each.inputs for each in self._rounds))
        new = Round(plan=self._own, inputs=frozenset(map(hash_path, paths)) - taken)
        members = self._assign(items, growing, new)
        units = self._failed(items, growing)
        for each, part in members.items():
            parts = group(part, most=size.of(part), weight=size.weight)
            cut = [Unit.of("encode", self._fingerprint, unit) for unit in parts]
            each.units, each.waiting = [self._describe(unit) for unit in cut], None
            units += cut
        self._rounds += [new] if new in members else []
        self._write()
        return units

    def passes(self, wanted: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Yield what is to be done: first what is not encoded, then, until all lie whole, units that crashes tore.

        Afterwards `ledger` is what is known of all clips.
        """
        for number in range(MAX_PASSES):
            self.ledger = Ledger(self._dataset, "encode", self._fingerprint, {unit.unit_id for unit in wanted})
            left = [unit for each in wanted if (unit := without_set_aside(each, self.ledger)) is not None]
            if left != wanted:
                wanted = left
                self.ledger = Ledger(self._dataset, "encode", self._fingerprint, {unit.unit_id for unit in wanted})
            retry = number == 0
            todo = [with_made(u, self.ledger, retry=retry) for u in wanted if not is_laid(u, self.ledger, retry=retry)]
            if number and not todo:
                return
            yield todo
        self.ledger = Ledger(self._dataset, "encode", self._fingerprint, {unit.unit_id for unit in wanted})

    def close(self, waiting: Iterable[str]) -> None:
        """Write down which inputs each round waits for, now that a run has ended; one that waits for none is closed."""
        hashes = frozenset(map(hash_path, waiting))
        plans = {each.plan for each in self._rounds}
        for each in self._rounds:
            each.waiting = each.inputs & hashes
        closed = [each for each in self._rounds if not each.waiting]
        self._rounds = [each for each in self._rounds if each.waiting]
        self._write(plans, closed)

    def _assign(self, items: Sequence[Item], growing: Sequence[Round], new: Round) -> dict[Round, list[Item]]:
        """Return the items of each round that is to be cut, in their order."""
        planned = {item: each for each in growing for item in each.items}
        came_from = {path: each for each in growing for path in each.inputs}
        members: dict[Round, list[Item]] = {}
        for item in items:
            found = planned.get(item["id"])
            if found is None and item["id"] not in self.ledger.receipts:
                found = came_from.get(hash_path(item["path"]), new)
            if found is not None:
                members.setdefault(found, []).append(item)
        return members

    def _failed(self, items: Sequence[Item], growing: Sequence[Round]) -> list[Unit]:
        """Return units of no round in which something is to be tried again: made before rounds were written down."""
        planned = {item for each in growing for item in each.items}
        parts: dict[int, list[Item]] = {}
        again: set[int] = set()
        for item in items:
            commit = self.ledger.commit_of(item["id"])
            if commit is not None and item["id"] not in planned:
                parts.setdefault(id(commit), []).append(item)
                again |= {id(commit)} if is_retried(self.ledger.receipts[item["id"]]) else set()
        return [Unit.of("encode", self._fingerprint, part) for key, part in parts.items() if key in again]

    def _describe(self, unit: Unit) -> dict[str, Any]:
        return {"fingerprint": unit.fingerprint, "unit": unit.unit_id, "items": [item["id"] for item in unit.items]}

    def _load(self, plan: Path) -> list[Round]:
        table = read_json(plan) if plan.is_file() else {}
        rounds = []
        for number, each in enumerate(table.get("rounds", [])):
            if each["fingerprint"] == self._fingerprint:
                waiting = None if each["waiting"] is None else frozenset(each["waiting"])
                units = [unit for unit in table["units"] if unit["round"] == number]
                rounds.append(Round(plan=plan, inputs=frozenset(each["inputs"]), waiting=waiting, units=units))
        return rounds

    def _write(self, plans: Collection[Path] = (), closed: Sequence[Round] = ()) -> None:
        """Write the plans that hold a round, or held one; the units of closed rounds stay to be seen."""
        for plan in sorted({each.plan for each in self._rounds} | set(plans)):
            mine = [each for each in self._rounds if each.plan == plan]
            units = [{**unit, "round": number} for number, each in enumerate(mine) for unit in each.units]
            units += [{**unit, "round": None} for each in closed if each.plan == plan for unit in each.units]
            rounds = [
                {
                    "fingerprint": self._fingerprint,
                    "inputs": sorted(each.inputs),
                    "waiting": None if each.waiting is None else sorted(each.waiting),
                }
                for each in mine
            ]
            write_json(plan, {"phase": "encode", "units": units, "rounds": rounds})


def without_set_aside(unit: Unit, ledger: Ledger) -> Unit | None:
    """Return a unit without what stands in quarantine; None where nothing is left."""
    left = [item for item in unit.items if not ledger.is_set_aside(item["id"])]
    return unit.of_some(left) if left else None


def is_laid(unit: Unit, ledger: Ledger, *, retry: bool) -> bool:
    """Tell whether a unit is committed as a whole; with `retry` it is not where something is to be tried again."""
    for item in unit.items:
        commit = ledger.commit_of(item["id"])
        if commit is None or commit.unit != unit.unit_id:
            return False
        if retry and is_retried(ledger.receipts[item["id"]]):
            return False
    return True


def with_made(unit: Unit, ledger: Ledger, *, retry: bool) -> Unit:
    """Return a unit whose items tell what an earlier attempt made of them; with `retry` only what needs no other."""
    items = []
    for item in unit.items:
        receipt = ledger.receipts.get(item["id"])
        is_made = receipt is not None and not (retry and is_retried(receipt))
        file = ledger.file_of(item["id"])
        made = {"made": {"receipt": receipt, "file": file and file.to_json()}} if is_made else {}
        items.append({**item, **made})
    return unit.of_some(items)
