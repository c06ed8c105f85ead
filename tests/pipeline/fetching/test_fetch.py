"""Fetching: how each item ends, what the next run does, what lands where; by a fake, a local server and yt-dlp."""

import gc
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError, HsDataError, SourceError
from hs_data.manifests.sources import get_source
from hs_data.pipeline.fetching import command, hub, youtube
from hs_data.pipeline.fetching.display import FetchProgress
from hs_data.pipeline.fetching.hub import HubAddress, HubDownloader
from hs_data.pipeline.fetching.items import FetchItem, bring_annotations, listed_items
from hs_data.pipeline.fetching.run import FetchOutcome, fetch
from hs_data.pipeline.fetching.statuses import STATUSES, FetchFault
from hs_data.pipeline.fetching.streams import join_streams
from hs_data.pipeline.fetching.youtube import YoutubeDownloader, choose_formats, status_of
from hs_data.pipeline.media import audio
from hs_data.pipeline.media.mp4 import add_sound, encode_video
from hs_data.pipeline.media.probe import probe

IDS = ("-abcdefghij", "_abcdefghij", "abcdefghijk", "0123456789_", "--_--_--_--")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- media of a second


def pictures(num_frames: int) -> Iterator[tuple[Fraction, np.ndarray]]:
    for index in range(num_frames):
        yield Fraction(index, 25), np.full((64, 64, 3), 5 * index % 256, np.uint8)


def tone(num_frames: int) -> np.ndarray:
    return (8000 * np.sin(np.arange(640 * num_frames) / 8)).astype(np.int16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with picture and sound."""
    path = tmp_path_factory.mktemp("media") / "whole.mp4"
    add_sound(encode_video(pictures(50), Fraction(25)), tone(50), path, sample_rate_hz=48_000, num_channels=1)
    return path.read_bytes()


def only(kind: str, whole: bytes) -> bytes:
    """One stream of a file, packet by packet, as sites offer it."""
    file = io.BytesIO()
    with av.open(io.BytesIO(whole), "r") as source, av.open(file, "w", format="mp4") as target:
        stream = getattr(source.streams, kind)[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return file.getvalue()


# --- a fake that ends as it is told


@dataclass
class Fake:
    """Brings the same files for every item, or the fault that is told for one."""

    files: Sequence[bytes]
    faults: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    pause_s: float = 0.0

    def download(self, item: FetchItem, folder: Path, follow: object) -> list[Path]:
        self.asked.append(item.id)
        if item.id in self.faults:
            raise FetchFault(self.faults[item.id], "as told")
        paths = [folder / f"{place}.mp4" for place in range(len(self.files))]
        for path, content in zip(paths, self.files, strict=True):
            path.write_bytes(content)
        return paths


def items(*ids: str) -> list[FetchItem]:
    return [FetchItem(id=one, name=f"name of {one}", path=f"videos/{one}") for one in ids]


def run(wanted: Sequence[FetchItem], downloader: object, output: Path, **options: object) -> FetchOutcome:
    display = FetchProgress(Console(file=io.StringIO()))
    return fetch(wanted, downloader, output, display, wait_s=0.0, **options)  # type: ignore[arg-type]


def rows(output: Path) -> dict[str, dict]:
    lines = (output / "fetch.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def files(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}


def test_each_item_ends_as_one_row_and_the_next_run_tries_what_can_succeed(tmp_path: Path, whole: bytes):
    faults = [name for name in STATUSES if name not in ("ok", "already_there", "waiting", "throttled", "no_address")]
    wanted = items("good", *faults)
    fake = Fake([whole], {name: name for name in faults})
    outcome = run(wanted, fake, tmp_path)
    assert outcome.counts == {"ok": 1, **dict.fromkeys(faults, 1)}
    assert outcome.stopped is None
    assert fake.asked.count("network_error") == 3, "within one run"
    found = rows(tmp_path)
    assert [row["status"] for row in found.values()] == ["ok", *faults]
    assert found["good"]["path"] == "videos/good.mp4"
    assert found["good"]["bytes"] == len(whole)
    assert (tmp_path / "videos" / "good.mp4").read_bytes() == whole
    fake.asked.clear()
    again = run(wanted, fake, tmp_path)
    assert set(fake.asked) == {"network_error", "damaged", "failed"}
    assert again.counts == outcome.counts
    assert rows(tmp_path)["failed"]["attempts"] == 2
    fake.asked.clear()
    run(wanted, fake, tmp_path, again=["private"])
    assert "private" in fake.asked


def test_a_terminal_shows_bars_and_what_did_not_come(tmp_path: Path, whole: bytes):
    shown = io.StringIO()
    display = FetchProgress(Console(file=shown, force_terminal=True, width=100))
    fetch(items("a", "b"), Fake([whole], {"b": "private"}), tmp_path, display)
    assert "name of b: private: as told" in shown.getvalue()
    assert "2/2" in shown.getvalue()


def test_throttling_stops_the_run_and_the_next_one_goes_on(tmp_path: Path, whole: bytes):
    fake = Fake([whole], {"b": "throttled"})
    outcome = run(items("a", "b", "c"), fake, tmp_path)
    assert (outcome.stopped, outcome.num_tried) == ("as told", 2)
    assert outcome.counts == {"ok": 1, "throttled": 1, "waiting": 1}
    with pytest.raises(HsDataError, match="throttled"):
        command.judge(outcome, None)
    fake.faults, fake.asked = {}, []
    outcome = run(items("a", "b", "c"), fake, tmp_path)
    assert fake.asked == ["b", "c"]
    assert outcome.counts == {"ok": 3}


def test_five_broken_items_in_a_row_stop_the_run(tmp_path: Path, whole: bytes):
    ids = [f"v{number}" for number in range(9)]
    fake = Fake([whole], dict.fromkeys(ids, "network_error") | {"v1": "removed"})
    outcome = run(items(*ids), fake, tmp_path)
    assert outcome.num_tried == 7, "v2 to v6"
    assert outcome.stopped is not None


def test_a_limit_is_no_failure_and_what_is_left_to_try_is_one(tmp_path: Path, whole: bytes):
    outcome = run(items("a", "b"), Fake([whole]), tmp_path, limit=1)
    assert outcome.stopped is None
    command.judge(outcome, 1)
    with pytest.raises(HsDataError, match="1 waiting"):
        command.judge(outcome, None)


def test_a_file_that_was_taken_away_is_fetched_again(tmp_path: Path, whole: bytes):
    run(items("a"), Fake([whole]), tmp_path)
    (tmp_path / "videos" / "a.mp4").unlink()
    assert run(items("a"), Fake([whole]), tmp_path).num_tried == 1
    assert (tmp_path / "videos" / "a.mp4").is_file()


def test_half_a_line_of_a_killed_run_counts_as_not_written(tmp_path: Path, whole: bytes):
    run(items("a", "b"), Fake([whole], {"a": "private"}), tmp_path)
    with (tmp_path / "fetch.jsonl").open("ab") as file:
        file.write(b'{"id": "a", "name": "a", "status": "remo')
    assert run(items("a", "b"), Fake([whole]), tmp_path).counts["private"] == 1
    assert len(rows(tmp_path)) == 2


def test_two_runs_do_not_share_a_folder(tmp_path: Path, whole: bytes):
    class Nested(Fake):
        def download(self, item: FetchItem, folder: Path, follow: object) -> list[Path]:
            with pytest.raises(HsDataError, match="another process"):
                run(items("x"), Fake([whole]), tmp_path)
            return super().download(item, folder, follow)

    assert run(items("a"), Nested([whole]), tmp_path).counts == {"ok": 1}


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(tmp_path: Path, whole: bytes):
    class Full(Fake):
        def download(self, item: FetchItem, folder: Path, follow: object) -> list[Path]:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run(items("a"), Full([]), tmp_path)
    assert run(items("a"), Fake([whole]), tmp_path).counts == {"ok": 1}


# --- picture and sound


def test_two_files_become_one_with_their_times_kept(tmp_path: Path, whole: bytes):
    (tmp_path / "w.mp4").write_bytes(whole)
    outcome = run(items("a"), Fake([only("audio", whole), only("video", whole)]), tmp_path)
    assert outcome.counts == {"ok": 1}
    joined, original = probe(tmp_path / "videos" / "a.mkv"), probe(tmp_path / "w.mp4")
    assert (joined.num_frames, joined.num_packets) == (original.num_frames, original.num_packets) == (50, 50)
    heard, sound = (
        audio.read(path, video, start_frame=0, end_frame=50).astype(float)
        for path, video in ((tmp_path / "videos" / "a.mkv", joined), (tmp_path / "w.mp4", original))
    )
    lags = {lag: heard[100 + lag : 30_000 + lag] @ sound[100:30_000] for lag in range(-20, 21)}
    assert abs(max(lags, key=lags.__getitem__)) <= 8, "samples of 16 kHz: half a tick of Matroska"
    assert files(tmp_path) == {"w.mp4", "videos/a.mkv", "fetch.jsonl", ".fetch.lock"}


@pytest.mark.parametrize(("kind", "status"), [("video", "no_audio"), ("audio", "no_picture")])
def test_what_lacks_a_stream_is_not_kept(tmp_path: Path, whole: bytes, kind: str, status: str):
    outcome = run(items("a"), Fake([only(kind, whole)]), tmp_path)
    assert outcome.counts == {status: 1}
    assert files(tmp_path) == {"fetch.jsonl", ".fetch.lock"}


@pytest.mark.parametrize("cut", [0, 100, 2000])
def test_what_is_no_media_is_damaged(tmp_path: Path, whole: bytes, cut: int):
    assert run(items("a"), Fake([whole[:cut]]), tmp_path).counts == {"damaged": 1}
    assert not (tmp_path / "videos").exists()


def test_a_name_with_dots_keeps_them(tmp_path: Path, whole: bytes):
    file = tmp_path / "x.mp4"
    file.write_bytes(whole)
    assert join_streams([file], tmp_path / "v1.0_C0").name == "v1.0_C0.mp4"


# --- formats and words of YouTube


def formats(*lines: str) -> list[dict]:
    """Formats from words like `v1080`, `a`, `va360`: what is in them and how high."""
    found = [re.fullmatch(r"(v?)(a?)(\d*)", line) for line in lines]
    return [
        {
            "format_id": line,
            "vcodec": "h264" if one and one[1] else "none",
            "acodec": "aac" if one and one[2] else "none",
            "height": int(one[3]) if one and one[3] else None,
            "width": int(one[3]) * 16 // 9 if one and one[3] else None,
        }
        for line, one in zip(lines, found, strict=True)
    ]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["a", "va360", "v720", "v1080", "v2160"], ["v1080", "a"]),
        (["a", "v2160"], ["v2160", "a"]),
        (["va360", "v1080"], ["va360"]),
        (["a", "va1080", "v1080"], ["va1080"]),
        (["a", "v360", "va720"], ["va720"]),
        (["va1440", "va2160"], ["va1440"]),
    ],
)
def test_the_best_picture_that_fits_is_taken_and_never_without_sound(offered: list[str], chosen: list[str]):
    assert [one["format_id"] for one in choose_formats(formats(*offered), 1080)] == chosen


@pytest.mark.parametrize(("offered", "status"), [(["v720"], "no_audio"), (["a"], "no_picture"), ([], "no_picture")])
def test_without_sound_or_picture_there_is_nothing_to_choose(offered: list[str], status: str):
    with pytest.raises(FetchFault) as caught:
        choose_formats(formats(*offered), 1080)
    assert caught.value.status == status


def test_an_upright_picture_counts_by_its_shorter_side():
    upright = {"format_id": "u", "vcodec": "h264", "acodec": "aac", "width": 1080, "height": 1920}
    assert choose_formats([*formats("va360"), upright], 1080) == [upright]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("[youtube] x: Private video. Sign in if you've been granted access to this video", "private"),
        ("[youtube] x: Video unavailable. This video has been removed by the uploader", "removed"),
        (
            "[youtube] x: Video unavailable. This video is no longer available because the account is terminated",
            "removed",
        ),
        ("[youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.", "age_restricted"),
        ("[youtube] x: Sign in to confirm you\u2019re not a bot. Use --cookies-from-browser", "throttled"),
        (
            "[youtube] x: This content isn't available, try again later. The current session has been rate-limited",
            "throttled",
        ),
        ("Unable to download API page: HTTP Error 429: Too Many Requests", "throttled"),
        ("[youtube] x: The uploader has not made this video available in your country", "region_blocked"),
        ("[youtube] x: Join this channel to get access to members-only content", "refused"),
        ("[youtube] x: This live event will begin in 3 hours.", "refused"),
        ("unable to download video data: HTTP Error 403: Forbidden", "network_error"),
        (
            "Unable to download webpage: <urlopen error [Errno -3] Temporary failure in name resolution>",
            "network_error",
        ),
        ("unable to download video data: HTTP Error 404: Not Found", "removed"),
        ("something nobody has ever said", "failed"),
    ],
)
def test_words_of_youtube_become_a_status(said: str, status: str):
    assert status_of(said) == status


def test_without_yt_dlp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(ConfigError, match=r"pip install -c constraints\.txt -e '\.\[fetch\]'"):
        YoutubeDownloader(max_lines=1080, pause_s=0)


# --- a site: files by path, statuses, transfers that break; the pages of the Hub


@dataclass
class Site:
    """What the server has, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    break_after: dict[str, list[int]] = field(default_factory=dict)
    pause_s: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0].replace("/datasets/me/set/resolve/main", "")
        site, asked = self.site, self.headers.get("Range", "")
        if with_body:
            site.asked.append((path, asked))
        if path.startswith("/api/datasets/me/set/tree/"):
            self._send(200, json.dumps(self._tree()).encode(), {"Content-Type": "application/json"}, with_body)
            return
        status = site.status.get(path, 200 if path in site.files else 404)
        if status != 200:
            self._send(status, b"", {}, with_body)
            return
        content = site.files[path]
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        start = int(found[1]) if found else 0
        stop = min(int(found[2]) + 1, len(content)) if found and found[2] else len(content)
        headers = {"ETag": f'"{sha256(content)}"', "X-Repo-Commit": "0" * 40, "Accept-Ranges": "bytes"}
        if found:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self._send(206 if found else 200, content[start:stop], headers, with_body)

    def _tree(self) -> list[dict]:
        return [
            {
                "type": "file",
                "path": path.removeprefix("/"),
                "size": len(content),
                "oid": "0" * 40,
                "lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 100},
            }
            for path, content in self.site.files.items()
        ]

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        breaks = self.site.break_after.get(self.path.split("?")[0].replace("/datasets/me/set/resolve/main", ""))
        if with_body and breaks:
            body = body[: breaks.pop(0)]
        for start in range(0, len(body) if with_body else 0, 1 << 16):
            try:
                self.wfile.write(body[start : start + (1 << 16)])
            except OSError:
                break  # the client was killed
            time.sleep(self.site.pause_s)
        self.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    told = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Told", (Handler,), {"site": told}))
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def quiet_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


# --- the Hub


def from_hub(site: Site, output: Path, source: str = "vfhq") -> tuple[list[FetchItem], HubDownloader]:
    downloader = HubDownloader(HubAddress.parse("hf://me/set"), endpoint=site.url)
    return downloader.items(get_source(source), output), downloader


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("hf://a/b", ("a/b", "main", "")),
        ("hf://a/b@v1.0", ("a/b", "v1.0", "")),
        ("hf://saeed-5959/vfhq/video_original/", ("saeed-5959/vfhq", "main", "video_original")),
    ],
)
def test_places_on_the_hub(word: str, place: tuple[str, str, str]):
    assert HubAddress.parse(word) == HubAddress(repository=place[0], revision=place[1], below=place[2])


@pytest.mark.parametrize("word", ["hf://a", "hf://a/b@", "hf:///a/b", "hf://../x/y z@"])
def test_what_is_no_place_on_the_hub(word: str):
    with pytest.raises(ConfigError, match="hf://OWNER/NAME"):
        HubAddress.parse(word)


def test_a_repository_lands_where_the_reader_finds_it(site: Site, tmp_path: Path, whole: bytes):
    clip = "/video_original/AQEr_KL4DKc_C0.mp4"
    site.files = {
        clip: whole,
        "/-abcdefghij_C1.mp4": whole,
        "/README.md": b"#",
        "/../out.mp4": whole,
        "/.x/a.mp4": whole,
    }
    wanted, downloader = from_hub(site, tmp_path)
    outcome = run(wanted, downloader, tmp_path)
    assert outcome.counts == {"ok": 2, "refused": 2}
    assert files(tmp_path) == {clip[1:], "-abcdefghij_C1.mp4", "fetch.jsonl", ".fetch.lock"}
    assert not (tmp_path.parent / "out.mp4").exists()
    found = [video for video in get_source("vfhq").list_videos(tmp_path) if video.reason is None]
    assert [video.youtube_id for video in found] == ["-abcdefghij", "AQEr_KL4DKc"]
    wanted, downloader = from_hub(site, tmp_path)
    assert run(wanted, downloader, tmp_path).num_tried == 0
    assert rows(tmp_path)[clip[1:]]["status"] == "ok"


@pytest.mark.parametrize(
    ("code", "status"), [(403, "refused"), (404, "removed"), (429, "throttled"), (503, "network_error")]
)
def test_answers_of_the_hub_become_a_status(
    site: Site, tmp_path: Path, whole: bytes, code: int, status: str, monkeypatch: pytest.MonkeyPatch
):
    site.files = {"/a_C0.mp4": whole}
    wanted, downloader = from_hub(site, tmp_path)
    site.status["/a_C0.mp4"] = code
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # it waits 23 s before it gives up
    assert run(wanted, downloader, tmp_path).counts == {status: 1}


def test_another_file_than_the_hub_told_is_damaged(site: Site, tmp_path: Path, whole: bytes):
    site.files = {"/a_C0.mp4": whole}
    wanted, downloader = from_hub(site, tmp_path)
    site.files = {"/a_C0.mp4": whole[:-1] + b"x"}
    assert run(wanted, downloader, tmp_path).counts == {"damaged": 1}
    assert files(tmp_path) == {"fetch.jsonl", ".fetch.lock"}


def test_a_repository_without_anything_of_the_source_is_refused(site: Site, tmp_path: Path):
    site.files = {"/README.md": b"#"}
    with pytest.raises(SourceError, match="no media file or annotation"):
        from_hub(site, tmp_path)


def start_fetch(site: Site, output: Path, home: Path) -> subprocess.Popen[str]:
    words = ["fetch", "--source", "folder", "--input", "hf://me/set", "--output", str(output), "--json"]
    hub = {
        "HF_ENDPOINT": site.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "hs_data.cli", *words],
        env=os.environ | hub,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_a_run_that_is_killed_is_gone_on_with(site: Site, tmp_path: Path, whole: bytes, how: signal.Signals):
    site.files = {f"/{number}.mp4": whole for number in range(3)} | {"/big.mp4": whole + bytes(2_000_000)}
    site.pause_s = 0.1
    output = tmp_path / "out"
    child = start_fetch(site, output, tmp_path / "hf")
    while not any(path == "/big.mp4" for path, _ in site.asked):
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    time.sleep(0.3)
    child.send_signal(how)
    child.communicate()
    assert child.returncode == (-9 if how == signal.SIGKILL else 130)
    done = {path for path in files(output) if not path.startswith(".")}
    assert done == {"0.mp4", "1.mp4", "2.mp4", "fetch.jsonl"}
    site.pause_s, site.asked = 0.0, []
    child = start_fetch(site, output, tmp_path / "hf")
    told, errors = child.communicate()
    assert child.returncode == 0, errors
    assert json.loads(told)["ok"] == 4
    assert {path for path, _ in site.asked if path.endswith(".mp4")} == {"/big.mp4"}
    assert (output / "big.mp4").read_bytes() == site.files["/big.mp4"]
    assert not (output / ".fetch").exists()


# --- yt-dlp itself, at a local site


MANIFEST = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"
 profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>
<AdaptationSet mimeType="video/mp4">
<Representation id="../{v}" bandwidth="90000" codecs="avc1.64000a" width="64" height="64">
<BaseURL>video-{id}.mp4</BaseURL></Representation></AdaptationSet>
<AdaptationSet mimeType="audio/mp4"><Representation id="a" bandwidth="9000" codecs="mp4a.40.2">
<BaseURL>audio-{id}.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"""


@pytest.fixture
def tube(site: Site, whole: bytes) -> Iterator[YoutubeDownloader]:
    """yt-dlp at a site that offers picture and sound as two files, as YouTube does."""
    pytest.importorskip("yt_dlp", reason="yt-dlp is not installed; pip install -e '.[fetch]'")
    for one in IDS:
        site.files[f"/{one}.mpd"] = MANIFEST.format(id=one, v="v" * 50).encode()
        site.files[f"/video-{one}.mp4"], site.files[f"/audio-{one}.mp4"] = only("video", whole), only("audio", whole)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)  # of yt-dlp, after an error's answer
        yield YoutubeDownloader(max_lines=1080, pause_s=0, address=site.url + "/{id}.mpd")
        gc.collect()


def test_yt_dlp_brings_picture_and_sound_into_a_folder_of_any_name(tmp_path: Path, tube: YoutubeDownloader):
    output = tmp_path / "$HOME %(title)s ~ 名"
    outcome = run(items(*IDS), tube, output)
    assert outcome.counts == {"ok": 5}, rows(output)
    assert files(output) == {*(f"videos/{one}.mkv" for one in IDS), "fetch.jsonl", ".fetch.lock"}
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    for one in IDS:
        video = probe(output / "videos" / f"{one}.mkv")
        assert (video.num_frames, video.audio_codec) == (50, "aac")


def test_yt_dlp_starts_no_program(tmp_path: Path, tube: YoutubeDownloader, monkeypatch: pytest.MonkeyPatch):
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    monkeypatch.setattr(os, "system", started.append)
    assert run(items(IDS[0]), tube, tmp_path).counts == {"ok": 1}
    assert started == []


@pytest.mark.parametrize("code", [404, 410, 429, 503])
def test_what_a_site_answers_yt_dlp_becomes_a_status(tmp_path: Path, site: Site, tube: YoutubeDownloader, code: int):
    status = {404: "removed", 410: "removed", 429: "throttled", 503: "network_error"}[code]
    site.status = {f"/{IDS[0]}.mpd": code, f"/video-{IDS[1]}.mp4": code}
    assert run(items(IDS[0]), tube, tmp_path / "page").counts == {status: 1}
    assert run(items(IDS[1]), tube, tmp_path / "data").counts == {status: 1}


@pytest.mark.parametrize("bad", ["../x", "-abc", "a/b", "abcdefghij;", "a" * 12, ""])
def test_what_is_no_id_is_never_asked_for(tmp_path: Path, site: Site, tube: YoutubeDownloader, bad: str):
    assert run([FetchItem(id=bad, name="x", path="videos/x")], tube, tmp_path).counts == {"refused": 1}
    assert site.asked == []


def test_a_site_that_is_not_there_is_a_network_error(tmp_path: Path, tube: YoutubeDownloader):
    nowhere = YoutubeDownloader(max_lines=1080, pause_s=0, address="http://127.0.0.1:9/{id}.mpd")
    assert run(items(IDS[0]), nowhere, tmp_path).counts == {"network_error": 1}
    assert tube.pause_s == 0


def test_yt_dlp_goes_on_with_a_transfer_that_broke(tmp_path: Path, site: Site, tube: YoutubeDownloader):
    whole = site.files[f"/video-{IDS[0]}.mp4"]
    site.break_after = {f"/video-{IDS[0]}.mp4": [len(whole) // 2]}
    assert run(items(IDS[0]), tube, tmp_path).counts == {"ok": 1}
    ranges = [asked for path, asked in site.asked if path.startswith("/video")]
    assert len(ranges) == 2
    assert re.fullmatch(r"bytes=[1-9]\d*-", ranges[1]), "what came before the break is not asked for again"


# --- sources


def hdtf(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = [f"Radio{number} https://www.youtube.com/watch?v={one}" for number, one in enumerate(IDS)]
    (folder / "RD_video_url.txt").write_text("\n".join(lines))
    (folder / "RD_annotion_time.txt").write_text("\n".join(f"Radio{n}.mp4 00:00-00:02" for n in range(len(IDS))))
    (folder / "test.txt").write_text("Radio0\n")
    return folder


def test_what_hdtf_names_is_fetched_to_where_its_reader_finds_it(tmp_path: Path, whole: bytes):
    source, root, output = get_source("hdtf"), hdtf(tmp_path / "in"), tmp_path / "out"
    wanted, unreadable = listed_items(source, root, output)
    assert ([item.id for item in wanted], unreadable) == (list(IDS), 0)
    assert not output.exists()
    bring_annotations(source, root, output)
    run(wanted, Fake([whole], {IDS[1]: "private"}), output)
    found = list(source.list_videos(output))
    assert {video.path: video.reason for video in found} == {
        **{f"videos/{one}.mp4": None for one in IDS if one != IDS[1]},
        "RD_Radio1.mp4": "unavailable",
    }
    assert next(video.split for video in found if video.path == f"videos/{IDS[0]}.mp4") == "test"
    again, _ = listed_items(source, root, output)
    assert [item.status for item in again] == ["already_there", "waiting", *["already_there"] * 3]


@pytest.mark.parametrize("source", ["hdtf", "celebvhq", "talkvid", "vfhq", "voxceleb2"])
def test_every_source_with_youtube_ids_finds_what_was_fetched(source: str, tmp_path: Path, whole: bytes):
    one, known = IDS[0], get_source(source)
    notes = {
        "hdtf": {
            "RD_video_url.txt": f"Radio0 https://youtu.be/{one}\n",
            "RD_annotion_time.txt": "Radio0.mp4 00:00-00:02",
        },
        "celebvhq": {
            "celebvhq_info.json": json.dumps(
                {
                    "clips": {
                        f"{one}_0": {
                            "ytb_id": one,
                            "duration": {"start_sec": 0, "end_sec": 2},
                            "bbox": {"top": 0, "bottom": 1, "left": 0, "right": 1},
                        }
                    }
                }
            )
        },
        "talkvid": {
            "list.json": json.dumps(
                [{"id": "x", "info": {"Video Link": f"https://youtu.be/{one}"}, "start-time": 0, "end-time": 2}]
            )
        },
        "vfhq": {f"Clip+{one}+P0+C0+F0-50.txt": "FPS: 25.0\n"},
        "voxceleb2": {f"dev/txt/id00012/{one}/00001.txt": "FRAME \tX \tY \tW \tH \n000009 \t0.1 \t0.1 \t0.5 \t0.5 \n"},
    }
    for name, text in notes[source].items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(text)
    output = tmp_path / "out"
    wanted, _ = listed_items(known, tmp_path / "in", output)
    bring_annotations(known, tmp_path / "in", output)
    assert run(wanted, Fake([whole]), output).counts == {"ok": 1}
    (video,) = known.list_videos(output)
    assert (video.path, video.reason, len(video.spans)) == (f"videos/{one}.mp4", None, 1)
    assert [item.status for item in listed_items(known, output, output)[0]] == ["already_there"]


def test_a_video_under_its_name_in_the_source_is_there(tmp_path: Path, whole: bytes):
    root = hdtf(tmp_path / "in")
    (root / "RD_Radio2.mp4").write_bytes(whole)
    wanted, _ = listed_items(get_source("hdtf"), root, root)
    assert {item.id for item in wanted if item.status == "already_there"} == {IDS[2]}


@pytest.mark.media
def test_hdtf_is_built_from_what_was_fetched(tmp_path: Path, media: Path):
    """Picture and sound come as two files; the annotated stretch of the joined one is kept with its sound."""
    talk = (media / "OpenTalker__SadTalker__examples_ref_video_WDA_KatieHill_000_first4s.mp4").read_bytes()
    source, root, output = get_source("hdtf"), hdtf(tmp_path / "in"), tmp_path / "out"
    (root / "RD_annotion_time.txt").write_text("Radio0.mp4 00:00-00:04\n")
    (root / "RD_video_url.txt").write_text(f"Radio0 https://youtu.be/{IDS[0]}\n")
    wanted, _ = listed_items(source, root, output)
    bring_annotations(source, root, output)
    assert run(wanted, Fake([only("video", talk), only("audio", talk)]), output).counts == {"ok": 1}
    words = ["build", "--source", "hdtf", "--input", str(output), "--output", str(tmp_path / "dataset")]
    options = ["--preset", "embedded", "--executor", "local", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "hs_data.cli", *words, *options], capture_output=True, text=True, check=False
    )
    assert (tmp_path / "dataset" / "dataset.json").is_file(), done.stderr
    rows = open_dataset(tmp_path / "dataset").clips().to_pylist()
    assert done.returncode == 0, [(row["verdict"], row["reason"]) for row in rows]
    assert {(row["path"], row["youtube_id"], row["official_split"]) for row in rows} == {
        (f"videos/{IDS[0]}.mkv", IDS[0], "test")
    }
    assert sum(row["verdict"] == "kept" for row in rows) == 1


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path):
    request = command.make_request(
        source="hdtf", input_=str(hdtf(tmp_path / "in")), output=tmp_path / "out", again=[], limit=2
    )
    facts = command.dry_run(request)
    assert (facts["requested"], facts["would_fetch"], facts["waiting"]) == (5, 2, 5)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"source": "lrs3", "input_": "x"}, "on application"),
        ({"source": "hdtf", "input_": None}, "needs --input"),
        ({"source": "folder", "input_": "x"}, "names no videos"),
        ({"source": "demo", "input_": "hf://a/b"}, "names no videos"),
        ({"source": "hdtf", "input_": "x", "again": ["gone"]}, "no such status"),
    ],
)
def test_requests_that_cannot_be(tmp_path: Path, words: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        command.make_request(**{"output": tmp_path / "o", "again": [], **words})


def test_a_folder_without_annotations_says_how_to_get_them(tmp_path: Path):
    with pytest.raises(SourceError, match=r"github\.com/MRzzm/HDTF"):
        listed_items(get_source("hdtf"), tmp_path, tmp_path)


def test_every_status_is_explained():
    page = (Path(__file__).parents[3] / "docs" / "fetch.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.M) == list(STATUSES)
    assert {status for status, _ in youtube.WORDS} | {*hub.STATUS_CODES.values()} <= STATUSES.keys()
