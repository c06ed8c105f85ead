"""The `fetch` command: find out what is asked for and who brings it, fetch, say how it went."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ...manifests.errors import ConfigError, HsDataError, SourceError
from ...manifests.near import choice
from ...manifests.sources import Source, get_source
from ...manifests.sources.folder import is_dataset
from .display import FetchProgress
from .hub import HubAddress, HubDownloader
from .items import Downloader, FetchItem, bring_annotations, listed_items
from .ledger import FetchLedger
from .run import FetchOutcome, fetch
from .statuses import STATUSES, FetchFault
from .youtube import YoutubeDownloader

HUB = "hf://"


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """A fetch as it was asked for."""

    source: Source
    input: str
    """Folder with annotations, or `hf://…`."""
    output: Path
    limit: int | None = None
    again: tuple[str, ...] = ()
    """Final statuses to try once more."""
    max_lines: int = 1080
    """Largest shorter side of a picture from YouTube, px."""
    pause_s: float = 5.0
    """Rest between two videos of YouTube."""


@dataclass(frozen=True, kw_only=True)
class FetchSummary:
    """The end of a fetch, in numbers."""

    num_requested: int
    outcome: FetchOutcome
    num_unreadable: int
    """Records of the annotations that cannot be read."""
    output: Path

    def as_json(self) -> dict[str, object]:
        """Return it as the command prints it."""
        counts = {status: self.outcome.counts[status] for status in STATUSES if self.outcome.counts[status]}
        return {
            "requested": self.num_requested,
            "tried": self.outcome.num_tried,
            **counts,
            "annotations_unreadable": self.num_unreadable,
            "output": str(self.output),
            "stopped": self.outcome.stopped,
        }


def make_request(
    *,
    source: str,
    input_: str | None,
    output: Path,
    again: Sequence[str],
    limit: int | None = None,
    max_lines: int = FetchRequest.max_lines,
    pause_s: float = FetchRequest.pause_s,
) -> FetchRequest:
    """Turn command-line words into a request.

    Raises:
        ConfigError: a word that cannot be used, or a source that is had by application only.
    """
    known = get_source(source)
    if known.fetch == "application":
        raise ConfigError(f"--source {source}: only on application, to you in person. {known.guide()}")
    if input_ is None:
        raise ConfigError(
            f"--source {source}: needs --input, the folder of annotations or hf://OWNER/NAME. {known.guide()}"
        )
    if known.fetch != "youtube" and not (input_.startswith(HUB) and known.needs_input):
        raise ConfigError(f"--source {source}: names no videos to fetch; --input hf://OWNER/NAME fetches a repository")
    if unknown := [word for word in again if word not in STATUSES]:
        raise ConfigError(f"--again {unknown[0]}: no such status; {choice(unknown[0], STATUSES)}")
    if (output.exists() and not output.is_dir()) or is_dataset(output):
        raise ConfigError(f"--output {output}: is a {'dataset' if output.is_dir() else 'file'}; name another folder")
    return FetchRequest(
        source=known,
        input=input_,
        output=output,
        limit=limit,
        again=tuple(again),
        max_lines=max_lines,
        pause_s=pause_s,
    )


def dry_run(request: FetchRequest) -> dict[str, object]:
    """Say what would be fetched; nothing is written, and with a folder as input nothing is asked of anybody."""
    items, unreadable = _items(request)[:2]
    rows = FetchLedger(request.output).preview(items)
    counts = Counter(row.status for row in rows)
    todo = [row for row in rows if STATUSES[row.status].again or row.status in request.again]
    sizes = [item.size_bytes for item in items if item.size_bytes is not None and item.status == "waiting"]
    facts: dict[str, object] = {"requested": len(items), "would_fetch": len(todo[: request.limit]), **counts}
    if sizes:
        facts["gigabytes"] = round(sum(sizes) / 1e9, 3)
    return facts | {"annotations_unreadable": unreadable, "output": str(request.output)}


def run(request: FetchRequest, console: Console) -> FetchSummary:
    """Fetch, and say how it went.

    Raises:
        SourceError: nothing is named.
        HsDataError: the site throttles or is not reached; raised after everything is written, by `judge`.
    """
    items, unreadable, downloader = _items(request)
    if downloader is None:
        downloader = YoutubeDownloader(max_lines=request.max_lines, pause_s=request.pause_s)
        bring_annotations(request.source, Path(request.input), request.output)
    outcome = fetch(items, downloader, request.output, FetchProgress(console), limit=request.limit, again=request.again)
    return FetchSummary(num_requested=len(items), outcome=outcome, num_unreadable=unreadable, output=request.output)


def judge(outcome: FetchOutcome, limit: int | None) -> None:
    """Raise `HsDataError` when the run stopped early or left what another run may bring."""
    counts = outcome.counts
    if outcome.stopped:
        what = "throttled" if counts["throttled"] else "no connection"
        raise HsDataError(f"fetch: stopped, {what} ({outcome.stopped}); run the same command later, it goes on")
    left = {status: counts[status] for status in STATUSES if STATUSES[status].again and counts[status]}
    if limit is not None:
        left.pop("waiting", None)
    if left:
        shown = ", ".join(f"{number} {status}" for status, number in left.items())
        raise HsDataError(f"fetch: {shown}; run the same command again, it tries these once more")


def _items(request: FetchRequest) -> tuple[list[FetchItem], int, Downloader | None]:
    if not request.input.startswith(HUB):
        return *listed_items(request.source, Path(request.input), request.output), None
    hub = HubDownloader(HubAddress.parse(request.input))
    try:
        return hub.items(request.source, request.output), 0, hub
    except FetchFault as fault:
        raise SourceError(f"{request.input}: {fault.detail}; check the name and try again") from fault
