"""Failures: which rules drop which clips, as columns; a list for each of a million clips would take a gigabyte."""

import numpy as np
import pyarrow as pa

from ..manifests.schema import FAILURE


class Failures:
    """Failures of some clips, rule by rule.

    Args:
        num_clips: how many clips are judged.
    """

    def __init__(self, num_clips: int) -> None:
        self._num_clips = num_clips
        self._reasons: list[str] = []
        self._found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        """Places, reasons by number, values and thresholds, a tuple for each rule."""
        self.any = np.zeros(num_clips, bool)
        """[N] which clips failed at all."""

    def add(self, reason: str, fails: np.ndarray, values: np.ndarray, threshold: float) -> None:
        """Add the failures of a rule, which come after those of earlier ones.

        Args:
            reason: why.
            fails: [N] bool, the clips that fail.
            values: [N] what was measured.
            threshold: the limit.
        """
        indices = np.flatnonzero(fails)
        reasons = np.full(len(indices), self._number(reason), np.int32)
        thresholds = np.full(len(indices), threshold, np.float64)
        self._found.append((indices, reasons, values[indices].astype(np.float64), thresholds))
        self.any[indices] = True

    def rename(self, old: str, chosen: np.ndarray, new: str) -> None:
        """Give chosen clips, [N] bool, another reason where the first failure has this one."""
        seen = np.zeros(self._num_clips, bool)
        for indices, reasons, _, _ in self._found:
            is_it = ~seen[indices] & chosen[indices] & (reasons == self._number(old))
            seen[indices] = True
            reasons[is_it] = self._number(new)

    def columns(self) -> dict[str, pa.Array]:
        """Return `verdict`, and `reason`, `value` and `threshold` of the first failure, and all `failures`."""
        empty = [np.zeros(0, kind) for kind in (np.int64, np.int32, np.float64, np.float64)]
        indices, reasons, values, thresholds = (np.concatenate(part) for part in zip(empty, *self._found, strict=True))
        order = np.argsort(indices, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(indices, minlength=self._num_clips))])
        reason = pa.array(self._reasons, pa.string()).take(pa.array(reasons[order]))
        all_of = pa.StructArray.from_arrays(
            [reason, pa.array(values[order]), pa.array(thresholds[order])], fields=list(FAILURE)
        )
        first = pa.array(np.where(self.any, offsets[:-1], 0), mask=~self.any)
        return {
            "verdict": pa.array(np.where(self.any, "dropped", "kept")),
            **{name: all_of.field(name).take(first) for name in ("reason", "value", "threshold")},
            "failures": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), all_of, type=pa.list_(FAILURE)),
        }

    def _number(self, reason: str) -> int:
        if reason not in self._reasons:
            self._reasons.append(reason)
        return self._reasons.index(reason)
