"""Weights of a run under the names of others, and back."""

import json
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from typer.testing import CliRunner

from hs_data.cli import app
from hs_data.manifests import settings
from hs_data.manifests.errors import ConfigError
from hs_data.trainer.checkpoint import Checkpoints, State, Tensors
from hs_data.trainer.config import TrainConfig
from hs_data.trainer.publish import publish
from hs_data.trainer.recipes.highsync.config import HighSyncConfig
from hs_data.trainer.recipes.highsync.network import TINY, HighSync
from hs_data.trainer.recipes.highsync.recipe import HighSyncStage2
from hs_data.trainer.recipes.recipe import ModelConfig
from hs_data.trainer.weight_files import load_file_weights

WIDTH = 24
RECIPE = HighSyncStage2(HighSyncConfig())


def make_network(*, motion: bool) -> HighSync:
    torch.manual_seed(3)
    network = HighSync(TINY, audio_width=WIDTH, motion=motion)
    with torch.no_grad():
        for parameter in network.parameters():  # some begin as zeros, and zeros could come from anywhere
            parameter.copy_(torch.randn_like(parameter))
    return network


@pytest.fixture(params=["highsync-stage1", "highsync-stage2"])
def run(request, tmp_path):
    """Return a run with one checkpoint, and its network."""
    network = make_network(motion=request.param.endswith("2"))
    state = State(
        step=7,
        batch_size=1,
        recipe=request.param,
        config=settings.to_table(TrainConfig(model=ModelConfig(size="tiny"))),
        data="",
        contract={},
        build={},
        audio_width=WIDTH,
    )
    writer = Checkpoints(tmp_path / "run", keep_last=1, keep_every=0)
    writer.save(state, Tensors(model=network.state_dict(), average={}, optimizer={}))
    writer.close()
    return tmp_path / "run", network


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def fresh(network: HighSync) -> HighSync:
    motion = any("motion_modules" in name for name in network.state_dict())
    return HighSync(TINY, audio_width=WIDTH, motion=motion)


def test_highsyncs_files_hold_what_its_loader_asks_for_and_come_back_exactly(run, tmp_path):
    place, network = run
    done = CliRunner().invoke(app, ["weights", str(place), "--to", "highsync", "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    denoising, reference = json.loads(done.stdout)
    assert denoising.endswith("out/denoising_unet-7.safetensors")
    assert reference.endswith("out/reference_unet-7.safetensors")
    # Its reference is diffusers' UNet without the head, with the text attention of Stable Diffusion that it never runs.
    names = set(load_file(reference))
    assert not any(name.startswith(("conv_out", "conv_norm_out")) for name in names)
    assert load_file(reference)["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1] == 768
    back = fresh(network)
    load_file_weights(back, f"reference={reference}", RECIPE)
    load_file_weights(back, f"denoiser={denoising}", RECIPE)
    assert same(back, network)


def test_diffusers_loads_both_unets_and_they_come_back_exactly(run, tmp_path):
    place, network = run
    out = tmp_path / "out"
    files = publish(place, to="diffusers", output=out)
    load: Any = UNet2DConditionModel.from_pretrained  # its type does not say that more can come back
    for name, part in (("reference_unet", network.reference), ("denoising_unet", network.denoiser)):
        unet, told = load(out / name, output_loading_info=True, local_files_only=True)
        assert not told["missing_keys"]
        assert not told["unexpected_keys"]
        own = part.state_dict()
        assert name == "reference_unet" or set(unet.state_dict()) <= set(own)
        for key, tensor in unet.state_dict().items():
            assert torch.equal(tensor, own.get(key, torch.zeros_like(tensor))), key
    back = fresh(network)
    load_file_weights(back, f"reference={out / 'reference_unet' / 'diffusion_pytorch_model.safetensors'}", RECIPE)
    load_file_weights(back, f"denoiser={out / 'denoising_unet' / 'diffusion_pytorch_model.safetensors'}", RECIPE)
    motion = out / "motion_modules.safetensors"
    if motion in files:
        load_file_weights(back, f"denoiser={motion}", RECIPE)
    assert same(back, network)


def test_a_folder_that_is_there_stays_what_it_is(run, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        publish(run[0], to="highsync", output=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
