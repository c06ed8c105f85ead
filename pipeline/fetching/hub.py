"""Re-releases on the Hugging Face Hub: a source's media files and annotations in a repository of data sets."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...manifests.errors import ConfigError, SourceError
from ...manifests.sources import Source
from ...manifests.sources.annotations import printable
from ...manifests.sources.folder import is_media
from ...manifests.storage import sha256_file
from .items import SPLIT_LISTS, Follow, Item
from .statuses import FetchFault

PLACE = re.compile(r"hf://(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^/]+))?(?:/(?P<below>.+))?", re.ASCII)
STATUS_CODES = {401: "refused", 403: "refused", 404: "removed", 410: "removed", 429: "throttled"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder of a repository."""

    repository: str
    revision: str
    below: str
    """Folder in the repository; empty: all of it."""

    @staticmethod
    def parse(word: str) -> "Place":
        """Read `hf://OWNER/NAME[@REVISION][/FOLDER]`."""
        found = PLACE.fullmatch(word)
        if not found:
            raise ConfigError(f"--input {word}: write hf://OWNER/NAME, hf://OWNER/NAME@REVISION or one with /FOLDER")
        below = (found["below"] or "").strip("/")
        return Place(repository=found["repository"], revision=found["revision"] or "main", below=below)


class HubDownloader:
    """Fetch files of a repository with `huggingface_hub`, which goes on with what it left in an item's folder.

    Args:
        place: where.
        endpoint: address of the Hub; None: `HF_ENDPOINT`, or the public one.
        pause_s: rest between two files.
    """

    def __init__(self, place: Place, *, endpoint: str | None = None, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self._place, self._endpoint = place, endpoint

    def items(self, source: Source, output: Path) -> list[Item]:
        """List what a source's reader takes: media, annotations, split lists; other files are passed over.

        Raises:
            SourceError: there is no such repository, or nothing of this source in it.
            FetchFault: the Hub refuses or is not reached.
        """
        wanted = [item for item in self._listed(output) if _is_wanted(item, source)]
        if not wanted:
            where = f"hf://{self._place.repository}@{self._place.revision}/{self._place.below}"
            raise SourceError(
                f"{where}: no media file or annotation of --source {source.name}; see its files on the Hub"
            )
        return sorted(wanted, key=lambda item: (is_media(item.id), item.id))

    def _listed(self, output: Path) -> Iterator[Item]:
        from huggingface_hub import HfApi  # noqa: PLC0415
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

        tree = HfApi(endpoint=self._endpoint).list_repo_tree(
            self._place.repository,
            path_in_repo=self._place.below or None,
            recursive=True,
            revision=self._place.revision,
            repo_type="dataset",
        )
        with _told():
            for entry in tree:
                if isinstance(entry, RepoFile):
                    sha256 = entry.lfs.sha256 if entry.lfs else None
                    yield _item(entry.path, entry.size, sha256, output)

    def download(self, item: Item, folder: Path, follow: Follow) -> Sequence[Path]:
        """Bring a file and check its size and, where the Hub tells one, its sha256."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415

        with _told():
            path = hf_hub_download(
                self._place.repository,
                item.id,
                revision=self._place.revision,
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


def _item(path: str, size_bytes: int, sha256: str | None, output: Path) -> Item:
    parts = PurePosixPath(path).parts
    name = str(PurePosixPath(path).with_suffix(""))
    facts = {"id": printable(path), "name": name, "size_bytes": size_bytes, "sha256": sha256}
    is_safe = parts and all(part not in ("..", "/") and not part.startswith(".") for part in parts)
    if not is_safe or "\\" in path or printable(path) != path:
        return Item(**facts, path="", status="refused")
    there = output.joinpath(*parts)
    is_there = there.is_file() and there.stat().st_size == size_bytes
    return Item(**facts, path=name, status="already_there" if is_there else "waiting")


def _is_wanted(item: Item, source: Source) -> bool:
    return is_media(item.id) or source.is_annotation(item.id) or item.id in SPLIT_LISTS


class _told:  # noqa: N801 - used as a word of the language
    """Turn what the Hub's library raises into how an item ended."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import httpx  # noqa: PLC0415 - what the library raises when there is no network
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

        answer = next((e.response for e in _causes(error) if isinstance(e, HfHubHTTPError)), None)
        if answer is not None:
            code = answer.status_code
            advice = "; accept its terms on the Hub and run `hf auth login`" if code in (401, 403) else ""
            raise FetchFault(STATUS_CODES.get(code, "network_error"), f"the Hub says {code}{advice}") from error
        # With no connection, version 1.16 tries again on a client that it has closed, which is a RuntimeError.
        if isinstance(error, httpx.HTTPError | LocalEntryNotFoundError | RuntimeError):
            raise FetchFault("network_error", f"no answer of the Hub ({type(error).__name__})") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from: the library says that a file is not cached, and why below that."""
    while error is not None:
        yield error
        error = error.__cause__
