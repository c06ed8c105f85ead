"""The settings of a build: one section per stage, laid together from defaults, preset, source, file and `--set`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from ..manifests import settings
from ..manifests.errors import ConfigError
from ..manifests.near import choice
from ..manifests.records import FRAME_RATE
from ..manifests.settings import Range, check_ranges
from ..manifests.storage import digest
from .audio_features import AudioConfig
from .crop import CropConfig
from .faces.detect import FacesConfig
from .faces.quality import QualityConfig
from .faces.tracks import TracksConfig
from .latents import LatentsConfig
from .media.decode import DecodeConfig
from .models import registry
from .models.entries import MODEL_FILES
from .models.overrides import known_name
from .models.registry import ModelsConfig
from .scenes import ScenesConfig
from .select import SelectConfig
from .sync.estimate import SyncConfig
from .sync.speech import SpeechConfig

SCORE_VERSION = 2
"""Raise it when the same settings give other scores: what was scored before is then scored again."""
ENCODE_VERSION = 2
"""Raise it when the same settings give other shards."""


MIN_HALF_S, MAX_HALF_S = 0.2, 3.0
"""Bounds of `Config.min_half_s`."""
NETWORK_S = {"cpu": 900.0, "cuda": 30.0, "auto": 900.0}
"""Seconds that networks may take for a second of footage. The SD VAE takes 8 CPU s a frame on one core, 200 s a second
of footage (docs/latents.md); on a GPU the slowest part is to be far quicker than the footage."""
CORRECTION = ("correct", "min_confidence", "dead_band_frames", "max_residual_ms")
"""Settings of `sync` that say what is done about a lead, not how it is measured."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Spread of the work, and the limit at which a run gives up."""

    unit_s: Annotated[float, Range(1, 1_000_000)] = 300.0
    """Footage of one unit of scoring at most, seconds: what is lost when a worker dies."""
    chunk_s: Annotated[float, Range(10, 1_000_000)] = 600.0
    """Longer files are scored in chunks of about this length."""
    shard_mb: Annotated[float, Range(1, 100000)] = 384.0
    """Size of a shard, MB; of a build that would have fewer than 32, a share of it, 4 or 24 MB at least."""
    max_error_rate: Annotated[float, Range(0, 1)] = 0.1
    """Share of inputs that may end as `internal_error` before the run counts as failed."""
    check_boxes: bool = True
    """Whether an annotated span is refused when its box was made for a picture of another shape; else it has no box."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a build."""

    decode: DecodeConfig = field(default_factory=DecodeConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    faces: FacesConfig = field(default_factory=FacesConfig)
    tracks: TracksConfig = field(default_factory=TracksConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    latents: LatentsConfig = field(default_factory=LatentsConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.crop.policy == "eyes" and self.faces.backend in ("haar", "annotated"):
            what = f"which faces.backend={self.faces.backend} does not give; use yunet"
            raise ValueError(f"crop.policy: `eyes` needs landmarks, {what}")
        if self.faces.stride > self.tracks.max_gap_frames + 1:
            raise ValueError(
                "faces.stride: gaps between two looks would not be seen; at most tracks.max_gap_frames + 1"
            )
        if self.min_half_s > self.tracks.max_clip_s:
            limit, least = self.tracks.max_clip_s, self.select.min_clip_s
            raise ValueError(f"tracks.max_clip_s: {limit:g} is less than select.min_clip_s, {least:g}; give more")

    @property
    def min_half_s(self) -> float:
        """Shortest part, seconds, that a clip is halved into where its face changes size.

        A part that selection would drop is not made. At most 3 s: a stricter selection asks for no other clips.
        """
        return min(max(self.select.min_clip_s, MIN_HALF_S), MAX_HALF_S)

    @property
    def model_names(self) -> list[str]:
        """Registry names of the weight files that these settings need."""
        return [*self.score_models, *self.encode_models]

    @property
    def score_models(self) -> list[str]:
        """Names of those that scores depend on."""
        return [*self.faces.model_names, *self.sync.model_names, *self.quality.model_names]

    @property
    def encode_models(self) -> list[str]:
        """Names of those that only what is stored of kept clips depends on."""
        return [*self.audio.model_names, *self.latents.model_names]

    def compute_s(self, num_frames: int) -> float:
        """Return how long networks may compute on so many frames, besides decoding, before a worker counts as stuck."""
        if not registry.uses_torch(self.model_names, self.models):
            return 0.0
        return NETWORK_S[self.models.device] * num_frames / FRAME_RATE

    def score_fingerprint(self) -> str:
        """Return the identity of the scores: equal settings and models give equal scores."""
        parts = (self.scenes, self.faces, self.tracks, self.quality, self.speech)
        tables = [settings.to_table(part) for part in parts]
        # Every crop policy is scored, no lead is corrected yet, and how long a decode may take changes nothing; which
        # pictures are too large does, where their size changes in mid-file.
        tables += [_without(self.crop, "policy"), _without(self.sync, *CORRECTION)]
        tables += [self.decode.backend, self.decode.max_pixels, self.min_half_s]
        models = registry.fingerprint(self.score_models, self.models)
        # Another version of somebody else's detector may find other faces.
        packages = [plugin.package] if (plugin := self.faces.plugin) else []
        return digest("score", SCORE_VERSION, tables, self.run.chunk_s, models, *packages)

    def encode_fingerprint(self) -> str:
        """Return the identity of the shards' bytes, given the scores."""
        parts = [settings.to_table(part) for part in (self.crop, self.audio, self.latents, self.sync)]
        models = registry.fingerprint(self.encode_models, self.models)
        return digest("encode", ENCODE_VERSION, parts, models, self.score_fingerprint())


def resolve_device(config: Config) -> Config:
    """Decide where networks run and in which numbers, here and for all workers; without networks nothing is decided.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    if not registry.uses_torch(config.model_names, config.models):
        return config
    from .models import device  # noqa: PLC0415 - seconds to import, and only networks need it

    return replace(config, models=device.resolve_device(config.models))


def _without(config: object, *names: str) -> settings.Table:
    return {name: value for name, value in settings.to_table(config).items() if name not in names}


def presets() -> dict[str, settings.Table]:
    """Return the presets that ship with the package, by name."""
    files = sorted((Path(__file__).parent / "presets").glob("*.toml"))
    return {path.stem: settings.load_toml(path) for path in files}


def resolve(
    *,
    preset: str,
    source: settings.Table,
    saved: settings.Table,
    file: Path | None,
    assignments: Sequence[str],
) -> Config:
    """Lay the layers over each other, the later winning: defaults, preset, source, file, `--set`, saved selection.

    The selection comes last because `hs-data select` was asked for after the build that is now run again.
    """
    known = presets()
    if preset not in known:
        raise ConfigError(f"--preset {preset}: no such preset; {choice(preset, known)}")
    layers = [known[preset], source, settings.load_toml(file) if file else {}]
    table = settings.merge(*layers, settings.parse_assignments(list(assignments)), saved)
    return settings.build(Config, table)


def choose_models(
    names: Sequence[str], *, preset: str | None, assignments: Sequence[str]
) -> tuple[list[str], ModelsConfig]:
    """Turn the words of `models fetch` into names of models and the settings that say where they go.

    Raises:
        ConfigError: an unknown name or preset, a setting that cannot be, or nothing asked for.
    """
    if not names and preset is None:
        known = ", ".join(entry.name for entry in MODEL_FILES)
        raise ConfigError(f"models fetch: of which models? Name some of {known}, or give --preset")
    asked = [known_name(name) for name in names]
    if preset is None:
        return asked, registry.configure(assignments)
    config = resolve(preset=preset, source={}, saved={}, file=None, assignments=assignments)
    return list(dict.fromkeys([*asked, *config.model_names])), config.models
