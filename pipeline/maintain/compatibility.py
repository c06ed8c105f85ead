"""Compatibility of datasets: built alike, so that their clips may lie side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ...manifests.dataset import Dataset
from ...manifests.errors import DatasetError
from ...manifests.shards import Shard
from .resplit import SHARES


def check_agreement(datasets: Sequence[Dataset]) -> None:
    """Raise `DatasetError` unless stages, limits and the contract of every shard are those of the first."""
    first = datasets[0]
    contract = _contract(first, None)
    for dataset in datasets[1:]:
        _check_index(first, dataset)
    for dataset in datasets:
        contract = _contract(dataset, contract)


def _check_index(first: Dataset, other: Dataset) -> None:
    one, two = first.index, other.index
    where, fix = other.path, f"build both with the same settings, or leave {other.path} out"
    if one.fingerprints.encode != two.fingerprints.encode:
        found = [f for f in _differences(one.config, two.config) if not f.startswith(("select.", "run."))]
        why = ", ".join(found) or "models or version of a stage"
        raise DatasetError(f"{where}: was made otherwise than {first.path}: {why}; {fix}")
    names = tuple(f"select.{name}" for name in SHARES)
    if found := [f for f in _differences(one.config, two.config) if _is_limit(f) and not f.startswith(names)]:
        hint = f"run `hs-data select {where} --set` with the limits of {first.path}"
        raise DatasetError(f"{where}: has other limits than {first.path}: {', '.join(found)}; {hint}")


def _is_limit(difference: str) -> bool:
    return difference.startswith("select.")


def _differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    for section in sorted({*one, *two} - {"models"}):
        left, right = one.get(section, {}), two.get(section, {})
        for key in sorted({*left, *right}):
            if left.get(key) != right.get(key):
                yield f"{section}.{key} {right.get(key)} instead of {left.get(key)}"


def _contract(dataset: Dataset, expected: tuple[Path, Any, Any] | None) -> tuple[Path, Any, Any] | None:
    """Compare every shard's contract and columns with the expected ones, or with the first shard's, and return them."""
    for entry in dataset.index.shards:
        path = dataset.path / entry.path
        with closing(Shard(path)) as shard:
            if expected is None:
                expected = path, shard.contract, shard.columns
            elif (shard.contract, shard.columns) != expected[1:]:
                what = "another contract" if shard.contract != expected[1] else "other columns"
                raise DatasetError(f"{path}: has {what} than {expected[0]}; a trainer cannot read both")
    return expected
