"""Stable Diffusion's VAE and its distilled copy TAESD, as diffusers runs them: crops to latents and back."""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor, nn

from ...manifests.errors import ModelError
from ...manifests.schema import Contract
from ...manifests.storage import sha256_file
from ..latents import SIZE, Posterior
from .weights import load_weights

CONVENTION = "1"
"""Raise it when the same weights give other latents: another range of pixels, a sample instead of the mean."""
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the attention layers before diffusers 0.15, which the published VAE files still have."""
Network = TypeVar("Network", bound=nn.Module)


class _Autoencoder:
    """Base of both networks: pixels in [-1, 1] in, one copy to the CPU per call out."""

    def __init__(self, contract: Contract, *, device: torch.device, dtype: torch.dtype, batch: int) -> None:
        self._device, self._dtype, self._batch = device, dtype, batch
        numbers = {"dtype": "float16", "channels": 4, "size": SIZE // 8, "pixels": SIZE}
        self.contract: Contract = {**contract, **numbers, "precision": str(dtype).removeprefix("torch.")}

    def _pixels(self, frames: np.ndarray) -> Tensor:
        # The range is changed in float32: bfloat16 has 8 bits for what lies between 0 and 255.
        pixels = torch.from_numpy(frames).to(self._device).permute(0, 3, 1, 2).float()
        return (pixels / 127.5 - 1).to(self._dtype, memory_format=torch.channels_last)

    def _pictures(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)

    def _run(self, arrays: np.ndarray, forward: Callable[[np.ndarray], Tensor]) -> np.ndarray:
        """Pass arrays through in batches; results are fetched once, so that the GPU never waits for a frame."""
        try:
            with torch.inference_mode():
                return torch.cat([forward(part) for part in self._split(arrays)]).cpu().numpy()
        except torch.OutOfMemoryError as error:
            hint = f"{self._batch} frames in one pass; lower latents.batch"
            raise ModelError(f"{self.contract['id']}: the GPU's memory does not hold {hint}") from error

    def _split(self, arrays: np.ndarray) -> Iterator[np.ndarray]:
        return (arrays[start : start + self._batch] for start in range(0, len(arrays), self._batch))


class KlCodec(_Autoencoder):
    """AutoencoderKL of Stable Diffusion 1.x (Rombach et al., 2022): the posterior's mean times 0.18215.

    Args:
        weights: a file of diffusers' names, old or new. The widths of the blocks are those of its tensors.
        device: where to run.
        dtype: numbers to compute in.
        batch: frames in one forward pass.

    Raises:
        ModelError: the file has other tensors than this network.
    """

    SCALING = 0.18215
    """Factor of stabilityai/sd-vae-ft-mse and every Stable Diffusion 1.x: brings latents to about unit variance."""

    def __init__(self, weights: Path, *, device: torch.device, dtype: torch.dtype, batch: int) -> None:
        tensors = modern_names(load_weights(weights))
        network = _build(lambda: AutoencoderKL(**kl_shape(tensors)), tensors, dtype, weights)
        self._network: Any = _move(network, device)  # its methods give an object or a tuple
        contract = {"id": "stabilityai/sd-vae-ft-mse", "revision": CONVENTION, "sha256": sha256_file(weights)}
        super().__init__(contract | {"scaling": self.SCALING}, device=device, dtype=dtype, batch=batch)

    def encode(self, frames: np.ndarray) -> Posterior:
        """Encode [T, 512, 512, 3] RGB, uint8 or float32 grey levels of 0-255."""
        moments = self._run(frames, self._moments)
        return Posterior(mean=moments[:, 0], logvar=moments[:, 1])

    def _moments(self, frames: np.ndarray) -> Tensor:
        posterior = self._network.encode(self._pixels(frames)).latent_dist
        return torch.stack([posterior.mean.float() * self.SCALING, posterior.logvar.float()], dim=1).half()

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode [T, 4, 64, 64] to [T, 512, 512, 3] uint8 RGB."""
        return self._run(latents, self._decode)

    def _decode(self, latents: np.ndarray) -> Tensor:
        scaled = torch.tensor(latents, device=self._device).float() / self.SCALING
        return self._pictures(self._network.decode(scaled.to(self._dtype)).sample)


class TinyCodec(_Autoencoder):
    """AutoencoderTiny (TAESD by Ollin Boer Bohan): latents as the SD VAE scales them, and no variance.

    Args:
        weights: a file of diffusers' names. The width is that of its tensors.
        device: where to run.
        dtype: numbers to compute in.
        batch: frames in one forward pass.

    Raises:
        ModelError: the file has other tensors than this network.
    """

    def __init__(self, weights: Path, *, device: torch.device, dtype: torch.dtype, batch: int) -> None:
        tensors = load_weights(weights)
        network = _build(lambda: AutoencoderTiny(**tiny_shape(tensors)), tensors, dtype, weights)
        self._network: Any = _move(network, device)  # its methods give an object or a tuple
        contract = {"id": "madebyollin/taesd", "revision": CONVENTION, "sha256": sha256_file(weights)}
        super().__init__(contract | {"scaling": 1.0}, device=device, dtype=dtype, batch=batch)

    def encode(self, frames: np.ndarray) -> Posterior:
        """Encode [T, 512, 512, 3] RGB, uint8 or float32 grey levels of 0-255."""
        return Posterior(mean=self._run(frames, lambda part: self._network.encode(self._pixels(part)).latents.half()))

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode [T, 4, 64, 64] to [T, 512, 512, 3] uint8 RGB."""
        return self._run(latents, self._decode)

    def _decode(self, latents: np.ndarray) -> Tensor:
        return self._pictures(self._network.decode(torch.tensor(latents, device=self._device).to(self._dtype)).sample)


def modern_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give attention layers the names that diffusers has had since 0.15; `from_pretrained` does the same."""
    return {_modern(name): tensor for name, tensor in tensors.items()}


def _modern(name: str) -> str:
    path = name.split(".")
    if ".attentions." in name:
        path[-2] = OLD_ATTENTION.get(path[-2], path[-2])
    return ".".join(path)


def kl_shape(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `AutoencoderKL` for SD 1.x with the widths that a file has: 128, 256, 512, 512."""
    widths = _widths(tensors, "encoder.down_blocks.{}.resnets.0.conv1.weight")
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": KlCodec.SCALING,
    }


def tiny_shape(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `AutoencoderTiny` for TAESD with the width that a file has: 64."""
    widths = (*_widths(tensors, "encoder.layers.{}.weight")[:1],) * 4
    return {"encoder_block_out_channels": widths, "decoder_block_out_channels": widths}


def _widths(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the widths of the layers 0, 1, ... of a name, as far as there are any."""
    widths: list[int] = []
    while (tensor := tensors.get(name.format(len(widths)))) is not None:
        widths.append(len(tensor))
    return tuple(widths)


def _build(make: Callable[[], Network], tensors: Mapping[str, Tensor], dtype: torch.dtype, weights: Path) -> Network:
    """Make a network of a file's tensors, every one of them and no other."""
    try:
        with torch.device("meta"):  # without this 84 M numbers are drawn at random first
            network = make()
        cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        network.load_state_dict(cast, strict=True, assign=True)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise ModelError(f"{weights}: not the weights of this network ({reason}); fetch it again") from error
    return network.eval().requires_grad_(requires_grad=False)


def _move(network: Network, device: torch.device) -> Network:
    # Channels last: 8-18 % less CPU time for the encoder; not measured on a GPU.
    return network.to(device).to(memory_format=torch.channels_last)
