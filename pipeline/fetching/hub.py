"""Re-releases on the Hugging Face Hub: a source's media files and annotations in a repository of data sets."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...manifests.errors import ConfigError, SourceError
from ...manifests.sources import Source
from ...manifests.sources.annotations import printable
from ...manifests.sources.folder import is_media
from ...manifests.storage import sha256_file
from .items import SPLIT_LISTS, FetchItem, FollowBytes
from .statuses import FetchFault

PLACE = re.compile(r"hf://(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^/]+))?(?:/(?P<below>.+))?", re.ASCII)
STATUS_CODES = {401: "refused", 403: "refused", 404: "removed", 410: "removed", 429: "throttled"}


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """A folder of a repository."""

    repository: str
    revision: str
    below: str
    """Folder in the repository; empty: all of it."""

    @staticmethod
    def parse(word: str) -> "HubAddress":
        """Read `hf://OWNER/NAME[@REVISION][/FOLDER]`."""
        found = PLACE.fullmatch(word)
        if not found:
            raise ConfigError(f"--input {word}: write hf://OWNER/NAME, hf://OWNER/NAME@REVISION or one with /FOLDER")
        below = (found["below"] or "").strip("/")
        return HubAddress(repository=found["repository"], revision=found["revision"] or "main", below=below)


class HubDownloader:
    """Fetch files of a repository with `huggingface_hub`, which goes on with what it left in an item's folder.

    Args:
        address: the repository, and what of it.
        endpoint: address of the Hub; None: `HF_ENDPOINT`, or the public one.
        pause_s: rest between two files.
    """

    def __init__(self, address: HubAddress, *, endpoint: str | None = None, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self._address, self._endpoint = address, endpoint

    def items(self, source: Source, output: Path) -> list[FetchItem]:
        """List what a source's reader takes: media, annotations, split lists; other files are passed over.

        Raises:
            SourceError: there is no such repository, or nothing of this source in it.
            FetchFault: the Hub refuses or is not reached.
        """
        wanted = [item for item in self._listed(output) if _is_wanted(item, source)]
        if not wanted:
            where = f"hf://{self._address.repository}@{self._address.revision}/{self._address.below}"
            raise SourceError(
                f"{where}: no media file or annotation of --source {source.name}; see its files on the Hub"
            )
        return sorted(wanted, key=lambda item: (is_media(item.id), item.id))

    def _listed(self, output: Path) -> Iterator[FetchItem]:
        from huggingface_hub import HfApi  # noqa: PLC0415
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

        tree = HfApi(endpoint=self._endpoint).list_repo_tree(
            self._address.repository,
            path_in_repo=self._address.below or None,
            recursive=True,
            revision=self._address.revision,
            repo_type="dataset",
        )
        with _told():
            for entry in tree:
                if isinstance(entry, RepoFile):
                    sha256 = entry.lfs.sha256 if entry.lfs else None
                    yield _item(entry.path, entry.size, sha256, output)

    def download(self, item: FetchItem, folder: Path, follow: FollowBytes) -> Sequence[Path]:
        """Bring a file and check its size and, where the Hub tells one, its sha256."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

        disable_progress_bars()  # ours is shown
        with _told():
            path = hf_hub_download(
                self._address.repository,
                item.id,
                revision=self._address.revision,
                repo_type="dataset",
                local_dir=folder,
                endpoint=self._endpoint,
            )
        file = Path(path)
        follow(file.stat().st_size, item.size_bytes)
        if file.stat().st_size != item.size_bytes or (item.sha256 and sha256_file(file) != item.sha256):
            size = file.stat().st_size
            shutil.rmtree(folder)
            raise FetchFault("damaged", f"{size:,} bytes that are not the {item.size_bytes or 0:,} that were told")
        return [file]


def _item(path: str, size_bytes: int, sha256: str | None, output: Path) -> FetchItem:
    parts = PurePosixPath(path).parts
    name = str(PurePosixPath(path).with_suffix(""))
    facts = {"id": printable(path), "name": name, "size_bytes": size_bytes, "sha256": sha256}
    is_safe = parts and all(part not in ("..", "/") and not part.startswith(".") for part in parts)
    if not is_safe or "\\" in path or printable(path) != path:
        return FetchItem(**facts, path="", status="refused")
    there = output.joinpath(*parts)
    is_there = there.is_file() and there.stat().st_size == size_bytes
    return FetchItem(**facts, path=name, status="already_there" if is_there else "waiting")


def _is_wanted(item: FetchItem, source: Source) -> bool:
    return is_media(item.id) or source.is_annotation(item.id) or item.id in SPLIT_LISTS


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the Hub's library raises into how an item ended."""
    import httpx  # noqa: PLC0415 - what the library raises when there is no network
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    # With no connection, version 1.16 tries again on a client that it has closed, which is a RuntimeError.
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError, RuntimeError) as error:
        answer = next((cause.response for cause in _causes(error) if isinstance(cause, HfHubHTTPError)), None)
        if answer is None:
            raise FetchFault("network_error", f"no answer of the Hub ({type(error).__name__})") from error
        code = answer.status_code
        advice = "; accept its terms on the Hub and run `hf auth login`" if code in (401, 403) else ""
        raise FetchFault(STATUS_CODES.get(code, "network_error"), f"the Hub says {code}{advice}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from: the library says that a file is not cached, and why below that."""
    while error is not None:
        yield error
        error = error.__cause__
