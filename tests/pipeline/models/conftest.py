"""Fixtures of weight files: a server, and a folder that they go to."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from weight_server import BODY, Server, sha256

from hs_data.pipeline.models import entries, overrides


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    return made


@pytest.fixture
def unpublished(monkeypatch: pytest.MonkeyPatch, server: Server, folder: Path) -> str:
    """Make `retinaface` a file of which only the first digits of the hash are known, as it is, served here."""
    changed = [
        replace(entry, sha256_begins=sha256(BODY)[:9], url=f"{server.url}/r.zip")
        if entry.name == "retinaface"
        else entry
        for entry in entries.MODEL_FILES
    ]
    monkeypatch.setattr(overrides, "MODEL_FILES", tuple(changed))
    return next(entry.filename for entry in changed if entry.name == "retinaface")
