"""Latents of a clip from the sampler of a recipe: the one way of `hs-data generate` and of sample videos."""

import numpy as np

from ..manifests.dataset import Clip
from .data.samples import choose_columns
from .recipes.recipe import ClipSampler, Recipe


def generate_latents(clip: Clip, recipe: Recipe, sampler: ClipSampler, max_frames: int | None = None) -> np.ndarray:
    """Generate a clip from the columns that its recipe needs.

    Args:
        clip: of a dataset with these columns.
        recipe: of the network.
        sampler: that `recipe.make_sampler` made.
        max_frames: frames to generate from the start, if the clip has as many; None: all.

    Returns:
        [T, C, H, W] float32.

    Raises:
        DatasetError: the dataset lacks a column.
    """
    columns = choose_columns(recipe.name, recipe.needs, clip.columns, clip.clip_id)
    num_frames = clip.num_frames if max_frames is None else min(clip.num_frames, max_frames)
    return sampler.sample({name: clip.read(name) for name in columns}, num_frames)
