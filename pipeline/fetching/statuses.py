"""Statuses of an item when its fetching ends: a closed set, and whether another try can end otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Status:
    """One way that fetching an item ends."""

    meaning: str
    again: bool = False
    """True where the next run tries once more without being asked to."""


STATUSES: Mapping[str, Status] = {
    "ok": Status(meaning="fetched, with sound"),
    "already_there": Status(meaning="the source's reader finds it in the folder already"),
    "waiting": Status(meaning="not tried yet", again=True),
    "removed": Status(meaning="deleted, its account closed, or taken down for copyright"),
    "private": Status(meaning="only for those whom its owner invites"),
    "age_restricted": Status(meaning="only with an account of an adult"),
    "region_blocked": Status(meaning="not shown in this country"),
    "refused": Status(meaning="for members or buyers, live, behind a form, or a name that no file may have"),
    "no_audio": Status(meaning="the file has no sound stream; it is not kept"),
    "no_picture": Status(meaning="the file has no picture stream; it is not kept"),
    "no_address": Status(meaning="the annotations name it and say nowhere where it is"),
    "throttled": Status(meaning="the site asks to slow down or to prove to be human; the run stops", again=True),
    "network_error": Status(
        meaning="the connection broke three times; five such items in a row stop the run", again=True
    ),
    "damaged": Status(
        meaning="what came cannot be read as media, or is not as long or as large as was told", again=True
    ),
    "failed": Status(meaning="anything else; `detail` has the words of the site or of yt-dlp", again=True),
}


class FetchFault(Exception):  # noqa: N818 - it is how one item ends, not an error of ours
    """Fault that ended the fetching of an item.

    Args:
        status: a member of `STATUSES`.
        detail: what was said, in one line.
    """

    def __init__(self, status: str, detail: str) -> None:
        assert status in STATUSES, status
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
