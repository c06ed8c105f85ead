"""Sample k of a run: a pure function of (seed, k) and of the datasets, so that one integer is the whole data state."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch

from ...manifests.errors import DatasetError
from ...manifests.shards import Shard
from ...manifests.storage import digest
from .clips import ClipFrames, ClipPool
from .order import Draw, Mixture, check_seed, epoch_order


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples side by side. Every tensor is [B, ...], named as in the recipe's `draw_sample` and `read`."""

    first: int
    """Number k of the first sample; the others follow one by one."""
    tensors: Mapping[str, torch.Tensor]
    """Numbers of `draw_sample` as int64 or bool [B], frames as they were stored, [B, ...]."""

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def to(self, device: torch.device | str) -> "Batch":
        """Copy to a device; from pinned memory without waiting for the copy."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return Batch(first=self.first, tensors=moved)

    def replace(self, **tensors: torch.Tensor) -> "Batch":
        """Return the batch with other tensors under these names."""
        return Batch(first=self.first, tensors={**self.tensors, **tensors})

    def split(self, size: int) -> list["Batch"]:
        """Cut into batches of at most `size` samples, for accumulating gradients; views, nothing is copied."""
        return [
            Batch(first=self.first + start, tensors={n: t[start : start + size] for n, t in self.tensors.items()})
            for start in range(0, len(self), size)
        ]


Contract = Mapping[str, Any]
STABLE_DIFFUSION = ("stabilityai/sd-vae-ft-mse", "madebyollin/taesd")
"""Autoencoders whose latents mean the same: one is the distilled copy of the other."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """A column that a recipe reads."""

    any_of: tuple[str, ...]
    """Names that will do, the best first."""
    build: str
    """Setting of `hs-data build` that makes the best one."""


def choose_columns(recipe: str, needs: Sequence[Need], have: Collection[str], where: str) -> tuple[str, ...]:
    """Return the best column that is there for each need.

    Raises:
        DatasetError: one is missing; names it and the setting that makes it.
    """
    chosen = [next((name for name in need.any_of if name in have), None) for need in needs]
    missing = [need for need, name in zip(needs, chosen, strict=True) if name is None]
    if missing:
        names = ", ".join(" or ".join(need.any_of) for need in missing)
        words = " ".join(f"--set {need.build}" for need in missing)
        raise DatasetError(
            f"{where}: has {', '.join(sorted(have))}, and {recipe} needs {names}; build it with `hs-data build {words}`"
        )
    return tuple(name for name in chosen if name is not None)


def check_latents(recipe: str, needed: Contract, shard: Shard) -> None:
    """Raise `DatasetError` where the latents' contract differs from what the recipe needs."""
    have = shard.contract.get("latent", {})
    wrong = [f"{key} {have.get(key)} instead of {value}" for key, value in needed.items() if have.get(key) != value]
    if wrong:
        raise DatasetError(
            f"{shard.path}: latents have {', '.join(wrong)}, so {recipe} cannot train on them; "
            "build with another latents.backend"
        )


def check_agreement(first: Contract, second: Contract, where: str, other: str) -> None:
    """Raise `DatasetError` unless two shards hold numbers of the same meaning: latents, sound features, frame rate."""
    for part in sorted({*first, *second}):
        if first.get(part) != second.get(part):
            raise DatasetError(
                f"{other}: {part} is {second.get(part)}, and {where} has {first.get(part)}; "
                "train on one of them, or build both with the same settings"
            )


def latent_space(contract: Contract) -> str:
    """Return the name of what latents mean: networks that have learnt one know nothing of another."""
    name = contract.get("latent", {}).get("id", "an unnamed codec")
    return STABLE_DIFFUSION[0] if name in STABLE_DIFFUSION else name


SampleParams = Mapping[str, int]
"""Numbers and bools that say what to take of a clip, and what to do with it; they go into the batch as they are."""


class SampleReader(Protocol):
    """The half of a recipe that the loader calls; pure, and called from several threads."""

    name: str
    needs: Sequence[Need]
    """Columns it reads."""
    latent: Contract
    """Entries that the latents' contract must have, as far as it matters."""
    min_frames: int
    """Shortest clip it can cut."""

    def draw_sample(self, num_frames: int, draw: Draw) -> SampleParams:
        """Decide what to take of a clip of L frames: whole numbers and bools, which go into the batch as they are."""
        ...

    def read(self, clip: ClipFrames, params: SampleParams) -> Mapping[str, np.ndarray]:
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

    def __init__(self, pools: Sequence[ClipPool], mixture: Mixture, recipe: SampleReader, seed: int) -> None:
        check_seed(seed)
        self._pools, self._mixture, self._recipe, self._seed = pools, mixture, recipe, seed
        first = pools[0]
        self.contract: Contract = first.any_shard().contract
        """Meaning of the numbers; the same in all datasets."""
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
        epoch, index = divmod(number, size)
        return part, epoch_order(self._seed, part, epoch, size)(index)

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

    def views(self, sample: int) -> tuple[SampleParams, Mapping[str, np.ndarray]]:
        """Return the cut of sample k and views of its frames; nothing is read yet."""
        part, clip = self.locate(sample)
        frames = self._pools[part].frames(clip)
        cut = self._recipe.draw_sample(frames.num_frames, Draw(self._seed, sample))
        return cut, self._recipe.read(frames, cut)


@cache
def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _numbers(params: Sequence[SampleParams]) -> dict[str, torch.Tensor]:
    """Return the numbers of params as [B] tensors, int64 or bool; one array for all, for each costs microseconds."""
    columns = torch.from_numpy(np.array([list(each.values()) for each in params], np.int64).T.copy()).unbind()
    named = zip(params[0].items(), columns, strict=True)
    return {name: column.bool() if isinstance(value, bool) else column for (name, value), column in named}
