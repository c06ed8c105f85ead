"""Previews: small films of kept clips, made from what a trainer reads; the source is not needed."""

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ...manifests.dataset import Clip, Dataset
from ...manifests.records import FRAME_RATE
from ...manifests.status import counted
from ...manifests.storage import atomic_path, digest
from ..latents import Codec
from ..media.mp4 import add_sound, encode_video
from ..networks import codec_of

SIDE_PX = 256
MAX_FRAMES = 4 * FRAME_RATE
"""Four seconds show whether lips and sound agree."""
BATCH = 8
"""Frames decoded at once."""
BUDGET_S = 120.0
"""After this long no further film is begun; what is made is kept, and the next call goes on."""
SAMPLE_RATE_HZ = 32_000
"""AAC of the file; players resample 16 kHz badly."""


def make_previews(dataset: Dataset, clips: Sequence[Clip]) -> int:
    """Make the films that are not there yet, in `report/previews`, and return how many were left out for time.

    Raises:
        HsDataError: a shard cannot be read, or the codec's weights are missing.
    """
    missing = [clip for clip in clips if not preview_path(dataset, clip).is_file()]
    if not missing:
        return 0
    codec = codec_of(dataset)
    began = time.monotonic()
    for number, clip in enumerate(counted(missing, "films")):
        if number and time.monotonic() - began > BUDGET_S:
            return len(missing) - number
        with atomic_path(preview_path(dataset, clip)) as temporary:
            _film(dataset, clip, codec, temporary)
    return 0


def preview_path(dataset: Dataset, clip: Clip) -> Path:
    """Return where the film of a clip lies; another shard is another film."""
    name = digest("preview", clip.clip_id, clip.shard, clip.row_group, SIDE_PX, MAX_FRAMES)[:20]
    return dataset.path / "report" / "previews" / f"{name}.mp4"


def _film(dataset: Dataset, clip: Clip, codec: Codec, path: Path) -> None:
    num_frames = min(clip.num_frames, MAX_FRAMES)
    pcm = dataset.read(clip, "pcm", 0, num_frames).reshape(-1)
    video = encode_video(_pictures(dataset, clip, codec, num_frames), Fraction(FRAME_RATE))
    add_sound(video, np.ascontiguousarray(pcm), path, sample_rate_hz=SAMPLE_RATE_HZ, num_channels=1)


def _pictures(dataset: Dataset, clip: Clip, codec: Codec, num_frames: int) -> Iterator[tuple[Fraction, np.ndarray]]:
    for start in range(0, num_frames, BATCH):
        latents = dataset.read(clip, "latent", start, min(start + BATCH, num_frames))
        for index, rgb in enumerate(codec.decode(latents)):  # [512, 512, 3] uint8
            small = Image.fromarray(rgb).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
            yield Fraction(start + index, FRAME_RATE), np.asarray(small)
