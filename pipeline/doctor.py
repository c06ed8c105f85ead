"""`hs-data doctor`: what works on this machine, found out by trying it."""

import importlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.error import FFmpegError

from ..manifests.errors import HsDataError
from ..manifests.processes import use_own_ray
from .media.decode import DecodeConfig, frames
from .media.probe import probe
from .models import registry

CODECS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
"""Codec to the encoder that makes its test clip."""
PACKAGES = (
    *("av", "decord", "cv2", "scenedetect", "pyarrow", "ray", "torch", "torchvision", "diffusers"),
    *("retinaface", "whisper", "syncnet_python", "webrtcvad", "skimage"),
)
NUM_FRAMES = 10
SIDE_PX = 64
GREY_STEP = 20
MIN_FREE_GB = 10.0


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that was tried."""

    what: str
    state: Literal["ok", "absent", "missing"]
    """`absent`: hs-data does without it. `missing`: something that is asked for cannot work."""
    detail: str

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what:<20} {self.detail}"


def examine(assignments: Sequence[str]) -> Iterator[Diagnosis]:
    """Try everything and yield what was found; nothing is downloaded and nothing left behind."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only; the AV1 encoder writes past every logger
    yield from _packages()
    yield from _decoders()
    yield _gpu()
    yield _ray()
    yield _disk()
    yield from _models(assignments)


def _packages() -> Iterator[Diagnosis]:
    owners = importlib.metadata.packages_distributions()
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken package can raise anything; that is the finding
            yield Diagnosis(what=f"package {name}", state="missing", detail=f"{type(error).__name__}: {error}")
            continue
        owner = owners.get(name, [name])[0]
        yield Diagnosis(what=f"package {name}", state="ok", detail=f"{owner} {importlib.metadata.version(owner)}")


def _decoders() -> Iterator[Diagnosis]:
    with tempfile.TemporaryDirectory(prefix="hs-data-doctor-") as folder:
        for codec, encoder in CODECS.items():
            yield _try_codec(Path(folder) / f"{codec}.mkv", codec, encoder)


def _try_codec(path: Path, codec: str, encoder: str) -> Diagnosis:
    what = f"decode {codec}"
    try:
        _draw(path, encoder)
    except (FFmpegError, ValueError) as error:
        return Diagnosis(what=what, state="absent", detail=f"no encoder to try it with ({error})")
    try:
        levels = [float(f.rgb.mean()) for f in frames(path, probe(path), config=DecodeConfig(min_timeout_s=5))]
    except HsDataError as error:
        return Diagnosis(what=what, state="missing", detail=str(error))
    off = max((abs(level - GREY_STEP * (1 + k)) for k, level in enumerate(levels)), default=255.0)
    good = len(levels) == NUM_FRAMES and off < GREY_STEP / 2
    return Diagnosis(
        what=what, state="ok" if good else "missing", detail=f"{len(levels)} frames, grey off by {off:.1f}"
    )


def _draw(path: Path, encoder: str) -> None:
    """Write frames whose grey level tells their number."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 25)
        stream.options = {"x265-params": "log-level=none"} if encoder == "libx265" else {}
        for number in range(NUM_FRAMES):
            picture = np.full((SIDE_PX, SIDE_PX, 3), GREY_STEP * (1 + number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _gpu() -> Diagnosis:
    import torch  # noqa: PLC0415 - seconds to import, and only asked here

    if not torch.cuda.is_available():
        return Diagnosis(what="gpu", state="absent", detail="none; networks run on the CPU")
    properties = torch.cuda.get_device_properties(0)
    memory_gb = properties.total_memory / 1e9
    return Diagnosis(
        what="gpu", state="ok", detail=f"{torch.cuda.device_count()} x {properties.name}, {memory_gb:.0f} GB"
    )


def _ray() -> Diagnosis:
    use_own_ray()
    from .workers.ray_pool import try_ray  # noqa: PLC0415 - the only room that imports Ray

    try:
        return Diagnosis(what="ray", state="ok", detail=try_ray())
    except Exception as error:  # noqa: BLE001 - whatever keeps Ray from starting is the finding
        return Diagnosis(what="ray", state="missing", detail=f"{error}; use --executor local")


def _disk() -> Diagnosis:
    free_gb = shutil.disk_usage(".").free / 1e9
    state = "ok" if free_gb >= MIN_FREE_GB else "missing"
    return Diagnosis(
        what="disk", state=state, detail=f"{free_gb:.0f} GB free here; an hour of kept clips takes about 3 GB"
    )


def _models(assignments: Sequence[str]) -> Iterator[Diagnosis]:
    config = registry.configure(assignments)
    try:
        entries = registry.entries(config)
    except HsDataError as error:
        yield Diagnosis(what="models.toml", state="missing", detail=str(error))
        return
    for entry in entries:
        path = registry.find(entry.name, config)
        detail = str(path) if path else f"not in {registry.models_dir(config)}; {entry.purpose}"
        yield Diagnosis(what=f"model {entry.name}", state="ok" if path else "absent", detail=detail)
