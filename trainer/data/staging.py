"""Datasets in a bucket: copied file by file to a local folder, each checked against the hash in `dataset.json`."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from ...manifests.errors import ConfigError, DatasetError
from ...manifests.index import DatasetIndex, check_version
from ...manifests.storage import CHUNK_BYTES, atomic_path, inside, write_bytes

log = logging.getLogger(__name__)

COPIES_AT_ONCE = 8
"""One stream from a bucket gives about 100 MB/s at best; several fill the network."""
INDEX = "dataset.json"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a dataset in a bucket."""

    name: str
    """Below the dataset, `/` between parts."""
    sha256: str
    bytes: int | None
    """None for the small tables, whose size the index does not state."""


def stage(location: str, folder: str) -> Path:
    """Return the local folder of a dataset, after copying what is not there yet.

    The copy lies in a folder named after the content of `dataset.json`, so a file that stands there under its name was
    checked against this very index: a copy that was stopped goes on, and a dataset that was built again is copied anew.

    Args:
        location: a folder, which is returned as it is, or a URI that pyarrow opens (`s3://`, `gs://`, `file://`).
        folder: where copies go; on a local disk.

    Raises:
        ConfigError: a URI, and no folder for copies.
        DatasetError: nothing readable there, a dataset of another version, a name that leads out of it, a wrong
            hash, or too little room.
    """
    if "://" not in location:
        return Path(location)
    if not folder:
        raise ConfigError(f"data.staging: {location} is remote; name a folder on a local disk for its copy")
    try:
        remote, root = fs.FileSystem.from_uri(location)
        with remote.open_input_stream(f"{root}/{INDEX}") as stream:
            index = stream.read()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{location}: {INDEX} cannot be read ({error}); name a finished dataset") from error
    name = f"{PurePosixPath(root).name}-{hashlib.sha256(index).hexdigest()[:12]}"
    local = Path(folder).expanduser() / name
    files = [file for file in _listed(location, index, local) if not (local / file.name).is_file()]
    _check_room(local, sum(file.bytes or 0 for file in files))
    log.info("%s: copying %d files to %s", location, len(files), local)
    with ThreadPoolExecutor(COPIES_AT_ONCE, thread_name_prefix="stage") as pool:
        for copied in [pool.submit(_copy, remote, root, file, local) for file in files]:
            copied.result()
    write_bytes(local / INDEX, index)
    return local


def _listed(location: str, index: bytes, local: Path) -> Iterator[RemoteFile]:
    """Yield the tables and shards that an index names."""
    try:
        values = json.loads(index)
        check_version(values["schema_version"], location)
        parsed = DatasetIndex.from_json(values)
        files = [RemoteFile(name=name, sha256=sha256, bytes=None) for name, sha256 in parsed.tables.items()]
        files += [RemoteFile(name=shard.path, sha256=shard.sha256, bytes=shard.bytes) for shard in parsed.shards]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{location}/{INDEX}: not an index of hs-data ({error!r}); build it again") from error
    for file in files:
        inside(local, file.name, said_by=INDEX)  # what leads out of the copy leads out of the dataset
        yield file


def _check_room(local: Path, needed: int) -> None:
    local.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(local).free
    if needed > free:
        raise DatasetError(f"{local}: {needed / 1e9:.1f} GB to copy and {free / 1e9:.1f} GB free; make room")


def _copy(remote: fs.FileSystem, root: str, file: RemoteFile, local: Path) -> None:
    digest = hashlib.sha256()
    try:
        with atomic_path(local / file.name) as temporary, temporary.open("wb") as target:
            with remote.open_input_stream(f"{root}/{file.name}") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
            target.flush()
            if digest.hexdigest() != file.sha256:
                raise DatasetError(f"{root}/{file.name}: not the bytes that {INDEX} promises; upload it again")
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{root}/{file.name}: cannot be copied ({error}); run again to go on") from error
