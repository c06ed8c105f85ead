"""Let a trained network speak: a video, another sound, and out comes the video with a mouth that says it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from ..manifests import settings
from ..manifests.dataset import Clip, Dataset
from ..manifests.errors import ConfigError, DatasetError
from ..manifests.records import FRAME_RATE
from ..manifests.storage import atomic_path
from ..pipeline.config import Config
from ..pipeline.latents import Codec
from ..pipeline.media.mp4 import write_film
from ..pipeline.media.probe import probe
from ..pipeline.media.pyav_backend import source_frames
from ..pipeline.networks import codec_of
from ..pipeline.paste import paste, seam
from ..pipeline.run.inference_dataset import prepare
from .checkpoint import State, find_checkpoint, read_state
from .networks import load_network
from .recipes.recipe import ClipSampler, Recipe, SamplingConfig
from .sampling import generate_latents

BATCH = 8
"""Frames that are decoded at once."""
Mouths = dict[int, tuple[np.ndarray, np.ndarray]]
"""Frame of the 25 fps grid to the generated crop [512, 512, 3] uint8 and its box [4] in the picture."""


@dataclass(frozen=True, kw_only=True)
class GeneratedVideo:
    """A video that a network has spoken in."""

    output: str
    frames: int
    generated_frames: int
    """Mouths that were generated, on the grid of 25 frames a second."""


def generate(
    checkpoint: Path,
    *,
    video: Path,
    sound: Path,
    output: Path,
    sampling: SamplingConfig,
    assignments: list[str],
    device: str,
    console: Console,
) -> GeneratedVideo:
    """Write a video whose mouth follows another sound; its size, its frame rate and all else stay as they are.

    Args:
        checkpoint: a run, or one of its checkpoints.
        video: shows a face; where none is seen, nothing changes.
        sound: what is to be said.
        output: MP4 to write.
        sampling: how.
        assignments: `key=value` laid over the settings of the build that the network was trained on.
        device: `auto`, `cpu` or `cuda`.
        console: for progress.

    Raises:
        HsDataError: no checkpoint; a file that cannot be read; no face; models that are missing.
    """
    found = find_checkpoint(checkpoint)
    state = read_state(found)
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    recipe, network = load_network(found, state, torch.device("cuda" if use_cuda else "cpu"))
    sampler = recipe.make_sampler(network, sampling)
    built = settings.merge(dict(state.build), settings.parse_assignments(assignments))
    with tempfile.TemporaryDirectory(prefix="hs-data-generate-") as folder:
        dataset = prepare(video, sound, built, Path(folder), console)
        _check_contract(dataset, state)
        clips = _largest(dataset)
        if not clips:
            raise DatasetError(f"{video}: no face was found; try another detector with --set faces.backend=...")
        mouths = _mouths(dataset, clips, recipe, sampler, console)
        source = Path(folder) / "input" / "video.mkv"
        limits = settings.build(Config, built).decode
        facts = probe(source, limits=limits)
        with atomic_path(output) as temporary:
            pictures = _pasted(source_frames(source, facts, limits), mouths)
            written = write_film(temporary, pictures, rate=Fraction(facts.fps).limit_denominator(1001), sound=sound)
    return GeneratedVideo(output=str(output), frames=written, generated_frames=len(mouths))


def _check_contract(dataset: Dataset, state: State) -> None:
    have = dataset.shard(dataset.kept[0].shard).contract if dataset.kept else None
    if have is not None and have != state.contract:
        raise ConfigError("--set: latents or sound features mean something else than those the network was trained on")


def _largest(dataset: Dataset) -> list[Clip]:
    """Return clips that do not overlap, the ones with the tallest faces first chosen; an overlapping one goes whole."""
    rows = dataset.clips(["clip_id", "start_frame", "num_frames", "face_height_p50_px"]).to_pylist()
    heights = {row["clip_id"]: row["face_height_p50_px"] for row in rows}
    spans = {row["clip_id"]: range(row["start_frame"], row["start_frame"] + row["num_frames"]) for row in rows}
    chosen: list[Clip] = []
    for clip in sorted(dataset.kept, key=lambda clip: -heights[clip.clip_id]):
        if all(set(spans[clip.clip_id]).isdisjoint(spans[other.clip_id]) for other in chosen):
            chosen.append(clip)
    return sorted(chosen, key=lambda clip: spans[clip.clip_id].start)


def _mouths(dataset: Dataset, clips: list[Clip], recipe: Recipe, sampler: ClipSampler, console: Console) -> Mouths:
    codec = codec_of(dataset)
    table = dataset.clips(["clip_id", "start_frame"]).to_pylist()
    starts = {row["clip_id"]: row["start_frame"] for row in table}
    mouths: Mouths = {}
    for number, clip in enumerate(clips, 1):
        console.print(f"generate: clip {number} of {len(clips)}, {clip.num_frames / FRAME_RATE:.1f} s", highlight=False)
        latents = generate_latents(clip, recipe, sampler)
        crops = dataset.read(clip, "crop")
        for index, rgb in enumerate(_decoded(codec, latents)):
            mouths[starts[clip.clip_id] + index] = (rgb, crops[index])
    return mouths


def _decoded(codec: Codec, latents: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(latents), BATCH):
        yield from codec.decode(latents[start : start + BATCH].astype(np.float16))


def _pasted(pictures: Iterator[tuple[Fraction, np.ndarray]], mouths: Mouths) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Put into each source frame the mouth that is shown at the middle of its time on the grid."""
    share = seam()
    for shown_s, rgb in pictures:
        mouth = mouths.get(int(shown_s * FRAME_RATE + Fraction(1, 2)))
        yield shown_s, rgb if mouth is None else paste(rgb, mouth[0], mouth[1], share)
