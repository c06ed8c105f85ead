"""Videos from YouTube through yt-dlp's Python API. Picture and sound come as two files; `streams` lays them together.

yt-dlp would call ffmpeg for that. Here it is told that there is none, so no program is started for media; for
YouTube's own riddles yt-dlp looks for a JavaScript runtime by itself.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...manifests.errors import ConfigError, how_to_install
from ...manifests.sources.annotations import YOUTUBE_ID, printable
from .items import FetchItem, FollowBytes
from .statuses import FetchFault

ADDRESS = "https://www.youtube.com/watch?v={id}"
NO_PROGRAM = "/nonexistent/ffmpeg"
"""Name under which yt-dlp looks for ffmpeg."""
WORDS: Sequence[tuple[str, str]] = (
    ("throttled", r"not a bot|HTTP Error 429|too many requests|rate.?limited|try again later|unusual traffic"),
    ("private", r"private video|video is private"),
    ("age_restricted", r"confirm your age|age.?restricted|inappropriate for some"),
    ("region_blocked", r"in your country|geo.?restrict|from your location|in your region"),
    ("refused", r"members.only|join this channel|requires payment|\brent\b|purchase|premieres? |live event|\bDRM\b"),
    ("network_error", r"HTTP Error (403|408|5\d\d)"),
    (
        "removed",
        r"unavailable|no longer available|been removed|terminated|does not exist|HTTP Error (404|410)|copyright",
    ),
    (
        "network_error",
        r"timed? ?out|connection|resolve|network|SSL|IncompleteRead|content too short"
        r"|more expected|unable to download (webpage|API page|video data)",
    ),
)
"""The first one whose words are in a message tells how an item ended; yt-dlp passes on YouTube's English."""
DISK = re.compile(r"(?:unable to write data|unable to open for writing): \[Errno (\d+)\]")
"""Words of yt-dlp for a disk that is full."""
SiteFacts = Mapping[str, Any]
"""Facts of a video or of one of its formats, as yt-dlp gives them."""
SiteOptions = dict[str, Any]
"""Options of yt-dlp."""
logger = logging.getLogger(__name__)


def status_of(message: str) -> str:
    """Return the status that the words of yt-dlp or YouTube mean."""
    straight = message.replace("\u2019", "'")
    return next((status for status, words in WORDS if re.search(words, straight, re.IGNORECASE)), "failed")


def choose_formats(formats: Sequence[SiteFacts], max_lines: int) -> list[SiteFacts]:
    """Return the format with picture and sound, or one of each, that has the best picture of at most so many lines.

    Args:
        formats: as yt-dlp sorts them, the best last; of dubbed sound tracks the original is the best.
        max_lines: largest shorter side, px. Where all pictures are larger, the smallest is taken.

    Raises:
        FetchFault: `no_audio` or `no_picture`; a picture without sound is never taken alone.
    """
    videos = _fitting([one for one in formats if one.get("vcodec") != "none"], max_lines)
    sounds = [one for one in formats if one.get("vcodec") == "none" and one.get("acodec") != "none"]
    whole = [one for one in videos if one.get("acodec") != "none"]
    silent = [one for one in videos if one.get("acodec") == "none"]
    if not videos:
        raise FetchFault("no_picture", f"{len(formats)} formats, none with a picture")
    if silent and sounds and (not whole or _lines(silent[-1]) > _lines(whole[-1])):
        return [silent[-1], sounds[-1]]
    if not whole:
        raise FetchFault("no_audio", f"{len(formats)} formats, none with sound")
    return [whole[-1]]


def _fitting(videos: list[SiteFacts], max_lines: int) -> list[SiteFacts]:
    smallest = min(map(_lines, videos), default=0)
    return [one for one in videos if _lines(one) <= max(max_lines, smallest)]


def _lines(one: SiteFacts) -> int:
    """Return the shorter side; 0 where it is not told."""
    return min(one.get("width") or one.get("height") or 0, one.get("height") or 0)


class YoutubeDownloader:
    """Fetch videos with yt-dlp.

    Args:
        max_lines: largest shorter side of the picture, px.
        pause_s: rest between two videos.
        address: where the videos are; `{id}` stands for the YouTube id.

    Raises:
        ConfigError: yt-dlp is not installed.
    """

    def __init__(self, *, max_lines: int, pause_s: float, address: str = ADDRESS) -> None:
        self.pause_s = pause_s
        self._max_lines, self._address = max_lines, address
        try:
            import yt_dlp  # noqa: F401, PLC0415  # pyright: ignore[reportMissingModuleSource]
        except ImportError as error:
            message = f"fetch: yt-dlp is not installed; {how_to_install('fetch')}"
            raise ConfigError(message) from error

    def download(self, item: FetchItem, folder: Path, follow: FollowBytes) -> list[Path]:
        """Bring a video, as `Downloader` says."""
        from yt_dlp.utils import YoutubeDLError  # noqa: PLC0415  # pyright: ignore[reportMissingModuleSource]

        if not YOUTUBE_ID.fullmatch(item.id):
            raise FetchFault("refused", f"{printable(item.id)[:40]!r} is no YouTube id")
        try:
            with _Folder.open(folder, self._options(follow)) as site:
                info = site.extract_info(self._address.format(id=item.id), download=True)
        except YoutubeDLError as error:
            if isinstance(error.__context__, OSError) and error.__context__.errno:
                raise error.__context__ from error  # the disk; yt-dlp calls it an unavailable video
            message = " ".join(str(error).split())
            if found := DISK.search(message):
                raise OSError(int(found[1]), os.strerror(int(found[1])), str(folder)) from error
            raise FetchFault(status_of(message), printable(message)) from error
        files = [Path(part["filepath"]) for part in (info or {}).get("requested_downloads", ())]
        if not files or not all(file.is_file() and file.parent == folder for file in files):
            raise FetchFault("failed", "yt-dlp brought no file")
        return files

    def _options(self, follow: FollowBytes) -> SiteOptions:
        def choose(context: SiteFacts) -> Iterator[SiteFacts]:
            yield from choose_formats(context["formats"], self._max_lines)

        def show(state: SiteFacts) -> None:
            follow(state.get("downloaded_bytes") or 0, state.get("total_bytes") or state.get("total_bytes_estimate"))

        return {
            "format": choose,
            "progress_hooks": [show],
            "match_filter": _refuse_live,
            "logger": _Log(),
            "quiet": True,
            "noprogress": True,
            "color": "no_color",
            "noplaylist": True,
            "cachedir": False,  # it lies outside the output
            "ffmpeg_location": NO_PROGRAM,
            "fixup": "never",
            "hls_prefer_native": True,
            "socket_timeout": 30,
            "retries": 2,
            "fragment_retries": 5,
        }


def _refuse_live(info: SiteFacts, *, incomplete: bool = False) -> None:
    """Refuse what is not a finished recording; yt-dlp asks before it downloads, also with half the facts."""
    if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
        raise FetchFault("refused", "live, or yet to come" + (" (by the first facts)" if incomplete else ""))


class _Folder:
    """yt-dlp with every file name made here: its templates would expand `$x`, `~` and `%(x)s` in names of folders."""

    @staticmethod
    def open(folder: Path, options: SiteOptions) -> Any:  # noqa: ANN401 - a class of a library that may be missing
        from yt_dlp import YoutubeDL  # noqa: PLC0415  # pyright: ignore[reportMissingModuleSource]

        class InFolder(YoutubeDL):
            def prepare_filename(self, info_dict: SiteFacts, *_: object, **__: object) -> str:
                name = re.sub(r"[^A-Za-z0-9]", "_", str(info_dict.get("format_id")))[:40]
                ending = re.sub(r"[^A-Za-z0-9]", "", str(info_dict.get("ext")))[:8]
                return str(folder / f"{name}.{ending}")

        return InFolder(options)  # pyright: ignore[reportArgumentType] - a plain dict, as its users give


class _Log:
    """Words of yt-dlp as log lines; its errors come as exceptions too."""

    def debug(self, message: str) -> None:
        logger.debug("%s", message)

    def info(self, message: str) -> None:
        logger.debug("%s", message)

    def warning(self, message: str) -> None:
        logger.debug("%s", message)

    def error(self, message: str) -> None:
        logger.debug("%s", message)
