"""Provenance: what made a dataset, from what, under which licences, and what it cost."""

import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from ...manifests.dataset import Dataset
from ...manifests.errors import ConfigError
from ...manifests.settings import Table
from ...manifests.sources import get_source
from ..models.entries import MODEL_FILES

PACKAGES = ("av", "diffusers", "numpy", "opencv-python", "openai-whisper", "pyarrow", "ray", "torch")
"""Those on which scores or latents depend."""

PHASES = ("probe", "score", "encode")


@dataclass(frozen=True, kw_only=True)
class ModelOrigin:
    """A model that made a dataset, and where its file comes from."""

    name: str
    sha256: str
    licence: str
    purpose: str | None
    """None: this version does not know the file."""
    origin: str | None


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Time that a stage of a phase took."""

    phase: str
    stage: str
    cpu_s: float | None
    gpu_s: float | None
    """None: none was recorded."""
    footage_s: float
    """Length of what went through the phase."""


@dataclass(frozen=True, kw_only=True)
class ByteCounts:
    """Sizes of what a build read and wrote."""

    read: int
    shards: int


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Makers of a dataset; versions and machine are those that wrote the report."""

    config: Table
    """Settings by section."""
    fingerprints: Mapping[str, str]
    models: Sequence[ModelOrigin]
    hs_data_version: str
    versions: Mapping[str, str]
    """Python and the packages of `PACKAGES`."""
    machine: Mapping[str, str | int | None]
    costs: Sequence[StageCost]
    bytes: ByteCounts
    source_licence: str


def provenance(dataset: Dataset, costs: dict[str, float]) -> Provenance:
    """Return settings, models, versions, machine and costs.

    Versions and machine are those that wrote the report; those of the build may have been others.
    """
    index = dataset.index
    sizes = dataset.videos(["size_bytes"])["size_bytes"].to_pylist()
    return Provenance(
        config=index.config,
        fingerprints=asdict(index.fingerprints),
        models=[_model(model) for model in index.models],
        hs_data_version=index.hs_data_version,
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        machine={"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        costs=cost_table(costs),
        bytes=ByteCounts(read=sum(size or 0 for size in sizes), shards=sum(shard.bytes for shard in index.shards)),
        source_licence=source_licence(index.source),
    )


def _model(model: Table) -> ModelOrigin:
    """Add where the file comes from, if this version knows one of that name whose hash is this, or unpublished."""
    known = next((e for e in MODEL_FILES if e.name == model["name"] and e.sha256 in (None, model["sha256"])), None)
    return ModelOrigin(**model, purpose=known.purpose if known else None, origin=known.source if known else None)


def source_licence(name: str) -> str:
    """Return the terms of a source, or of several that were merged, in one line, as far as this version knows them."""
    if ", " in name:
        return "; ".join(f"{one}: {source_licence(one)}" for one in name.split(", "))
    try:
        return get_source(name).licence
    except ConfigError:
        return "unknown to this version of hs-data"


def cost_table(costs: dict[str, float]) -> list[StageCost]:
    """Return a row per phase and stage: CPU seconds, and GPU seconds where any were recorded.

    Args:
        costs: what `total_costs` gives: `phase: stage` to seconds; `footage_s` is what went through a phase, and a
            stage that ends in `gpu_s` is time on a GPU.
    """
    footage = {label.split(": ")[0]: seconds for label, seconds in costs.items() if label.endswith("footage_s")}
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for label, seconds in sorted(costs.items()):
        phase, _, stage = label.partition(": ")
        if stage == "footage_s":
            continue
        name = stage.removesuffix("gpu_s").rstrip(" _") or "all"
        found[phase, name]["gpu_s" if stage.endswith("gpu_s") else "cpu_s"] = round(seconds, 2)
    rows = [
        StageCost(
            phase=phase,
            stage=stage,
            cpu_s=spent.get("cpu_s"),
            gpu_s=spent.get("gpu_s"),
            footage_s=round(footage.get(phase, 0.0), 2),
        )
        for (phase, stage), spent in found.items()
    ]
    return sorted(rows, key=lambda row: (PHASES.index(row.phase), row.stage))
