"""Recipes: HighSync's two stages against its published rules, and other models' shapes against the same interface."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

from hs_data.manifests import settings
from hs_data.manifests.errors import ConfigError, DatasetError
from hs_data.manifests.schema import FRAME_COLUMNS, Column
from hs_data.trainer.data.config import DataConfig, open_samples
from hs_data.trainer.data.loader import Loader
from hs_data.trainer.data.order import Draw
from hs_data.trainer.data.samples import Batch, Contract, Need
from hs_data.trainer.recipes.audio_windows import gather_windows, slice_frames
from hs_data.trainer.recipes.highsync.config import HighSyncConfig, Stage1Config
from hs_data.trainer.recipes.highsync.mask import lower_face
from hs_data.trainer.recipes.highsync.recipe import HighSyncStage1, HighSyncStage2
from hs_data.trainer.recipes.noise import sample_noise
from hs_data.trainer.recipes.parameters import freeze
from hs_data.trainer.recipes.recipe import Recipe
from hs_data.trainer.recipes.registry import make_recipe, own_recipes

ROOT = Path(__file__).resolve().parents[2]
_spec = util.spec_from_file_location("loader_benchmark", ROOT / "benchmarks" / "loader.py")
assert _spec is not None
assert _spec.loader is not None
made = util.module_from_spec(_spec)
_spec.loader.exec_module(made)

WHISPER = {name: FRAME_COLUMNS[name] for name in ("latent", "whisper", "pcm")}
LOGMEL = {name: FRAME_COLUMNS[name] for name in ("latent", "logmel")}


class Schedule:
    """Zero-terminal-SNR v-prediction, written out as in HighSync's `train_stage1.py` with diffusers' DDIM scheduler."""

    def __init__(self) -> None:
        alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0).sqrt()
        self.a = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
        self.s = (1 - self.a**2).sqrt()

    def _at(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, s = (table[timestep].view(-1, 1, 1, 1, 1) for table in (self.a, self.s))
        return a, s

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        a, s = self._at(timestep)
        return a * latents + s * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        a, s = self._at(timestep)
        return a * noise - s * latents

    def weights(self, timestep: torch.Tensor, min_snr_gamma: float) -> torch.Tensor:
        snr = (self.a[timestep] / self.s[timestep]) ** 2 + 1
        return snr.clamp(max=min_snr_gamma) / snr


class Recorder(torch.nn.Module):
    """Stands in for HighSync: keeps its arguments, and predicts what it is told to."""

    def __init__(self, answer: torch.Tensor | float = 0.0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))
        self.answer = answer

    def forward(self, noisy, timestep, reference, audio, mask, drop_reference):
        names = ("noisy", "timestep", "reference", "audio", "mask", "drop_reference")
        self.seen = dict(zip(names, (noisy, timestep, reference, audio, mask, drop_reference), strict=True))
        return torch.zeros_like(noisy) + self.answer * self.scale


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whisper") / "d"
    made.write_dataset(path, [20, 13, 40, 16, 12], columns=WHISPER, contract=made.CONTRACT)
    return path


@pytest.fixture(scope="module")
def logmel(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("logmel") / "d"
    made.write_dataset(path, [20, 14], columns=LOGMEL, contract={**made.CONTRACT, "audio": {"id": "logmel"}})
    return path


def stage2(**options) -> HighSyncStage2:
    return HighSyncStage2(HighSyncConfig(**options))


def samples_of(path: Path, recipe, seed: int = 1):
    return open_samples(DataConfig(datasets=(str(path),)), recipe, seed=seed)


def cuts(recipe: Recipe, num_frames: int, count: int = 2000) -> list:
    return [recipe.draw_sample(num_frames, Draw(3, k)) for k in range(count)]


# --- settings


def test_defaults_are_the_published_numbers():
    one, two = Stage1Config(), HighSyncConfig()
    assert [(c.window_frames, c.batch_size, c.learning_rate, c.warmup_steps) for c in (one, two)] == [
        (1, 16, 1e-5, 100),
        (12, 4, 1e-5, 1),
    ]
    for config in (one, two):
        assert (config.noise_offset, config.min_snr_gamma, config.drop_reference, config.drop_audio) == (
            0.05,
            5,
            0.1,
            0,
        )


def test_published_brings_the_faults_back_and_an_option_wins():
    assert (stage2().reference, stage2().context, stage2().min_frames) == ("outside_window", "clean", 13)
    published = stage2(as_published=True)
    assert (published.reference, published.context, published.min_frames) == ("any", "scaled", 12)
    assert stage2(as_published=True, context="clean").context == "clean"
    first = HighSyncStage1(Stage1Config(as_published=True))
    assert (first.reference, first.context) == ("outside_window", "scaled")


@pytest.mark.parametrize("name", own_recipes())
def test_recipes_are_made_by_name_from_a_table(name):
    recipe = make_recipe(name, {"noise_offset": 0.1, "reference": "any", "trainable": "a,b"})
    assert (recipe.name, recipe.trains("a"), recipe.trains("ab")) == (name, True, False)
    config = own_recipes()[name].config
    assert settings.build(config, settings.to_table(config())) == config()


@pytest.mark.parametrize(
    ("name", "table", "word"),
    [
        ("highsync", {}, "highsync-stage1"),
        ("highsync-stage1", {"nois_offset": 1}, "noise_offset"),
        ("highsync-stage2", {"reference": "own"}, "outside_window"),
        ("highsync-stage2", {"drop_audio": 2.0}, "2.0 is out of range; give 0 to 1"),
        ("highsync-stage2", {"window_frames": 0}, "give 1 to 1,000"),
        ("highsync-stage2", {"learning_rate": 0.0}, "0.0 is out of range"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(name, table, word):
    with pytest.raises(ConfigError, match=word):
        make_recipe(name, table)


# --- cutting


@pytest.mark.parametrize("num_frames", [13, 14, 20, 125])
def test_a_reference_outside_the_window_is_any_such_frame(num_frames):
    found = cuts(stage2(), num_frames, 4000)
    assert {cut["start"] for cut in found} == set(range(num_frames - 11))
    for cut in found:
        assert not cut["start"] <= cut["reference_frame"] < cut["start"] + 12
    assert {cut["reference_frame"] for cut in found} == set(range(num_frames)) - (
        {*range(num_frames - 12, 12)} if num_frames < 24 else set()
    )


def test_any_reference_falls_into_the_window_as_often_as_chance_has_it():
    found = cuts(stage2(reference="any"), 24)
    inside = sum(cut["start"] <= cut["reference_frame"] < cut["start"] + 12 for cut in found)
    assert abs(inside - 1000) < 4 * 500**0.5


@pytest.mark.parametrize(("num_frames", "least"), [(125, 30), (61, 30), (40, 20), (2, 1)])
def test_stage_1_takes_a_reference_thirty_frames_away_where_it_can(num_frames, least):
    found = cuts(HighSyncStage1(Stage1Config()), num_frames)
    distances = [abs(cut["reference_frame"] - cut["start"]) for cut in found]
    assert min(distances) >= least
    assert max(cut["reference_frame"] for cut in found) < num_frames
    assert {cut["start"] for cut in found} == set(range(num_frames))


def test_references_are_even():
    """For a window at the start of 22 frames, ten are left."""
    found = Counter(cut["reference_frame"] for cut in cuts(stage2(), 22, 20_000) if cut["start"] == 0)
    assert sorted(found) == list(range(12, 22))
    mean = sum(found.values()) / 10
    assert sum((count - mean) ** 2 / mean for count in found.values()) < 27.9  # 9 degrees of freedom, p = 0.001


def test_timesteps_and_drops_have_their_rates():
    found = cuts(stage2(drop_audio=0.2), 30, 5000)
    assert abs(sum(cut["drop_reference"] for cut in found) - 500) < 85
    assert abs(sum(cut["drop_audio"] for cut in found) - 1000) < 113
    times = np.array([cut["timestep"] for cut in found])
    assert (times.min(), times.max()) == (0, 999)
    assert abs(times.mean() - 499.5) < 4 * 288.7 / 5000**0.5


# --- sound


def brute(features: np.ndarray, frame: int) -> np.ndarray:
    """MuseTalk's rule, step by step: `2 i - 4 .. 2 i + 5` of 50 Hz states, held at the ends."""
    per_frame = features.shape[1]
    steps = features.reshape(-1, *features.shape[2:])
    wanted = range(per_frame * (frame - 2), per_frame * (frame + 3))
    return np.stack([steps[min(max(step, 0), len(steps) - 1)] for step in wanted]).reshape(-1, features.shape[-1])


@pytest.mark.parametrize("shape", [(2, 5, 6), (4, 8)], ids=["whisper", "logmel"])
def test_windows_are_those_of_the_rule_at_every_place(shape):
    clip = np.random.default_rng(0).normal(size=(15, *shape)).astype(np.float32)
    starts = torch.arange(15 - 12 + 1)
    slices = np.stack([slice_frames(clip, int(start), 12) for start in starts])
    windows = gather_windows(torch.from_numpy(slices), starts, torch.full((4,), 15))
    assert windows.shape == (4, 12, 50 if len(shape) == 3 else 20, shape[-1])
    for row, start in enumerate(starts.tolist()):
        for frame in range(12):
            np.testing.assert_array_equal(windows[row, frame], brute(clip, start + frame))


def test_half_frames_of_frame_10_are_16_to_25():
    clip = np.arange(60, dtype=np.float32).reshape(30, 2, 1, 1)
    window = gather_windows(torch.from_numpy(slice_frames(clip, 10, 1))[None], torch.tensor([10]), torch.tensor([30]))
    assert window.flatten().tolist() == list(range(16, 26))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_clip_shorter_than_a_window_of_sound_holds_its_ends(length):
    clip = np.random.default_rng(0).normal(size=(length, 2, 5, 3)).astype(np.float32)
    for start in range(length):
        part = torch.from_numpy(slice_frames(clip, start, 1))[None]
        window = gather_windows(part, torch.tensor([start]), torch.tensor([length]))
        np.testing.assert_array_equal(window[0, 0], brute(clip, start))


def test_whisper_gives_50_tokens_and_logmel_20(whisper, logmel):
    shapes = {}
    for path in (whisper, logmel):
        recipe = stage2()
        shapes[path] = tuple(recipe.audio(samples_of(path, recipe).batch(0, 3)).shape)
    assert shapes == {whisper: (3, 12, 50, 384), logmel: (3, 12, 20, 80)}


def test_only_what_windows_need_is_shipped(whisper):
    batch = samples_of(whisper, stage2()).batch(0, 2)
    assert {name: tuple(batch[name].shape) for name in ("latent", "reference", "whisper")} == {
        "latent": (2, 12, 4, 64, 64),
        "reference": (2, 4, 64, 64),
        "whisper": (2, 16, 2, 5, 384),
    }
    assert "pcm" not in batch


# --- noise and mask


def test_noise_belongs_to_the_sample():
    seeds = torch.tensor([5, 6, 7, 8])
    shape = torch.Size((4, 3, 4, 16, 16))
    whole = sample_noise(shape, seeds, offset=0.05, device=torch.device("cpu"))
    alone = sample_noise(torch.Size((1, *shape[1:])), seeds[2:3], offset=0.05, device=torch.device("cpu"))
    assert torch.equal(whole[2], alone[0])


def test_noise_offset_is_one_number_a_sample_and_channel():
    seeds = torch.arange(400)
    shape = torch.Size((400, 2, 4, 8, 8))
    cpu = torch.device("cpu")
    plain, shifted = (sample_noise(shape, seeds, offset=offset, device=cpu) for offset in (0.0, 0.5))
    difference = shifted - plain
    assert difference.std(dim=(1, 3, 4)).max() < 1e-6
    assert abs(float(difference.mean(dim=(1, 3, 4)).std()) - 0.5) < 0.03
    assert abs(float(plain.std()) - 1) < 0.01


def test_the_mask_is_the_published_rectangle_and_coarser_ones_its_min_pool():
    mask = lower_face(64)
    rows, columns = mask[0, 0].any(1).nonzero().flatten(), mask[0, 0].any(0).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])) == (28, 59, 5, 58)
    for size in (32, 16, 8):
        mask = -nnf.max_pool2d(-mask, 2)
        assert torch.equal(lower_face(size), mask)


# --- loss


def run(recipe: HighSyncStage2, batch: Batch, network: Recorder | None = None):
    network = network or Recorder()
    return recipe.loss(network, batch, Schedule()), network.seen


def test_a_network_that_is_right_inside_the_mask_has_no_loss(whisper):
    recipe = stage2()
    batch = samples_of(whisper, recipe).batch(0, 3)
    latents, cpu = batch["latent"].float(), torch.device("cpu")
    noise = sample_noise(latents.shape, batch["noise_seed"], offset=0.05, device=cpu)
    target = Schedule().target(latents, noise, batch["timestep"])
    loss, _ = run(recipe, batch, Recorder(target * lower_face(64) + 100 * (1 - lower_face(64))))
    assert float(loss.mean.detach()) == 0
    loss, _ = run(recipe, batch)
    inside = (target * lower_face(64)).square().mean(dim=(1, 2, 3, 4)) * Schedule().weights(batch["timestep"], 5.0)
    torch.testing.assert_close(loss.per_sample, inside)
    torch.testing.assert_close(loss.mean, inside.mean())


def test_outside_the_mask_the_network_sees_clean_latents_or_scaled_ones(whisper):
    outside = lower_face(64)[0, 0] == 0
    seen = {}
    for context in ("clean", "scaled"):
        recipe = stage2(context=context)
        batch = samples_of(whisper, recipe).batch(0, 3).replace(timestep=torch.tensor([999, 500, 0]))
        seen[context] = run(recipe, batch)[1]["noisy"]
    latents, scale = batch["latent"].float(), Schedule().a[[999, 500, 0]].view(-1, 1, 1, 1, 1)
    assert torch.equal(seen["clean"][..., outside], latents[..., outside])
    torch.testing.assert_close(seen["scaled"][..., outside], (scale * latents)[..., outside])
    assert float(seen["scaled"][0][..., outside].abs().max()) == 0  # zero terminal SNR
    assert torch.equal(seen["clean"][..., ~outside], seen["scaled"][..., ~outside])


def test_the_weight_of_a_timestep_is_its_samples_own(whisper):
    recipe, published = stage2(), stage2(as_published=True, reference="outside_window", context="clean")
    batch = samples_of(whisper, recipe).batch(0, 4)
    mine, theirs = run(recipe, batch)[0], run(published, batch)[0]
    weights = Schedule().weights(batch["timestep"], 5.0)
    squares = mine.per_sample / weights
    torch.testing.assert_close(mine.mean, (squares * weights).mean())
    torch.testing.assert_close(theirs.mean, squares.mean() * weights.mean())
    assert abs(float((mine.mean - theirs.mean).detach())) > 1e-4
    first = HighSyncStage1(Stage1Config(as_published=True))
    assert torch.equal(first._weigh(squares, weights).mean, (squares * weights).mean())


def test_what_the_network_is_given(whisper):
    recipe = stage2(drop_audio=0.5)
    batch = samples_of(whisper, recipe).batch(0, 8)
    _, seen = run(recipe, batch)
    assert {name: tuple(tensor.shape) for name, tensor in seen.items()} == {
        "noisy": (8, 12, 4, 64, 64),
        "timestep": (8,),
        "reference": (8, 4, 64, 64),
        "audio": (8, 12, 50, 384),
        "mask": (1, 1, 64, 64),
        "drop_reference": (8,),
    }
    silent = (seen["audio"] == 0).flatten(1).all(1)
    assert torch.equal(silent, batch["drop_audio"])
    assert 0 < int(silent.sum()) < 8


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_loss_and_gradient_do_not_depend_on_the_number_of_ranks(whisper, num_ranks):
    recipe = stage2()
    samples = samples_of(whisper, recipe)
    network = Recorder(0.3)
    whole = recipe.loss(network, next(Loader(samples, batch_size=8).batches(16)), Schedule())
    whole.mean.backward()
    gradient, network.scale.grad = network.scale.grad, None
    parts = []
    for rank in range(num_ranks):
        batch = next(Loader(samples, batch_size=8, rank=rank, num_ranks=num_ranks, num_workers=1).batches(16))
        parts.append(recipe.loss(network, batch, Schedule()))
        (parts[-1].mean / num_ranks).backward()
    assert torch.equal(torch.cat([part.per_sample for part in parts]), whole.per_sample)
    torch.testing.assert_close(network.scale.grad, gradient)


def test_swapped_sound_is_the_whole_sound_of_the_one_before(whisper):
    recipe = stage2()
    batch = samples_of(whisper, recipe).batch(0, 4)
    own, swapped = recipe.audio(batch), recipe.audio(recipe.swap_audio(batch))
    assert torch.equal(swapped, own.roll(1, 0))


# --- what trains


def denoiser() -> torch.nn.Module:
    """diffusers' own UNet with motion modules beside it, so that names are the real ones."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=4,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        block.motion_modules = torch.nn.ModuleList([torch.nn.ModuleDict({"norm2": torch.nn.LayerNorm(8)})])
    return unet


def test_stage_2_trains_motion_audio_attention_and_its_norm_and_nothing_else():
    network = torch.nn.Module()
    network.denoiser, network.reference = denoiser(), denoiser()
    every = [name for name, _ in network.named_parameters()]
    trained = freeze(network, stage2())
    kinds = Counter(
        "motion" if ".motion_modules." in name else name.split(".transformer_blocks.0.")[1].split(".")[0]
        for name in trained
    )
    assert kinds == {"motion": 10, "attn2": 5 * 4, "norm2": 2 * 4}
    assert all(name.startswith("denoiser.") for name in trained)
    published = freeze(network, stage2(as_published=True))
    added = set(published) - set(trained)
    assert len(added) == 2 * 8
    assert all(".resnets." in name and ".norm2." in name for name in added)
    loose = {name for name in every if name.startswith("denoiser.") and ("norm2" in name or "attn2" in name)}
    assert set(published) == loose | {name for name in trained if "motion_modules" in name}
    assert freeze(network, HighSyncStage1(Stage1Config())) == every
    assert [parameter.requires_grad for parameter in network.parameters()] == [True] * len(every)


def test_patterns_that_name_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"recipe\.trainable"):
        freeze(torch.nn.Linear(2, 2), stage2())


# --- refusals


def test_a_dataset_without_sound_features_is_refused_with_the_way_out(tmp_path):
    columns = {"latent": FRAME_COLUMNS["latent"], "pcm": FRAME_COLUMNS["pcm"]}
    made.write_dataset(tmp_path / "d", [20], columns=columns, contract=made.CONTRACT)
    with pytest.raises(DatasetError, match=r"needs whisper or logmel; build .*--set audio\.backend=whisper"):
        samples_of(tmp_path / "d", stage2())


def test_datasets_with_other_sound_features_do_not_mix(whisper, logmel):
    with pytest.raises(DatasetError, match="audio is"):
        open_samples(DataConfig(datasets=(f"{whisper}=1", f"{logmel}=1")), stage2(), seed=0)


# --- other models, in small, against the same interface

MASKED = {"latent_masked": Column(dtype="<f2", shape=(4, 64, 64)), "avhubert": Column(dtype="<f2", shape=(1024,))}


class LatentSyncLike:
    """LatentSync: 13 channels of noisy, mask, masked and reference window, and PCM for a SyncNet loss."""

    name = "latentsync-like"
    needs: Sequence[Need] = (
        Need(any_of=("latent",), build="latents.backend=sd_vae"),
        Need(any_of=("latent_masked",), build="latents.masked=true"),
        Need(any_of=("whisper",), build="audio.backend=whisper"),
        Need(any_of=("pcm",), build="audio.pcm=true"),
    )
    min_frames = 32
    batch_size, learning_rate, warmup_steps = 2, 1e-5, 1

    def __init__(self) -> None:
        self.latent: Contract = {"channels": 4, "size": 64}

    def draw_sample(self, num_frames: int, draw: Draw) -> dict[str, int]:
        first = draw.below(num_frames - 31)
        second = first + 16 + draw.below(num_frames - 31 - first)
        start, reference = (first, second) if draw.chance(0.5) else (second, first)
        return {
            "start": start,
            "reference_start": reference,
            "num_frames": num_frames,
            "timestep": draw.below(1000),
            "noise_seed": draw.word() >> 1,
        }

    def read(self, clip, cut) -> dict[str, np.ndarray]:
        start, other = cut["start"], cut["reference_start"]
        return {
            "latent": clip["latent"][start : start + 16],
            "masked": clip["latent_masked"][start : start + 16],
            "reference": clip["latent"][other : other + 16],
            "whisper": slice_frames(clip["whisper"], start, 16),
            "pcm": clip["pcm"][start : start + 16],
        }

    def loss(self, network, batch: Batch, schedule):
        raise NotImplementedError

    def inputs(self, batch: Batch, schedule: Schedule) -> torch.Tensor:
        latents = batch["latent"].float()
        noise = sample_noise(latents.shape, batch["noise_seed"], offset=0.0, device=latents.device)
        mask = lower_face(64).expand(*latents.shape[:2], 1, 64, 64)
        noisy = schedule.add_noise(latents, noise, batch["timestep"])
        return torch.cat([noisy, mask, batch["masked"], batch["reference"]], 2)

    def trains(self, parameter: str) -> bool:
        return True


class SyncDiffLike:
    """SyncDiff: one masked frame, a random identity frame and the frame before, with AV-HuBERT features."""

    name = "syncdiff-like"
    needs: Sequence[Need] = (
        Need(any_of=("latent",), build="latents.backend=sd_vae"),
        Need(any_of=("latent_masked",), build="latents.masked=true"),
        Need(any_of=("avhubert",), build="audio.avhubert=true"),
    )
    min_frames = 2
    batch_size, learning_rate, warmup_steps = 8, 1e-5, 1

    def __init__(self) -> None:
        self.latent: Contract = {"channels": 4, "size": 64}

    def draw_sample(self, num_frames: int, draw: Draw) -> dict[str, int]:
        return {"frame": 1 + draw.below(num_frames - 1), "identity": draw.below(num_frames)}

    def read(self, clip, cut) -> dict[str, np.ndarray]:
        frame = cut["frame"]
        return {
            "pair": clip["latent"][frame - 1 : frame + 1],
            "identity_latent": clip["latent"][cut["identity"]],
            "masked": clip["latent_masked"][frame],
            "avhubert": clip["avhubert"][frame],
        }

    def loss(self, network, batch: Batch, schedule):
        raise NotImplementedError

    def trains(self, parameter: str) -> bool:
        return True


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "d"
    made.write_dataset(path, [40, 33, 50, 20], columns={**WHISPER, **MASKED}, contract=made.CONTRACT)
    return path


def test_latentsync_fits_the_interface(wide):
    recipe: Recipe = LatentSyncLike()
    samples = samples_of(wide, recipe)
    assert samples.num_clips == 3
    for k in range(300):
        cut, views = samples.views(k)
        assert abs(cut["reference_start"] - cut["start"]) >= 16
        assert views["reference"].shape == (16, 4, 64, 64)
    batch = next(Loader(samples, batch_size=2, num_workers=1).batches())
    assert LatentSyncLike().inputs(batch, Schedule()).shape == (2, 16, 13, 64, 64)
    assert (batch["pcm"].dtype, tuple(batch["pcm"].shape)) == (torch.int16, (2, 16, 640))


def test_syncdiff_fits_the_interface(wide):
    recipe: Recipe = SyncDiffLike()
    batch = next(Loader(samples_of(wide, recipe), batch_size=8, num_ranks=2, rank=1).batches(8))
    assert (batch.first, tuple(batch["pair"].shape), tuple(batch["avhubert"].shape)) == (
        12,
        (4, 2, 4, 64, 64),
        (4, 1024),
    )
    assert int(batch["frame"].min()) >= 1


@pytest.mark.parametrize("recipe", [LatentSyncLike(), SyncDiffLike()], ids=lambda recipe: recipe.name)
def test_they_are_refused_without_masked_latents(whisper, recipe):
    recipe.min_frames = 2
    with pytest.raises(DatasetError, match=r"hs-data build .*--set latents\.masked=true"):
        samples_of(whisper, recipe)


def test_an_option_changes_only_what_it_says(whisper):
    left, right = (
        samples_of(whisper, HighSyncStage2(replace(HighSyncConfig(), drop_audio=share))).batch(0, 6)
        for share in (0.0, 1.0)
    )
    for name in ("start", "reference_frame", "timestep", "noise_seed", "latent"):
        assert torch.equal(left[name], right[name])
    assert bool(right["drop_audio"].all())
