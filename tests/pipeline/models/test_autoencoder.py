"""The SD VAE and TAESD: diffusers' numbers on seeded random weights, narrow networks where a full one adds nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import load_file, save_file
from skimage import data
from torch import Tensor

from hs_data.manifests.errors import ModelError
from hs_data.manifests.storage import sha256_file
from hs_data.pipeline.latents import CropEncoder, LatentsConfig, hide_mouth, psnr_db
from hs_data.pipeline.models import registry
from hs_data.pipeline.models.autoencoder import KlCodec, TinyCodec, kl_shape, modern_names, tiny_shape
from hs_data.pipeline.models.registry import ModelsConfig
from hs_data.pipeline.networks import make_codec

CPU: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
SD = (128, 256, 512, 512)
NARROW = (32, 32, 32, 32)
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def _kl(widths: tuple[int, ...]) -> Any:  # diffusers' methods give an object or a tuple
    torch.manual_seed(0)
    blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 4}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 4, "block_out_channels": widths}
    network: Any = AutoencoderKL(**blocks, layers_per_block=2, latent_channels=4).eval()
    with torch.no_grad():
        network.quant_conv.weight *= 4  # latents of about unit size
    return network


def _tiny(width: int) -> Any:
    torch.manual_seed(0)
    widths = (width,) * 4
    return AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths).eval()


def _save(network: torch.nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return path


def _frames(side: int = 512) -> np.ndarray:
    picture = data.astronaut()[:side, :side]
    return np.stack([picture, picture[::-1], 255 - picture])


def _pixels(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    network = _kl(NARROW)
    return network, _save(network, tmp_path_factory.mktemp("vae") / "vae.safetensors")


@pytest.fixture(scope="module")
def codec(narrow: tuple[Any, Path]) -> KlCodec:
    return KlCodec(narrow[1], **CPU, batch=2)


# --- the numbers


def _compare_kl(network: Any, codec: KlCodec, frames: np.ndarray) -> None:
    with torch.inference_mode():
        theirs = network.encode(_pixels(frames)).latent_dist
        mean = (theirs.mean * 0.18215).half()
        decoded = network.decode(mean.float() / 0.18215).sample
    ours = codec.encode(frames)
    assert ours.logvar is not None
    for made, wanted in ((ours.mean, mean), (ours.logvar, theirs.logvar.half())):
        assert made.dtype == np.float16
        assert float(wanted.float().std()) > 0.01
        np.testing.assert_allclose(made.astype(float), wanted.numpy().astype(float), rtol=2e-3, atol=4e-4)
    pictures = codec.decode(mean.numpy())
    wanted = ((decoded + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert (pictures.dtype, pictures.shape) == (np.uint8, frames.shape)
    assert np.abs(pictures.astype(int) - wanted).max() <= 1
    assert pictures.std() > 1


def test_latents_and_pictures_are_diffusers_own(narrow: tuple[Any, Path], codec: KlCodec):
    _compare_kl(narrow[0], codec, _frames()[:1])
    _compare_kl(narrow[0], codec, _frames(128))
    assert codec.encode(_frames()[:1]).mean.shape == (1, 4, 64, 64)


def test_the_full_network_is_stable_diffusions(tmp_path: Path):
    """All channels, on a small picture: 512 px take half a minute of CPU a frame."""
    network = _kl(SD)
    tensors = network.state_dict()
    assert sum(tensor.numel() for tensor in tensors.values()) == 83_653_863, "the published VAE has 83.7 M"
    assert kl_shape(tensors)["block_out_channels"] == SD
    _compare_kl(network, KlCodec(_save(network, tmp_path / "vae.safetensors"), **CPU, batch=1), _frames(64)[:1])


def test_old_names_of_attention_are_read_as_diffusers_reads_them(narrow: tuple[Any, Path], tmp_path: Path):
    """The published sd-vae-ft-mse file is older than diffusers 0.15."""
    network, path = narrow
    tensors = load_file(path)
    old = {_old(name): tensor for name, tensor in tensors.items()}
    renamed = set(old) - set(tensors)
    assert len(renamed) == 16
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in renamed
    assert modern_names(old).keys() == modern_names(tensors).keys() == tensors.keys()
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors")
    network.save_config(tmp_path)
    theirs: Any = AutoencoderKL.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    with torch.inference_mode():
        mean = theirs.encode(_pixels(_frames(64))).latent_dist.mean * 0.18215
    ours = KlCodec(tmp_path / "diffusion_pytorch_model.safetensors", **CPU, batch=3).encode(_frames(64)).mean
    np.testing.assert_allclose(ours.astype(float), mean.numpy(), rtol=2e-3, atol=4e-4)


def _old(name: str) -> str:
    for new, old in OLD_NAMES.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


@pytest.mark.parametrize("side", [512, 64])
def test_taesd_is_diffusers_own(tmp_path: Path, side: int):
    network = _tiny(64 if side == 64 else 8)
    assert tiny_shape(network.state_dict())["encoder_block_out_channels"] == (64 if side == 64 else 8,) * 4
    codec = TinyCodec(_save(network, tmp_path / "taesd.safetensors"), **CPU, batch=2)
    with torch.inference_mode():
        latents = network.encode(_pixels(_frames(side))).latents.half()
        decoded = network.decode(latents.float()).sample
    ours = codec.encode(_frames(side))
    assert ours.logvar is None
    np.testing.assert_allclose(ours.mean.astype(float), latents.numpy().astype(float), rtol=2e-3, atol=4e-4)
    wanted = ((decoded + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(codec.decode(latents.numpy()).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_other_precisions_are_near_and_say_so(narrow: tuple[Any, Path], codec: KlCodec, dtype: torch.dtype):
    frames = _frames(64)
    coarse = KlCodec(narrow[1], device=torch.device("cpu"), dtype=dtype, batch=3)
    exact = codec.encode(frames).mean.astype(float)
    error = coarse.encode(frames).mean.astype(float) - exact
    assert 0 < np.sqrt((error**2).mean()) < 0.05 * exact.std()
    assert coarse.contract["precision"] == str(dtype).removeprefix("torch.")


# --- frames and batches


def test_frames_do_not_see_each_other(narrow: tuple[Any, Path], codec: KlCodec):
    frames = np.concatenate([_frames(128), _frames(128)[::-1]])[:5]
    together = KlCodec(narrow[1], **CPU, batch=8).encode(frames).mean
    for batch in (1, 2, 5):
        apart = KlCodec(narrow[1], **CPU, batch=batch).encode(frames).mean
        np.testing.assert_allclose(apart.astype(float), together.astype(float), rtol=2e-3, atol=4e-4)
    np.testing.assert_array_equal(codec.encode(frames).mean, codec.encode(frames).mean)


def test_grey_levels_may_be_fractions(codec: KlCodec):
    frames = _frames(64)
    np.testing.assert_array_equal(codec.encode(frames).mean, codec.encode(frames.astype(np.float32)).mean)


def test_the_masked_crop_is_encoded_with_zeros_where_the_mouth_is(narrow: tuple[Any, Path], codec: KlCodec):
    """LatentSync multiplies pixels in [-1, 1] by its mask. Latents outside the mask change too: hence a column."""
    frames = _frames()[:1]
    mask = torch.ones(64, 64)
    mask[28:60, 5:59] = 0
    hidden = _pixels(frames) * mask.repeat_interleave(8, 0).repeat_interleave(8, 1)
    with torch.inference_mode():
        mean = narrow[0].encode(hidden).latent_dist.mean * 0.18215
    masked, whole = codec.encode(hide_mouth(frames)).mean, codec.encode(frames).mean
    np.testing.assert_allclose(masked.astype(float), mean.numpy(), rtol=2e-3, atol=4e-4)
    outside = np.abs(masked.astype(float) - whole)[:, :, :20]
    assert outside.max() > 0.01 * whole.std()


# --- through the settings


@pytest.fixture
def files(narrow: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    found = {"sd-vae-ft-mse": narrow[1], "taesd": _save(_tiny(8), tmp_path / "taesd.safetensors")}
    monkeypatch.setattr(registry, "require", lambda name, config: found[name])
    return found


def test_the_settings_choose_codec_weights_and_columns(files: dict[str, Path]):
    models = ModelsConfig(device="cpu", precision="float32")
    config = LatentsConfig(backend="sd_vae", logvar=True, masked=True)
    encoder, crops = CropEncoder(config, make_codec(config, models)), _frames()[:1]
    arrays = encoder.encode(crops)
    assert list(arrays) == list(config.columns) == ["latent", "latent_logvar", "latent_masked"]
    assert {array.shape for array in arrays.values()} == {(1, 4, 64, 64)}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    codec = make_codec(config, models)
    decoded = codec.decode(arrays["latent"])
    mouth = np.s_[:, 224:480, 40:472]
    found = {"psnr_db": psnr_db(crops, decoded), "psnr_mouth_db": psnr_db(crops[mouth], decoded[mouth])}
    assert encoder.round_trip(crops, arrays["latent"]) == pytest.approx(found, abs=1e-3)
    assert isinstance(make_codec(LatentsConfig(backend="taesd"), models), TinyCodec)


def test_the_contract_says_what_a_trainer_must_agree_with(files: dict[str, Path]):
    models = ModelsConfig(device="cpu", precision="float32")
    shared = {"revision": "1", "dtype": "float16", "channels": 4, "size": 64, "pixels": 512, "precision": "float32"}
    for backend, name, own in (
        ("sd_vae", "sd-vae-ft-mse", {"id": "stabilityai/sd-vae-ft-mse", "scaling": 0.18215}),
        ("taesd", "taesd", {"id": "madebyollin/taesd", "scaling": 1.0}),
    ):
        config = LatentsConfig(backend=backend)
        contract = CropEncoder(config, make_codec(config, models)).contract
        assert contract == {**shared, **own, "sha256": sha256_file(files[name]), "mask": None}


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        (KlCodec, lambda tensors: tensors.pop("quant_conv.bias")),
        (KlCodec, lambda tensors: tensors.update(extra=torch.zeros(1))),
        (KlCodec, lambda tensors: tensors.update({"quant_conv.weight": torch.zeros(16, 16, 1, 1)})),
        (KlCodec, lambda tensors: tensors.clear()),
        (TinyCodec, lambda tensors: None),
    ],
    ids=["missing", "too_many", "another_size", "empty", "another_network"],
)
def test_other_weights_are_refused(narrow: tuple[Any, Path], tmp_path: Path, kind: Any, spoil: Any):
    tensors = load_file(narrow[1])
    spoil(tensors)
    save_file(tensors, tmp_path / "vae.safetensors")
    with pytest.raises(ModelError, match=r"vae\.safetensors: not the weights of this network .*fetch it again"):
        kind(tmp_path / "vae.safetensors", **CPU, batch=1)


def test_a_full_gpu_says_what_to_do(codec: KlCodec, monkeypatch: pytest.MonkeyPatch):
    def full(frames: np.ndarray) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(codec, "_moments", full)
    with pytest.raises(ModelError, match=r"the GPU's memory does not hold 2 frames in one pass; lower latents.batch"):
        codec.encode(_frames(64))
