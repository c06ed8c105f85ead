"""Make weight files of random numbers, in the formats in which the real ones are published.

    python tests/random_weights.py FOLDER            # the VAE and Whisper narrow, for a CPU
    python tests/random_weights.py FOLDER --full     # all networks at full size, for measuring speed

Beside them lies a `models.toml` that puts them in the place of the published files, so
`hs-data build --preset highsync --set models.dir=FOLDER` runs every network of the preset.
"""

import argparse
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from retinaface.network import RetinaFace
from safetensors.torch import save_file
from syncnet_python.SyncNetModel import S
from torch import nn
from whisper.model import ModelDimensions, Whisper

FACE = ((-2.0, -1.5), (2.0, -1.5), (0.0, 0.0), (-1.5, 2.0), (1.5, 2.0))
"""Eyes, nose and corners of the mouth, from the middle of a box, in tenths of its side."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true", help="full widths of the VAE and of Whisper")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    files = {
        "retinaface": write_retinaface(options.folder),
        "syncnet": write_syncnet(options.folder),
        "whisper-tiny": write_whisper(options.folder, width=384 if options.full else 64),
        "sd-vae-ft-mse": write_vae(options.folder, full=options.full),
        "taesd": write_taesd(options.folder),
    }
    register(options.folder, files)


def write_retinaface(folder: Path) -> Path:
    """A zip with one file of torch's older format inside, as `torch.hub` files of 2020 are."""
    layers = {"layer2": 1, "layer3": 2, "layer4": 3}
    network = RetinaFace(name="Resnet50", pretrained=False, return_layers=layers, in_channels=256, out_channels=256)
    settle(network, torch.randn(1, 3, 256, 256))
    calm_heads(network)
    path, inside = folder / "retinaface.zip", folder / "retinaface.pth"
    torch.save(network.state_dict(), inside, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inside, inside.name)
    inside.unlink()
    return path


def write_syncnet(folder: Path) -> Path:
    """torch's format from before 1.6, as the Oxford file has it."""
    network = S()
    network.train()
    with torch.no_grad():
        network.forward_lip(255 * torch.rand(4, 3, 5, 224, 224))
        network.forward_aud(10 * torch.randn(32, 1, 13, 20))
    path = folder / "syncnet_v2.model"
    torch.save(network.eval().state_dict(), path, _use_new_zipfile_serialization=False)
    return path


def write_whisper(folder: Path, *, width: int) -> Path:
    """`dims` and `model_state_dict`, encoder and decoder, as OpenAI publishes it."""
    dims = ModelDimensions(80, 1500, width, width // 64, 4, 51865, 448, width, width // 64, 4)
    path = folder / "whisper-tiny.pt"
    torch.save({"dims": vars(dims), "model_state_dict": Whisper(dims).state_dict()}, path)
    return path


def make_vae(widths: tuple[int, ...]) -> AutoencoderKL:
    """Stable Diffusion's autoencoder with these channels per level."""
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "block_out_channels": widths,
        "layers_per_block": 2,
    }
    return AutoencoderKL(**config)


def write_vae(folder: Path, *, full: bool) -> Path:
    """Safetensors with diffusers' names."""
    network = make_vae((128, 256, 512, 512) if full else (32, 32, 32, 32))
    return write_safetensors(folder / "sd-vae-ft-mse.safetensors", network.state_dict())


def write_taesd(folder: Path) -> Path:
    """Safetensors with diffusers' names."""
    return write_safetensors(folder / "taesd.safetensors", AutoencoderTiny().state_dict())


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write tensors by name."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def calm_heads(network: RetinaFace) -> None:
    """Let the heads answer with prior boxes of 512 px, a face's points in each, moved a little by the random features.

    Wild boxes would be no test of what comes after them: nothing could be tracked, cropped or kept.
    """
    with torch.no_grad():
        for heads in (network.ClassHead, network.BboxHead, network.LandmarkHead):
            for name, values in heads.named_parameters():
                values.mul_(1e-3 if name.endswith("weight") else 0)
        for level in range(3):
            # Two anchors a cell, background and face of each; 512 px is the second one of the coarsest level. So large,
            # the boxes of a picture are one face to the detector, which is quick to track.
            score = torch.tensor([[-1.0, 1.0] if level == 2 and anchor == 1 else [4.0, -4.0] for anchor in range(2)])
            network.ClassHead.get_parameter(f"{level}.conv1x1.bias").add_(score.reshape(-1))
            network.LandmarkHead.get_parameter(f"{level}.conv1x1.bias").add_(torch.tensor(FACE).reshape(-1).repeat(2))


def settle(network: nn.Module, pictures: torch.Tensor) -> None:
    """Let BatchNorm see noise once, so that numbers neither vanish nor explode on their way through."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(pictures)
    network.eval()


def register(folder: Path, files: Mapping[str, Path]) -> None:
    """Write `models.toml`."""
    tables = []
    for name, path in files.items():
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        tables.append(f'[{name}]\nfilename = "{path.name}"\nsha256 = "{sha256}"\nlicence = "random numbers"\n')
    (folder / "models.toml").write_text("\n".join(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
