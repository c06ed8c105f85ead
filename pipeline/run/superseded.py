"""What a later attempt made superfluous: commits and files that go, receipts that are taken back."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ...manifests.commits import Commit, CommitLog
from ..maintain.stale import named_files
from ..workers.units import Phase


def remove_commits(dataset: Path, commits: Sequence[Commit]) -> None:
    """Take commits back, then remove the files that nothing names any more."""
    if not commits:
        return
    for commit in commits:
        CommitLog(dataset).remove(commit)
    named = named_files(dataset)
    for path in {commit.file.path for commit in commits if commit.file is not None} - named:
        (dataset / path).unlink(missing_ok=True)


def take_back(dataset: Path, phase: Phase, items: Collection[str]) -> None:
    """Remove what a phase knows of items, so that the next run does them again."""
    log = CommitLog(dataset)
    for commit in list(log.load(phase)) if items else []:
        left = {item: receipt for item, receipt in commit.receipts.items() if item not in items}
        if not left:
            log.remove(commit)
        elif len(left) < len(commit.receipts):
            log.add(replace(commit, receipts=left), replace=True)
