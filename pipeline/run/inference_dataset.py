"""One video and one sound as a dataset of their own: what a model needs of them is made exactly as `build` makes it."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ...manifests import settings
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.sources import get_source
from ..config import Config, resolve_device
from ..media.mux import lay_under
from ..select import RULES, SelectConfig
from .build import Build, BuildRequest
from .progress import BuildProgress

LONGEST_S = 60.0
"""A face is followed this long with one crop size; then the next clip begins."""


def prepare(video: Path, sound: Path, config: settings.Table, folder: Path, console: Console) -> Dataset:
    """Find, crop and encode the faces of a video, with another sound laid under it.

    Nothing is judged: every stretch with a face becomes a clip. What follows the end of the shorter one is left out.

    Args:
        video: any video file; its own sound is not used.
        sound: any file with sound.
        config: settings of a build, as `dataset.json` holds them.
        folder: an empty folder to work in.
        console: where progress is shown.

    Raises:
        MediaError: a file cannot be read.
        HsDataError: as a build.
    """
    root = folder / "input"
    root.mkdir()
    lay_under(video, sound, root / "video.mkv")
    built = resolve_device(open_limits(settings.build(Config, config)))
    request = BuildRequest(
        source=get_source("folder"),
        root=root,
        dataset=folder / "dataset",
        preset="generate",
        config=built,
        selection={},
        built_select=settings.to_table(built.select),
        executor="local",
        num_workers=1,
    )
    Build(request, BuildProgress(console)).run()
    return open_dataset(folder / "dataset")


def open_limits(config: Config) -> Config:
    """Return the settings with every limit open, and without what only judges."""
    allowed = settings.ranges(type(config.select))
    wide: dict[str, float] = {
        rule.limit: 0 if rule.side == "min" or rule.off_at_zero else allowed[rule.limit].high for rule in RULES
    }
    select = SelectConfig(
        **{**settings.to_table(config.select), **wide, "min_speech_share": 0.0, "sync_rules": "never"}
    )
    return replace(
        config,
        select=select,
        tracks=replace(config.tracks, max_clip_s=LONGEST_S),
        sync=replace(config.sync, backend="correlation", correct=False),
        latents=replace(config.latents, masked=False, logvar=False, jpeg_quality=0),
    )
