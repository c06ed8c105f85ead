"""Films of held-out clips while a network trains: what it makes of their mouths, beside what they were."""

import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..manifests.dataset import Clip, Dataset, open_dataset
from ..manifests.errors import ConfigError, ModelError
from ..manifests.records import FRAME_RATE
from ..manifests.storage import atomic_path
from ..pipeline.latents import Codec
from ..pipeline.media.mp4 import add_sound, encode_video
from ..pipeline.networks import codec_of
from .data.config import DataConfig
from .data.order import parse_datasets
from .data.staging import stage
from .recipes.recipe import Recipe, SamplingConfig
from .sampling import generate_latents

logger = logging.getLogger(__name__)
SIDE_PX = 256
MAX_FRAMES = 3 * FRAME_RATE
"""Three seconds of each clip show whether lips and sound agree."""
BATCH = 8
"""Frames that are decoded at once."""
FILE_RATE_HZ = 32_000
"""AAC of the file; players resample 16 kHz badly."""


class SampleVideos:
    """Make films of the same held-out clips again and again: target, reference and sample side by side, with sound.

    The clips, those of the smallest ids, follow each other. The sampler's noise has a seed of its own, so films change
    nothing of the training. What makes them impossible is warned of once; a run is not stopped for them.

    Args:
        run: the run's folder.
        data: which datasets; the first one's `val` clips are shown.
        recipe: what is trained; shorter clips than it can cut are left out.
        num_clips: most clips of a film.
        num_steps: denoising steps.
    """

    def __init__(self, run: Path, data: DataConfig, recipe: Recipe, *, num_clips: int, num_steps: int) -> None:
        self._folder = run / "samples"
        self._recipe, self._config = recipe, SamplingConfig(steps=num_steps)
        dataset = open_dataset(stage(parse_datasets(data.datasets)[0].location, data.staging))
        long_enough = [clip for clip in dataset.split("val") if clip.num_frames >= recipe.min_frames]
        self._clips = sorted(long_enough, key=lambda clip: clip.clip_id)[:num_clips]
        if not self._clips:
            logger.warning("run.sample_every: no films of samples; %s has no val clip", dataset.path)
        self._codec = _codec(dataset)

    def sample(self, network: torch.nn.Module) -> list[np.ndarray]:
        """Generate the clips: latents [T, 4, 64, 64] float16 of each; none where they could not be shown.

        Args:
            network: in evaluation mode, on its device.
        """
        if self._codec is None:
            return []
        try:
            sampler = self._recipe.make_sampler(network, self._config)
        except ConfigError as error:
            logger.warning("run.sample_every: no films of samples (%s)", error)
            self._codec = None
            return []
        made = (generate_latents(clip, self._recipe, sampler, MAX_FRAMES) for clip in self._clips)
        return [latents.astype(np.float16) for latents in made]

    def write(self, made: Sequence[np.ndarray], step: int) -> Path | None:
        """Write what `sample` gave to `samples/step-XXXXXXXX.mp4` of the run; return where, or None for nothing."""
        if self._codec is None or not made:
            return None
        video = encode_video(_pictures(self._clips, made, self._codec), Fraction(FRAME_RATE))
        pcm = np.concatenate([_read(clip, "pcm").reshape(-1) for clip in self._clips])  # [S] int16
        path = self._folder / f"step-{step:08d}.mp4"
        with atomic_path(path) as temporary:
            add_sound(video, pcm, temporary, sample_rate_hz=FILE_RATE_HZ, num_channels=1)
        return path


def _codec(dataset: Dataset) -> Codec | None:
    try:
        return codec_of(dataset)
    except ModelError as error:
        logger.warning("run.sample_every: no films of samples (%s)", error)
        return None


def _read(clip: Clip, column: str) -> np.ndarray:
    """Return the frames of a clip that are shown."""
    return clip.read(column, 0, min(clip.num_frames, MAX_FRAMES))


def _pictures(clips: Sequence[Clip], made: Sequence[np.ndarray], codec: Codec) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Yield times and pictures [SIDE_PX, 3 SIDE_PX, 3] uint8."""
    number = 0
    for clip, sampled in zip(clips, made, strict=True):
        latents = _read(clip, "latent")
        reference = _small(codec.decode(latents[:1])[0])
        for start in range(0, len(latents), BATCH):
            both = (codec.decode(each[start : start + BATCH]) for each in (latents, sampled))
            for target, sample in zip(*both, strict=True):
                yield Fraction(number, FRAME_RATE), np.hstack([_small(target), reference, _small(sample)])
                number += 1


def _small(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
