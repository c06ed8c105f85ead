"""Media comes in through one door: `open_container` takes recorded media and nothing that names another file."""

import ast
import os
import socket
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hs_data.manifests.errors import MediaError
from hs_data.manifests.records import Video
from hs_data.pipeline.media.container import open_container
from hs_data.pipeline.media.decode import DecodeConfig, frames
from hs_data.pipeline.media.mp4 import write_film
from hs_data.pipeline.media.mux import lay_under
from hs_data.pipeline.media.probe import probe

ROOT = Path(__file__).resolve().parents[3]
DOORS = {"av.open": "pipeline/media/container.py", "decord.VideoReader": "pipeline/media/decord_backend.py"}
OTHER_READERS = {"cv2.VideoCapture", "cv2.imread", "cv2.imreadmulti", "Image.open", "imageio.imread"}
OTHER_READERS |= {"scipy.io.wavfile.read", "wavfile.read", "torchvision.io.read_video", "soundfile.read"}


def readers(tree: ast.AST) -> Iterator[str]:
    """Yield the calls that open media for reading; one that writes, or reads bytes of our own in memory, is none."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        words = [ast.unparse(word) for word in [*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode")]]
        is_written = called == "av.open" and "'w'" in words
        is_own = bool(words) and words[0].startswith("BytesIO(")
        if called in {*DOORS, *OTHER_READERS} and not is_written and not is_own:
            yield called


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("av.open(str(p))", ["av.open"]),
        ("av.open(p, 'r')", ["av.open"]),
        ("av.open(p, mode=kind)", ["av.open"]),
        ("av.open(p, 'w', format='mp4')", []),
        ("av.open(BytesIO(video), 'r')", []),
        ("with cv2.VideoCapture(p) as v: ...", ["cv2.VideoCapture"]),
    ],
)
def test_a_second_door_is_seen(line: str, seen: list[str]):
    assert list(readers(ast.parse(line))) == seen


def test_files_are_opened_for_reading_in_one_place():
    found = {}
    for folder in ("commands", "manifests", "pipeline", "trainer"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for called in readers(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault(called, []).append(path.relative_to(ROOT).as_posix())
    assert found == {called: [path] for called, path in DOORS.items()}


# --- what is refused there, through every way in

LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "ffconcat-bom": "\ufeffffconcat version 1.0\nfile secret.mp4\n",
    "concat-bare": "file secret.mp4\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    "xspf-pls": "[playlist]\nFile1=secret.mp4\nNumberOfEntries=1\n",
}
NOBODY = Video(
    container="mov,mp4,m4a,3gp,3g2,mj2", video_codec="h264", width=320, height=240, rotation_deg=0, fps=25.0,
    is_vfr=False, num_packets=10, num_frames=10, start_s=Fraction(0), duration_s=Fraction(2, 5),
    keyframes_s=(Fraction(0),), audio_codec="aac", audio_start_s=Fraction(0), audio_duration_s=Fraction(2, 5),
    sample_rate_hz=16_000, num_channels=1, num_audio_streams=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, draw: Callable[..., object]) -> Path:
    """A sound film of 0.4 s."""
    path = tmp_path_factory.mktemp("good") / "good.mp4"
    draw(path, "libx264", num_frames=10, sound=("aac", 16_000, np.zeros(6400, np.float32)))
    return path


@pytest.fixture(params=list(LISTS))
def playlist(request: pytest.FixtureRequest, good: Path, tmp_path: Path) -> Path:
    """A list named like a video, beside the real file that it names."""
    (tmp_path / "secret.mp4").symlink_to(good)
    path = tmp_path / "video.mp4"
    path.write_text(LISTS[request.param])
    return path


def refusal(do: object, *words: object, **more: object) -> str:
    with pytest.raises(MediaError) as caught:
        do(*words, **more)  # type: ignore[operator]
    return caught.value.reason


def test_a_playlist_reads_nothing_in_a_build(playlist: Path):
    assert refusal(probe, playlist) == "not_media"


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_a_playlist_put_in_place_of_a_probed_file_reads_nothing(playlist: Path, backend: str):
    shown = frames(playlist, NOBODY, config=DecodeConfig(backend=backend))  # type: ignore[arg-type]
    assert refusal(list, shown) == "not_media"


def test_a_playlist_reads_nothing_in_generate(playlist: Path, good: Path, tmp_path: Path):
    out = tmp_path / "out.mkv"
    assert refusal(lay_under, playlist, good, out) == "not_media"
    assert refusal(lay_under, good, playlist, out) == "not_media"
    picture = (Fraction(0), np.zeros((64, 64, 3), np.uint8))
    assert refusal(write_film, tmp_path / "film.mp4", iter([picture]), rate=Fraction(25), sound=playlist) == "not_media"
    assert not out.exists()
    assert not (tmp_path / "film.mp4").exists()


# --- what is no file at all


@pytest.mark.timeout(20)
def test_a_pipe_a_socket_and_a_device_are_no_input(tmp_path: Path, good: Path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.mp4"))
        (tmp_path / "device.mp4").symlink_to("/dev/zero")
        for name, kind in (("pipe", "named pipe"), ("socket", "socket"), ("device", "character device")):
            with pytest.raises(MediaError, match=f"not_media: a {kind} is no file"):
                open_container(tmp_path / f"{name}.mp4")
    with pytest.raises(MediaError, match="named pipe"):
        lay_under(tmp_path / "pipe.mp4", good, tmp_path / "out.mkv")
