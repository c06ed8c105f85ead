"""Downloads of weights: broken, killed, wrong, at once, from the Hub; hashes that nobody published."""

import json
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from weight_server import BODY, SIZE, Server, cli, command, describe, describe_body, environment, get, sha256

from hs_data.manifests.errors import ModelError
from hs_data.pipeline.models import lock, registry
from hs_data.pipeline.models.listing import list_models
from hs_data.pipeline.models.registry import ModelsConfig

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
