"""HighSync's network: what it computes, what it must not see, and under which names its weights travel."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hs_data.manifests.errors import ConfigError
from hs_data.trainer.recipes.highsync.config import HighSyncConfig
from hs_data.trainer.recipes.highsync.mask import lower_face
from hs_data.trainer.recipes.highsync.motion import MotionModule
from hs_data.trainer.recipes.highsync.network import TINY, HighSync
from hs_data.trainer.recipes.highsync.recipe import HighSyncStage2
from hs_data.trainer.recipes.highsync.regions import make_regions
from hs_data.trainer.recipes.highsync.unet import UNetShape
from hs_data.trainer.recipes.highsync.weights import from_published, to_published
from hs_data.trainer.weight_files import load_file_weights

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden_highsync.json"
WIDTH = 24
RECIPE = HighSyncStage2(HighSyncConfig())


def seeded(network: nn.Module) -> nn.Module:
    """Weights that depend on nothing but numpy's generator."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, values in sorted(network.named_parameters()):
            noise = rng.standard_normal(tuple(values.shape)).astype(np.float32)
            is_scale = values.ndim == 1 and name.endswith("weight")
            values.copy_(torch.from_numpy(noise) * (0.1 if is_scale else 0.05) + is_scale)
    return network


def inputs(num_samples: int = 2, num_frames: int = 3, size: int = 32) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    timestep = torch.tensor([10, 900, 400, 0][:num_samples])
    noisy, reference = draw(num_samples, num_frames, 4, size, size), draw(num_samples, 4, size, size)
    return noisy, timestep, reference, draw(num_samples, num_frames, 20, WIDTH), lower_face(size)


@pytest.fixture(scope="module")
def network() -> HighSync:
    made = HighSync(TINY, audio_width=WIDTH, motion=True)
    seeded(made)
    return made


# --- what it computes


def test_outputs_and_gradients_are_those_of_the_golden_file(network):
    """docs/training.md says how the network was compared with the published one; this holds it there."""
    network.zero_grad()
    out = network(*inputs(), torch.tensor([True, False]))
    out.square().mean().backward()
    gradients = {name: value.grad.norm().item() for name, value in network.named_parameters() if value.grad is not None}
    chosen = sorted(gradients)[::40]
    found = {
        "outputs": out.detach().flatten()[:: out.numel() // 32].tolist(),
        "gradients": {name: gradients[name] for name in chosen},
    }
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    np.testing.assert_allclose(found["outputs"], golden["outputs"], rtol=1e-4, atol=1e-5)
    assert found["gradients"] == pytest.approx(golden["gradients"], rel=1e-3)


def test_every_parameter_gets_a_gradient(network):
    network.zero_grad()
    network(*inputs()).square().mean().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_checkpointing_changes_nothing(network):
    network.zero_grad()
    network(*inputs()).square().mean().backward()
    wanted = [value.grad.clone() for value in network.parameters()]
    network.zero_grad()
    network.set_checkpointing(True)
    try:
        network(*inputs()).square().mean().backward()
    finally:
        network.set_checkpointing(False)
    assert all(torch.equal(value.grad, want) for value, want in zip(network.parameters(), wanted, strict=True))


def test_a_compiled_network_computes_the_same(network):
    """With dynamo's tracing and ATen's graphs; inductor takes minutes on a CPU."""
    compiled = torch.compile(network, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs()), network(*inputs()), rtol=0, atol=1e-6)


def test_full_size_is_the_published_one():
    with torch.device("meta"):
        full = HighSync(UNetShape(), audio_width=384, motion=True)
    recipe = HighSyncStage2(HighSyncConfig())
    trained = sum(value.numel() for name, value in full.named_parameters() if recipe.trains(name))
    millions = [round(part / 1e6) for part in (_size(full.reference), _size(full.denoiser), trained)]
    assert millions == [814, 1303, 488]


def _size(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


# --- what it must not see


def test_other_frames_upper_faces_do_not_reach_a_motion_module():
    torch.manual_seed(0)
    module = MotionModule(16, num_heads=4, num_groups=8, max_frames=8)
    nn.init.normal_(module.proj_out.weight)
    region, whole = (make_regions(mask, 1)[0] for mask in (lower_face(16), torch.ones(1, 1, 16, 16)))
    x = torch.randn(4, 16, 16, 16)
    changed = x.clone()
    changed[1:] += (1 - region.mask) * torch.randn(3, 16, 16, 16)
    with torch.no_grad():
        moved = (module(changed, region, 4)[0] - module(x, region, 4)[0]).abs().max()
        assert moved == 0
        assert (module(changed, whole, 4)[0] - module(x, whole, 4)[0]).abs().max() > 0.1
        outside = (module(x, region, 4) - x) * (1 - region.mask)
        assert outside.abs().max() == 0


def test_only_the_mouth_of_the_other_frames_changes_what_motion_adds(network):
    """The direct way is closed; spatial attention is another, and docs/training.md says so."""
    noisy, *others = inputs()
    changed = noisy.clone()
    changed[:, 1:] += lower_face(32) * 0.5
    with torch.no_grad():
        assert (network(changed, *others)[:, 0] - network(noisy, *others)[:, 0]).abs().max() > 1e-4


def test_a_dropped_reference_is_not_seen(network):
    noisy, timestep, reference, audio, mask = inputs()
    with torch.no_grad():
        for drop, differs in ((torch.tensor([True, True]), False), (torch.tensor([False, False]), True)):
            one = network(noisy, timestep, reference, audio, mask, drop)
            other = network(noisy, timestep, -reference, audio, mask, drop)
            assert ((one - other).abs().max() > 1e-3) == differs
        mixed = network(noisy, timestep, reference, audio, mask, torch.tensor([True, False]))
        seen = network(noisy, timestep, reference, audio, mask)
    torch.testing.assert_close(mixed[1], seen[1])
    assert (mixed[0] - seen[0]).abs().max() > 1e-3


def test_sound_counts(network):
    noisy, timestep, reference, audio, mask = inputs()
    with torch.no_grad():
        moved = network(noisy, timestep, reference, -audio, mask) - network(noisy, timestep, reference, audio, mask)
    assert moved.abs().max() > 1e-3


def test_coarse_grids_hold_whole_cells_only():
    regions = make_regions(lower_face(64), 4)
    for region in regions:
        torch.testing.assert_close(region.mask, lower_face(region.mask.shape[-1]))
        assert len(region.cells) == int(region.mask.sum())
    shares = [len(region.cells) / region.mask.numel() for region in regions]
    assert shares == pytest.approx([0.42, 0.41, 0.38, 0.28], abs=0.01)
    with pytest.raises(ValueError, match="mask"):
        make_regions(torch.zeros(1, 1, 16, 16), 2)
    with pytest.raises(ValueError, match="one for the whole batch"):
        make_regions(torch.ones(2, 1, 16, 16), 2)


# --- names


def test_published_names_and_back(network):
    ours = network.denoiser.state_dict()
    published = to_published(ours)
    assert any(
        "motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.1.to_q" in n for n in published
    )
    assert len(published) == len(ours) + sum(name.endswith("pos_embed.pe") for name in ours)
    back = from_published(published)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)
    parallel = from_published({f"module.{name}": value for name, value in published.items()})
    assert parallel.keys() == ours.keys()


def test_published_files_go_to_their_places(network, tmp_path):
    for part in ("reference", "denoiser"):
        torch.save(to_published(getattr(network, part).state_dict()), tmp_path / f"{part}.pth")
    fresh = HighSync(TINY, audio_width=WIDTH, motion=True)
    load_file_weights(fresh, f"reference={tmp_path / 'reference.pth'}", RECIPE)
    load_file_weights(fresh, f"denoiser={tmp_path / 'denoiser.pth'}", RECIPE)
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_a_file_of_both_fits_by_name_and_shape(network, tmp_path, caplog):
    """As Stable Diffusion's UNet: no motion modules, and audio attention has another width."""
    weights = {n: v for n, v in network.denoiser.state_dict().items() if "motion_modules" not in n}
    changed = next(name for name in weights if name.endswith("attn2.to_k.weight"))
    weights[changed] = torch.zeros(*weights[changed].shape[:1], 768)
    torch.save({"state_dict": weights}, tmp_path / "sd.ckpt")
    fresh = HighSync(TINY, audio_width=WIDTH, motion=True)
    with caplog.at_level("INFO"):
        load_file_weights(fresh, str(tmp_path / "sd.ckpt"), RECIPE)
    assert "1 have another shape" in caplog.text
    assert torch.equal(fresh.denoiser.conv_in.weight, network.denoiser.conv_in.weight)
    assert torch.equal(fresh.reference.conv_in.weight, network.denoiser.conv_in.weight)


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize("kind", ["absent", "text", "code", "other"])
def test_files_that_are_no_weights_are_refused(network, tmp_path, monkeypatch, kind: str):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    if kind == "text":
        path.write_text("no weights")
    elif kind == "code":
        torch.save({"a": Harmful()}, path)
    elif kind == "other":
        torch.save({"unknown": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match=r"--init .*w\.pth"):
        load_file_weights(network, str(path), RECIPE)
    assert not (tmp_path / "harmed").exists()
