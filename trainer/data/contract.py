"""What a recipe needs of a dataset, and the refusal when the dataset has it not."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...manifests.errors import DatasetError
from ...manifests.shards import Shard

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
