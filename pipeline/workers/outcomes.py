"""Outcomes: what a receipt says became of an item, and which of them the next run tries again. The one place for it."""

from collections.abc import Mapping
from typing import Any

Receipt = Mapping[str, Any]

RETRIED = ("unavailable", "codec_missing", "source_changed", "internal_error")
"""Outcomes that another day may change: a disk that is mounted again, a decoder that is installed, a file that was
replaced, a worker that had no memory left. All others are facts of the file. What stands in quarantine stays there."""


def outcome_of(receipt: Receipt) -> str:
    """Return `ok` or a reason; a receipt that says neither is of something that went well."""
    return receipt.get("outcome") or "ok"


def is_retried(receipt: Receipt) -> bool:
    """Tell whether the next run tries an item again."""
    return outcome_of(receipt) in RETRIED and not receipt.get("set_aside")


def is_done(receipt: Receipt | None) -> bool:
    """Tell whether an item needs no other try."""
    return receipt is not None and not is_retried(receipt)
