"""Bytes from a URL or from the Hugging Face Hub into a `.part` file, going on where an earlier try broke off."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import requests

from ...manifests.errors import ModelError

TIMEOUT_S = (15.0, 60.0)
"""To connect, and between two pieces of the answer."""
CHUNK_BYTES = 1 << 16
HUB = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)@(?P<revision>[^/]+)/(?P<file>.+)")
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
"""Ends of a transfer that another try may finish."""

Follow = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes there will be, if the server says."""


def download(url: str, part: Path, follow: Follow) -> None:
    """Fill `part` with the rest of what lies at a URL; bytes that it holds are not asked for again.

    Whether they are the right bytes is for the caller to say: a damaged start, or a file that has changed on the
    server, shows in the hash.

    Args:
        url: `https://…`, `http://…`, or `hf://OWNER/REPOSITORY@REVISION/FILE`.
        part: the file to write; kept when the transfer breaks.
        follow: told of progress.

    Raises:
        ModelError: the server refuses, or a try brought nothing new.
        OSError: the file cannot be written.
    """
    hub = HUB.fullmatch(url)
    if hub:
        _from_hub(hub["repository"], hub["revision"], hub["file"], part)
        return
    while True:
        had = size_of(part)
        try:
            _from_server(url, part, follow)
            return
        except BROKEN as error:
            if size_of(part) <= had:
                raise ModelError(f"{url}: {_reason(error)}; run the command again, it goes on where it was") from error
        except requests.RequestException as error:
            raise ModelError(f"{url}: {_reason(error)}; check the address, or name another in models.toml") from error


def _from_server(url: str, part: Path, follow: Follow) -> None:
    had = size_of(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable and had:
            return  # there is no more; the hash will say whether this is all of it
        if not answer.ok:
            said = f"{answer.status_code} {answer.reason}"
            raise ModelError(f"{url}: the server says {said}; try later, or name another address in models.toml")
        if answer.status_code != requests.codes.partial_content:
            had = 0  # a server that cannot go on begins anew
        length = answer.headers.get("Content-Length", "")
        total = had + int(length) if length.isdigit() else None
        with part.open("ab" if had else "wb") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
                had += len(chunk)
                follow(had, total)


def _from_hub(repository: str, revision: str, name: str, part: Path) -> None:
    """Let `huggingface_hub` download, which goes on by itself with what it left in the folder beside `part`."""
    import httpx  # noqa: PLC0415 - what the library raises when there is no network
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    try:
        path = hf_hub_download(repository, name, revision=revision, local_dir=hub_folder(part))
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        if getattr(error, "errno", None):
            raise  # the disk, not the Hub
        # With no connection, version 1.16 tries again on a client that it has closed, which is a RuntimeError.
        why = "no connection to the Hub" if isinstance(error, RuntimeError) else _reason(error)
        where = f"hf://{repository}@{revision}/{name}"
        raise ModelError(f"{where}: {why}; run the command again, or set HF_ENDPOINT to a mirror") from error
    Path(path).replace(part)
    shutil.rmtree(hub_folder(part))


def hub_folder(part: Path) -> Path:
    """Return the folder where the Hub's library keeps what it has of a file."""
    return part.with_name(f".{part.name}.hub")


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 when there is none."""
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    """Say in a few words why a transfer failed; libraries wrap the reason in objects, addresses and advice."""
    inner = getattr(error.args[0], "reason", error) if error.args else error
    text = " ".join(str(inner).split()).split(". ")[0] or type(error).__name__
    return text.split("): ", 1)[-1]
