"""Sample k of a run: a pure function of (seed, k) and of the datasets, so that one integer is the whole data state."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch

from ...manifests.errors import DatasetError
from ...manifests.storage import digest
from .batch import Batch
from .clips import ClipFrames, ClipPool
from .contract import Contract, Need, check_agreement, check_latents, choose_columns
from .draws import Draw, check_seed
from .mixture import Mixture
from .permutation import epoch_order

Cut = Mapping[str, int]


class Cutter(Protocol):
    """The half of a recipe that the loader calls; pure, and called from several threads."""

    name: str
    needs: Sequence[Need]
    """Columns it reads."""
    latent: Contract
    """What the latents' contract must say, as far as it matters."""
    min_frames: int
    """Shortest clip it can cut."""

    def cut(self, num_frames: int, draw: Draw) -> Cut:
        """Decide what to take of a clip of L frames: whole numbers and bools, which go into the batch as they are."""
        ...

    def read(self, clip: ClipFrames, cut: Cut) -> Mapping[str, np.ndarray]:
        """Return the frames to ship, by name; views where possible, of the same shape for every clip."""
        ...


class Samples:
    """The endless row of samples of a run.

    Args:
        pools: the clips of each dataset.
        mixture: how the datasets share the samples.
        recipe: what a sample is.
        seed: 0 .. 2^64 - 1.

    Raises:
        DatasetError: a dataset lacks what the recipe needs, or two do not agree.
    """

    def __init__(self, pools: Sequence[ClipPool], mixture: Mixture, recipe: Cutter, seed: int) -> None:
        check_seed(seed)
        self._pools, self._mixture, self._recipe, self._seed = pools, mixture, recipe, seed
        first = pools[0]
        self.contract: Contract = first.any_shard().contract
        """What the numbers mean; the same in all datasets."""
        self.build = first.build
        """Settings that the first dataset was built with."""
        self.columns = self._check(first)
        """Columns that are read."""
        for pool in pools[1:]:
            check_agreement(self.contract, pool.any_shard().contract, str(first.path), str(pool.path))
            if self._check(pool) != self.columns:
                raise DatasetError(f"{pool.path}: has other columns than {first.path}; build both with one config")

    def _check(self, pool: ClipPool) -> tuple[str, ...]:
        shard = pool.any_shard()
        check_latents(self._recipe.name, self._recipe.latent, shard)
        return choose_columns(self._recipe.name, self._recipe.needs, shard.columns, str(pool.path))

    @property
    def num_clips(self) -> int:
        """Clips of all datasets."""
        return sum(len(pool) for pool in self._pools)

    def fingerprint(self) -> str:
        """Return the identity of the samples: a run may go on with others only when it is told to."""
        parts = [pool.fingerprint() for pool in self._pools]
        return digest("samples", self._recipe.name, self._seed, self._mixture.shares, parts)

    def locate(self, sample: int) -> tuple[int, int]:
        """Return the dataset and the clip of sample k; every clip comes once before any comes again."""
        part, number = self._mixture.locate(sample)
        size = len(self._pools[part])
        epoch, place = divmod(number, size)
        return part, epoch_order(self._seed, part, epoch, size)(place)

    def clip_id(self, sample: int) -> str:
        """Return the id of the clip that sample k is cut from, to name it in a message."""
        part, clip = self.locate(sample)
        return self._pools[part].clip_id(clip)

    def batch(self, first: int, count: int, *, pin: bool = False) -> Batch:
        """Read samples `first .. first + count - 1` into new tensors, pinned where a GPU will copy them."""
        # All views first, all copies then: a copy of half a megabyte empties the caches that Python runs from.
        cut = [self.views(sample) for sample in range(first, first + count)]
        tensors = _numbers([numbers for numbers, _ in cut])
        for name, like in cut[0][1].items():
            tensors[name] = torch.empty((count, *like.shape), dtype=_torch_dtype(like.dtype), pin_memory=pin)
            rows = tensors[name].numpy()
            for row, (_, views) in zip(rows, cut, strict=True):
                assert row.shape == views[name].shape, f"{self._recipe.name}.{name}: {views[name].shape}, {row.shape}"
                row[...] = views[name]
        return Batch(first=first, tensors=tensors)

    def views(self, sample: int) -> tuple[Cut, Mapping[str, np.ndarray]]:
        """Return the cut of sample k and views of its frames; nothing is read yet."""
        part, clip = self.locate(sample)
        frames = self._pools[part].frames(clip)
        cut = self._recipe.cut(frames.num_frames, Draw(self._seed, sample))
        return cut, self._recipe.read(frames, cut)


@cache
def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _numbers(cuts: Sequence[Cut]) -> dict[str, torch.Tensor]:
    """Return the numbers of cuts as [B] tensors, int64 or bool; one array for all, for each costs microseconds."""
    columns = torch.from_numpy(np.array([list(cut.values()) for cut in cuts], np.int64).T.copy()).unbind()
    named = zip(cuts[0].items(), columns, strict=True)
    return {name: column.bool() if isinstance(value, bool) else column for (name, value), column in named}
