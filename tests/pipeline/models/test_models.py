"""Weights: what is known of them, how they come here, what counts, and how they are read."""

import collections
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from hs_data.manifests.errors import ConfigError, ModelError
from hs_data.pipeline.config import Config, choose_models
from hs_data.pipeline.models import entries, hashes, lock, overrides, registry
from hs_data.pipeline.models.fetch import Fetched, fetch
from hs_data.pipeline.models.listing import list_models
from hs_data.pipeline.models.registry import ModelsConfig
from hs_data.pipeline.models.weights import load_weights

SIZE = 3_000_000
BODY = bytes(range(256)) * (SIZE // 256) + b"end"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- a server that can go on, break off, lie and refuse


@dataclass
class Behaviour:
    """What the server does, and what it did."""

    body: bytes = BODY
    status: int = 200
    ranges: bool = True
    location: str = ""
    break_after: list[int] = field(default_factory=list)
    """Bytes after which the next answers are broken off, one each."""
    pause_s: float = 0.0
    """Between pieces of 64 KiB."""
    served: int = 0
    gets: list[str] = field(default_factory=list)
    """The `Range` of each GET."""


class Handler(BaseHTTPRequestHandler):
    """Serve one body under every path; with the headers of the Hub, so that it can stand in for it."""

    behaviour: Behaviour

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        pass

    def do_HEAD(self) -> None:
        self._begin(0)

    def do_GET(self) -> None:
        told = self.behaviour
        asked = self.headers.get("Range", "")
        told.gets.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and told.ranges else 0
        if not self._begin(start):
            return
        content = told.body[start:]
        if told.break_after:
            content = content[: told.break_after.pop(0)]
        for place in range(0, len(content), 1 << 16):
            piece = content[place : place + (1 << 16)]
            try:
                self.wfile.write(piece)
            except OSError:
                break  # the client was killed
            told.served += len(piece)
            time.sleep(told.pause_s)
        self.close_connection = True

    def _begin(self, start: int) -> bool:
        told = self.behaviour
        if told.location and "moved" not in self.path:
            self.send_response(302)
            self.send_header("Location", told.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        status = 416 if start and start >= len(told.body) else 206 if start else told.status
        self.send_response(status)
        self.send_header("Content-Length", str(len(told.body) - start if status < 400 else 0))
        self.send_header("ETag", f'"{sha256(told.body)}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        return status < 400


class Server:
    """A server in a thread, that can be stopped and started again at the same port."""

    def __init__(self) -> None:
        self.did = Behaviour()
        self._port = 0
        self.start()

    def start(self) -> None:
        handler = type("Told", (Handler,), {"behaviour": self.did})
        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._http.daemon_threads = True
        self._port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"


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


def describe(folder: Path, name: str = "syncnet", **values: str | bool) -> None:
    """Put a file of one's own into `models.toml`."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (folder / "models.toml").write_text(f"[{name}]\n" + "\n".join(lines) + "\n")


def describe_body(folder: Path, server: Server) -> None:
    describe(folder, filename="net.bin", sha256=sha256(BODY), url=f"{server.url}/net.bin")


def cli(*words: str, folder: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*words), capture_output=True, text=True, check=False, env=environment(folder, **env), timeout=120
    )


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "hs_data.cli", *words]


def environment(folder: Path, **env: str) -> dict[str, str]:
    return {**os.environ, "HS_DATA_MODELS": str(folder), "COLUMNS": "200", **env}


def get(name: str, folder: Path, *, offline: bool = False, **settings: str) -> list[Fetched]:
    config = ModelsConfig(dir=str(folder), **settings)  # type: ignore[arg-type]
    return list(fetch([name], config, offline=offline, console=Console(file=io.StringIO())))


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


# --- what is known


def test_every_entry_can_be_checked_and_fetched():
    names = [entry.name for entry in entries.MODEL_FILES]
    assert names == [
        *("yunet", "retinaface", "syncnet", "whisper-tiny", "whisper-base", "whisper-small"),
        *("sd-vae-ft-mse", "taesd", "clip-vit-base-patch16"),
    ]
    assert [entry.name for entry in entries.MODEL_FILES if entry.url is None] == ["clip-vit-base-patch16"], "a folder"
    for entry in (entry for entry in entries.MODEL_FILES if entry.url is not None):
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256 or "") or entry.sha256_begins
        assert re.fullmatch(r"https://\S+|hf://[\w-]+/[\w-]+@[0-9a-f]{40}/\S+", entry.url or "")
        assert entry.framework == ("opencv" if entry.name == "yunet" else "torch")
    assert [entry.name for entry in entries.MODEL_FILES if not entry.commercial] == ["syncnet"]
    assert len({entry.filename for entry in entries.MODEL_FILES}) == len(names)


def test_hashes_of_whisper_are_those_of_the_package():
    import whisper

    for size in ("tiny", "base", "small"):
        entry = next(entry for entry in entries.MODEL_FILES if entry.name == f"whisper-{size}")
        assert entry.url == whisper._MODELS[size]
        assert entry.sha256 == whisper._MODELS[size].split("/")[-2]


def test_the_address_of_retinaface_is_that_of_the_package():
    from retinaface.pre_trained_models import models

    entry = next(entry for entry in entries.MODEL_FILES if entry.name == "retinaface")
    assert entry.url == models["resnet50_2020-07-20"].url


# --- downloads


def test_a_file_is_downloaded_verified_and_not_downloaded_again(server: Server, folder: Path):
    describe_body(folder, server)
    for _ in range(2):
        [fetched] = get("syncnet", folder)
        assert fetched.path.read_bytes() == BODY
    assert server.did.served == len(BODY)
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == ["models.toml", "net.bin"]


def test_paths_are_data_and_the_rest_is_not(server: Server, folder: Path):
    describe_body(folder, server)
    done = cli("models", "fetch", "syncnet", folder=folder)
    assert (done.returncode, done.stdout) == (0, f"{folder / 'net.bin'}\n")
    assert "licence: not stated" in done.stderr
    again = cli("models", "fetch", "syncnet", "--json", folder=folder)
    assert json.loads(again.stdout) == [{"name": "syncnet", "path": str(folder / "net.bin")}]
    assert again.stderr == ""


def test_a_broken_transfer_goes_on_by_itself(server: Server, folder: Path):
    describe_body(folder, server)
    server.did.break_after = [1_000_000, 1_000_000]
    [fetched] = get("syncnet", folder)
    assert fetched.path.read_bytes() == BODY
    assert len(server.did.gets) == 3
    assert server.did.gets[0] == ""
    assert server.did.served <= len(BODY) + 2 * (1 << 16)


def test_a_killed_fetch_and_a_dead_server_lose_little(server: Server, folder: Path):
    describe_body(folder, server)
    server.did.pause_s = 0.05
    with subprocess.Popen(
        command("models", "fetch", "syncnet"),
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as client:
        part = folder / "net.bin.part"
        wait_for(lambda: part.is_file() and part.stat().st_size > SIZE // 4)
        client.send_signal(signal.SIGKILL)
    had = part.stat().st_size
    assert not (folder / "net.bin").exists()

    server.stop()
    done = cli("models", "fetch", "syncnet", folder=folder)
    assert (done.returncode, done.stdout, part.stat().st_size) == (1, "", had)
    assert "run the command again" in done.stderr
    assert "Traceback" not in done.stderr

    server.did.pause_s = 0.0
    server.start()
    assert cli("models", "fetch", "syncnet", folder=folder).returncode == 0
    assert (folder / "net.bin").read_bytes() == BODY
    assert server.did.gets[-1] == f"bytes={had}-"
    # What was under way when the client was killed counts as served; a socket holds a few hundred KB.
    assert server.did.served < 1.5 * len(BODY)


def wait_for(happened, limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_server_that_cannot_go_on_begins_anew(server: Server, folder: Path):
    describe_body(folder, server)
    (folder / "net.bin.part").write_bytes(BODY[:1000])
    server.did.ranges = False
    assert get("syncnet", folder)[0].path.read_bytes() == BODY


def test_a_wrong_byte_is_refused_and_nothing_is_left(server: Server, folder: Path):
    describe_body(folder, server)
    server.did.body = BODY[:-1] + b"x"
    done = cli("models", "fetch", "syncnet", folder=folder)
    assert done.returncode == 1
    assert f"not {sha256(BODY)[:12]}" in done.stderr
    assert done.stderr.count("error") == 1
    assert done.stdout == ""
    assert not list(folder.glob("net.bin*"))
    server.did.body = BODY
    assert get("syncnet", folder)[0].path.read_bytes() == BODY


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(BODY), BODY + b"more"], ids=["short", "full", "long"])
def test_what_an_earlier_try_left_wrong_is_given_up(server: Server, folder: Path, left: bytes):
    describe_body(folder, server)
    (folder / "net.bin.part").write_bytes(left)
    assert get("syncnet", folder)[0].path.read_bytes() == BODY
    assert len(server.did.gets) == 2


def test_a_whole_part_is_not_downloaded_again(server: Server, folder: Path):
    describe_body(folder, server)
    (folder / "net.bin.part").write_bytes(BODY)
    assert get("syncnet", folder)[0].path.read_bytes() == BODY
    assert server.did.served == 0


def test_two_fetches_at_once_download_once(server: Server, folder: Path):
    describe_body(folder, server)
    server.did.pause_s = 0.04
    both = [
        subprocess.Popen(
            command("models", "fetch", "syncnet"),
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert {out for out, _ in said} == {f"{folder / 'net.bin'}\n"}
    assert sum("waiting" in err for _, err in said) == 1
    assert server.did.served == len(BODY)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_refuses_is_quoted(server: Server, folder: Path, status: int):
    describe_body(folder, server)
    server.did.status = status
    with pytest.raises(ModelError, match=f"^syncnet: {server.url}/net.bin: the server says {status} "):
        get("syncnet", folder)
    assert not list(folder.glob("net.bin*"))


def test_a_redirect_to_a_page_of_text_is_refused(server: Server, folder: Path):
    describe_body(folder, server)
    server.did.location = "/moved"
    server.did.body = b"<html>log in first</html>"
    with pytest.raises(ModelError, match=r"gave 25 bytes with sha256"):
        get("syncnet", folder)
    server.did.body = BODY
    assert get("syncnet", folder)[0].path.read_bytes() == BODY


def test_an_address_that_is_none_is_said(folder: Path):
    describe(folder, filename="net.bin", sha256=sha256(BODY), url="nowhere/net.bin")
    with pytest.raises(ModelError, match=r"nowhere/net\.bin: Invalid URL"):
        get("syncnet", folder)


def test_one_that_cannot_be_had_does_not_keep_others_away(server: Server, folder: Path):
    describe_body(folder, server)
    with (folder / "models.toml").open("a") as file:
        file.write(f'[taesd]\nfilename = "t.bin"\nsha256 = "{"0" * 64}"\n')
    done = cli("models", "fetch", "taesd", "syncnet", folder=folder)
    assert (done.returncode, done.stdout) == (1, f"{folder / 'net.bin'}\n")
    assert "put t.bin there" in done.stderr


# --- files of the Hub


def test_files_of_the_hub_come_through_its_library(server: Server, folder: Path, tmp_path: Path):
    server.did.body = body = BODY * 8  # the library keeps pieces of 10 MB
    server.did.break_after = [len(body) // 2]
    describe(folder, "taesd", filename="t.safetensors", sha256=sha256(body), url=f"hf://me/net@{'0' * 40}/deep/t.bin")
    hub = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    done = cli("models", "fetch", "taesd", folder=folder, **hub)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not (folder / "t.safetensors").exists()
    done = cli("models", "fetch", "taesd", folder=folder, **hub)
    assert (done.returncode, done.stdout) == (0, f"{folder / 't.safetensors'}\n")
    assert (folder / "t.safetensors").read_bytes() == body
    assert server.did.gets == ["", "bytes=10485760-"]
    assert not [path.name for path in folder.iterdir() if path.name.endswith((".hub", ".part"))]


def test_a_wrong_file_of_the_hub_is_refused_and_the_next_try_is_clean(server: Server, folder: Path, tmp_path: Path):
    describe(folder, "taesd", filename="t.bin", sha256=sha256(BODY), url=f"hf://me/net@{'0' * 40}/t.bin")
    hub = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    server.did.body = BODY[:-1] + b"x"
    done = cli("models", "fetch", "taesd", folder=folder, **hub)
    assert done.returncode == 1
    assert f"not {sha256(BODY)[:12]}" in done.stderr
    assert not (folder / "t.bin").exists()
    assert not list(folder.glob(".*.hub"))


def test_the_hub_can_be_offline(folder: Path, tmp_path: Path):
    done = cli("models", "fetch", "yunet", folder=folder, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error yunet: hf://opencv/face_detection_yunet@")
    assert "Traceback" not in done.stderr


# --- hashes that nobody published


def test_a_first_download_is_recorded_and_a_changed_file_refused(server: Server, folder: Path, unpublished: str):
    assert registry.expected_sha256(registry.get("retinaface", ModelsConfig(dir=str(folder))), folder) is None
    get("retinaface", folder)
    assert lock.read_lock(folder)["retinaface"] == lock.Record(
        filename=unpublished,
        sha256=sha256(BODY),
        size_bytes=len(BODY),
        source=f"downloaded from {server.url}/r.zip",
    )
    (folder / unpublished).write_bytes(BODY[:-1] + b"x")
    config = ModelsConfig(dir=str(folder))
    assert registry.find("retinaface", config) is None
    with pytest.raises(ModelError, match="there has another sha256"):
        registry.require("retinaface", config)
    # The file is mended by another fetch, unless the server has changed it too.
    server.did.body = BODY + b"new"
    with pytest.raises(ModelError, match=r"is recorded in .*models\.lock\.json; if the new file is right, remove"):
        get("retinaface", folder)
    server.did.body = BODY
    get("retinaface", folder)
    assert registry.find("retinaface", config) == folder / unpublished


def test_what_is_known_of_a_hash_is_always_checked(server: Server, folder: Path, unpublished: str):
    server.did.body = BODY + b"new"
    with pytest.raises(ModelError, match=f"not {sha256(BODY)[:9]}"):
        get("retinaface", folder)
    assert not (folder / unpublished).exists()
    (folder / unpublished).write_bytes(BODY + b"new")
    assert registry.find("retinaface", ModelsConfig(dir=str(folder))) is None


def test_the_first_digits_may_be_those_of_what_is_zipped(folder: Path, unpublished: str):
    with zipfile.ZipFile(folder / unpublished, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.pth", BODY)
    assert registry.find("retinaface", ModelsConfig(dir=str(folder))) == folder / unpublished


def test_a_file_by_hand_is_recorded_at_its_first_use(folder: Path, unpublished: str):
    config = ModelsConfig(dir=str(folder))
    (folder / unpublished).write_bytes(BODY)
    row = next(row for row in list_models(config) if row["name"] == "retinaface")
    assert (row["sha256"], row["found"]) == (None, str(folder / unpublished))
    assert row["checked"].endswith("recorded in models.lock.json at the first download or use")
    assert registry.fingerprint(["retinaface"], config)
    assert registry.require("retinaface", config) == folder / unpublished
    row = next(row for row in list_models(config) if row["name"] == "retinaface")
    assert (row["sha256"], row["size_bytes"]) == (sha256(BODY), len(BODY))
    assert row["checked"] == "against models.lock.json (found in the folder)"
    # From now on any name will do.
    (folder / unpublished).rename(folder / "other.zip")
    assert registry.find("retinaface", config) == folder / "other.zip"


def test_a_damaged_lock_is_said(folder: Path):
    (folder / "models.lock.json").write_text('{"retinaface": {"sha')
    with pytest.raises(ModelError, match=r"models\.lock\.json: damaged"):
        registry.require("yunet", ModelsConfig(dir=str(folder)))


# --- what counts


def test_a_file_counts_by_its_hash_under_any_name(weights: Path, folder: Path):
    shutil.copy(next(weights.glob("*yunet*.onnx")), folder / "my detector")
    config = ModelsConfig(dir=str(folder))
    assert registry.find("yunet", config) == folder / "my detector"
    with (folder / "my detector").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\0\0\0")
    assert registry.find("yunet", config) is None


def test_hashes_of_large_files_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(hashes.REMEMBER_BYTES))
    first = hashes.hash_file(path)
    hashes._hash_once.cache_clear()
    asked: list[Path] = []
    really = hashes.sha256_file
    monkeypatch.setattr(hashes, "sha256_file", lambda p: asked.append(p) or really(p))
    assert hashes.hash_file(path) == first
    assert asked == []
    assert hashes.hash_file(path, trust=False) == first
    assert len(asked) == 1
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a copy that keeps times would
    assert hashes.hash_file(path) != first
    assert len(asked) == 2


def test_a_folder_that_cannot_be_written_to_is_hashed_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".hashes.json").mkdir()  # root may write where the rights say no, but not over a folder
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(hashes.REMEMBER_BYTES))
    asked: list[Path] = []
    really = hashes.sha256_file
    monkeypatch.setattr(hashes, "sha256_file", lambda p: asked.append(p) or really(p))
    assert hashes.hash_file(path) == hashes.hash_file(path) == sha256(bytes(hashes.REMEMBER_BYTES))
    assert len(asked) == 1


def test_offline_verifies_what_is_there_and_lists_the_rest(server: Server, folder: Path):
    describe_body(folder, server)
    (folder / "net.bin").write_bytes(BODY)
    done = cli("models", "fetch", "syncnet", "taesd", "yunet", "--offline", folder=folder)
    assert (done.returncode, done.stdout) == (1, f"{folder / 'net.bin'}\n")
    assert done.stderr == f"error taesd, yunet: not in {folder}; run  hs-data models fetch taesd yunet\n"
    assert server.did.gets == []
    assert get("syncnet", folder, offline=True)[0].path == folder / "net.bin"


def test_nothing_asked_for_is_a_usage_error(folder: Path):
    done = cli("models", "fetch", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Name some of yunet, retinaface, syncnet" in done.stderr


@pytest.mark.parametrize(
    ("names", "preset", "words", "said"),
    [
        (["yunett"], None, [], r"did you mean yunet\?"),
        ([], "none", [], "choose one of"),
        (["yunet"], None, ["crop.policy=eyes"], r"only models\.\* means something here"),
        (["yunet"], None, ["models.dirr=x"], r"did you mean models\.dir\?"),
    ],
    ids=["name", "preset", "setting", "key"],
)
def test_what_cannot_be_fetched_is_said(names: list[str], preset: str | None, words: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        choose_models(names, preset=preset, assignments=words)


def test_a_preset_names_what_it_needs(folder: Path):
    chosen, config = choose_models([], preset="cpu", assignments=[f"models.dir={folder}", "faces.stride=2"])
    assert (chosen, config) == (["yunet"], ModelsConfig(dir=str(folder)))
    assert choose_models(["taesd", "yunet"], preset="cpu", assignments=[])[0] == ["taesd", "yunet"]
    assert choose_models([], preset="embedded", assignments=[])[0] == []


# --- licences


def test_a_licence_is_refused_before_a_download(server: Server, folder: Path):
    describe_body(folder, server)
    with pytest.raises(ConfigError, match=r"^models\.licence=commercial: refuses syncnet \(licence: not stated\)"):
        get("syncnet", folder, licence="commercial")
    assert server.did.gets == []
    describe(folder, filename="net.bin", sha256=sha256(BODY), url=server.url, licence="MIT", commercial=True)
    assert get("syncnet", folder, licence="commercial")


def test_a_licence_is_refused_before_any_work(weights: Path, folder: Path, tmp_path: Path):
    yunet = next(weights.glob("*yunet*.onnx"))
    shutil.copy(yunet, folder)
    describe(folder, "yunet", filename=yunet.name, sha256=sha256(yunet.read_bytes()))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    words = ("build", "--source", "folder", "-i", str(tmp_path / "videos"), "-o", str(tmp_path / "out"))
    for more in ((), ("--dry-run",)):
        limits = ("--preset", "cpu", "--set", "models.licence=commercial", "--executor", "local")
        done = cli(*words, *limits, *more, folder=folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert "refuses yunet (licence: not stated)" in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_models_stop_a_build_with_one_command(folder: Path):
    config = ModelsConfig(dir=str(folder))
    with pytest.raises(ModelError) as caught:
        registry.require_all(["syncnet", "yunet", "syncnet"], config)
    place = f"--set models.dir={folder}"
    assert str(caught.value) == f"syncnet, yunet: not in {folder}; run  hs-data models fetch syncnet yunet {place}"


# --- models.toml


def test_own_weights_stand_in_for_ours(folder: Path):
    describe(folder, filename="mine.pt", sha256=sha256(BODY), licence="CC0", commercial=True)
    (folder / "mine.pt").write_bytes(BODY)
    config = ModelsConfig(dir=str(folder), licence="commercial")
    assert registry.require("syncnet", config) == folder / "mine.pt"
    assert registry.as_used(["syncnet"], config) == [{"name": "syncnet", "sha256": sha256(BODY), "licence": "CC0"}]
    row = next(row for row in list_models(config) if row["name"] == "syncnet")
    assert (row["overridden"], row["checked"]) == (True, "against your models.toml")
    assert row["purpose"] == "lead of the sound and its confidence (sync.backend=syncnet)"
    (folder / "mine.pt").write_bytes(BODY[1:])
    with pytest.raises(ModelError, match=r"mine\.pt there has another sha256\); put mine\.pt there"):
        registry.require("syncnet", config)


def test_a_mirror_is_another_address_of_the_same_file(server: Server, weights: Path, folder: Path):
    describe(folder, "yunet", url=f"{server.url}/any")
    entry = registry.get("yunet", ModelsConfig(dir=str(folder)))
    assert (entry.overridden, entry.licence, entry.url) == (False, "MIT", f"{server.url}/any")
    server.did.body = next(weights.glob("*yunet*.onnx")).read_bytes()
    assert get("yunet", folder)[0].path.name == "face_detection_yunet_2023mar.onnx"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sincnet]\nurl = 'x'", r"sincnet: no such model; did you mean syncnet\?"),
        ("[syncnet]\nurll = 'x'", r"syncnet\.urll: no such setting; did you mean .*syncnet\.url\?"),
        ("[syncnet]\nfilename = 'x'", r"syncnet\.sha256: 64 hex digits"),
        ("[syncnet]\nlicence = 'MIT'", r"syncnet\.sha256: 64 hex digits"),
        (f"[syncnet]\nfilename = '../x'\nsha256 = '{'0' * 64}'", r"syncnet\.filename: the plain name"),
        (f"[syncnet]\nsha256 = '{'0' * 64}'", r"syncnet\.filename: the plain name"),
        ("[syncnet]\nsha256 = 3", r"syncnet\.sha256: 3 is not text; give text"),
        ("[syncnet]\nurl = ''", r"syncnet\.sha256: 64 hex digits"),
        ("[syncnet]", "is no table of settings"),
        ("syncnet = 3", "is no table of settings"),
        ("[syncnet", "not valid TOML"),
    ],
    ids=[
        *("name", "key", "no_hash", "licence_alone", "path", "no_filename"),
        *("type", "empty_url", "empty", "value", "toml"),
    ],
)
def test_what_cannot_be_in_models_toml_is_named(folder: Path, text: str, said: str):
    (folder / "models.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        registry.get("yunet", ModelsConfig(dir=str(folder)))
    assert str(folder / "models.toml") in str(caught.value)


# --- fingerprints


def test_fingerprints_know_the_file_and_the_precision_and_nothing_else(folder: Path, tmp_path: Path):
    describe(folder, filename="a.pt", sha256=sha256(b"a"))
    config = ModelsConfig(dir=str(folder))

    def of(*names: str, **changes: str) -> str:
        return registry.fingerprint(names, replace(config, **changes))  # type: ignore[arg-type]

    assert of("syncnet") == of("syncnet", licence="commercial", device="cuda")
    assert of("syncnet") != of("syncnet", dir=str(tmp_path))
    assert of("syncnet", precision="float32") != of("syncnet", precision="bfloat16")
    assert of("yunet", precision="float32") == of("yunet", precision="bfloat16") == of("yunet", dir=str(tmp_path))
    assert of("yunet", "syncnet") == of("syncnet", "yunet") != of("syncnet")
    with pytest.raises(ModelError, match="hs-data models fetch retinaface"):
        of("retinaface")


def test_settings_of_models_change_no_fingerprint_where_no_network_of_torch_computes():
    plain = Config()
    for changes in ({"dir": "x"}, {"licence": "commercial"}, {"device": "cpu"}, {"precision": "float16"}):
        changed = replace(plain, models=replace(plain.models, **changes))  # type: ignore[arg-type]
        assert changed.score_fingerprint() == plain.score_fingerprint()
        assert changed.encode_fingerprint() == plain.encode_fingerprint()


# --- reading


@pytest.fixture
def table() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(8, 3, generator=generator), "b": torch.arange(5.0), "n": torch.tensor(3)}


FORMS = ("safetensors", "archive", "legacy", "whisper", "zipped_archive", "zipped_legacy")


def write_form(form: str, folder: Path, table: dict[str, torch.Tensor]) -> Path:
    path = folder / f"{form}.safetensors" if form == "safetensors" else folder / f"{form}.pth"
    content = (
        {"dims": {"n_mels": 80}, "model_state_dict": table} if form == "whisper" else collections.OrderedDict(table)
    )
    if form == "safetensors":
        save_file(table, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization="legacy" not in form)
    return zip_up(path) if form.startswith("zipped") else path


def zip_up(path: Path) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "retinaface_resnet50.pth")
    return path.with_suffix(".zip")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_weights_is_read_exactly(form: str, tmp_path: Path, table: dict[str, torch.Tensor]):
    read = load_weights(write_form(form, tmp_path, table))
    assert list(read) == list(table) if form != "safetensors" else sorted(read) == sorted(table)
    assert all(torch.equal(read[name], value) and read[name].dtype == value.dtype for name, value in table.items())


@pytest.mark.parametrize("form", FORMS)
def test_truncated_and_damaged_weights_are_errors_of_the_file(
    form: str, tmp_path: Path, table: dict[str, torch.Tensor]
):
    path = write_form(form, tmp_path, table)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"not a readable file of weights|something else"):
            load_weights(path)
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            load_weights(path)  # a change of a number shows in the hash only
        except ModelError:
            continue


class Trap:
    """A pickle of this runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zipped"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path, legacy: bool, zipped: bool):
    path = tmp_path / "trap.pth"
    torch.save({"a": torch.zeros(1), "b": Trap(tmp_path / "ran")}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="not a readable file of weights"):
        load_weights(zip_up(path) if zipped else path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists(), "the trap does not work"


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, torch.zeros(2)], ids=["list", "numbers", "tensor"])
def test_something_else_than_tensors_by_name_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="something else than tensors by name"):
        load_weights(tmp_path / "x.pth")
