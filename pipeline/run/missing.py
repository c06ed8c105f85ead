"""Inputs that are not wholly in a dataset: which ones, why, and which of them the next run tries again."""

from collections.abc import Sequence

from ...manifests.errors import DatasetError
from ..workers.outcomes import is_retried, outcome_of
from ..workers.units import Item, Phase
from .ledger import Ledger


class Missing:
    """Inputs that are not wholly in the dataset, though they may be one day."""

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        """Path to the outcome that the next run tries again."""
        self.set_aside: set[str] = set()
        """Paths of which something stands in quarantine."""
        self.changed: set[str] = set()
        """Paths that hold something else than their probe says."""

    def add(self, items: Sequence[Item], ledger: Ledger) -> None:
        """Look at what became of the items of a phase."""
        for item in items:
            receipt = ledger.receipts[item["id"]]
            if ledger.is_set_aside(item["id"]):
                self.set_aside.add(item["path"])
            elif is_retried(receipt):
                self.waiting.setdefault(item["path"], outcome_of(receipt))
            if outcome_of(receipt) == "source_changed":
                self.changed.add(item["path"])


def check_all(phase: Phase, items: Sequence[Item], ledger: Ledger) -> None:
    """Raise `DatasetError` when an item of a phase that was done has no receipt: a bug of ours."""
    missing = [item["path"] for item in items if item["id"] not in ledger.receipts]
    if missing:
        raise DatasetError(f"{phase}: {len(missing)} items have no receipt ({missing[0]}, ...); report this")
