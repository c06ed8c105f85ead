"""Whisper's encoder: its hidden states at 50 Hz for sound of any length, without the step that 30 s windows leave."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from whisper.model import AudioEncoder

from ...manifests.errors import ModelError
from ...manifests.schema import Column, Contract
from ...manifests.storage import sha256_file
from ..audio_features import NUM_MELS, spectrogram
from .weights import load_weights

WINDOW_STEPS = 3000
"""Length of the network's input: 30 s of mel at 100 Hz."""
HOP_STEPS = 2000
"""A window begins every 20 s, so that two share 10 s."""
HEAD_WIDTH = 64
"""Width of an attention head in every published size (tiny: 6 heads of 384)."""
PREFIX = "encoder."


class WhisperEncoder:
    """Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022; the audio encoder only.

    States are those that MuseTalk's copy of Whisper returns and HighSync and LatentSync condition on: the sum of the
    convolutions' output and the positional embedding, then the output of each block, before the last normalisation.

    Up to 30 s the numbers are theirs too: the mel spectrogram is made of the clip alone and filled up to 30 s with
    zeros, which is not silence (silence is about -1.5 to -0.5 on that scale, by the loudest bin of the clip); the
    attention sees those zeros, so filling with silence would give other numbers than the published models were
    trained on.

    Longer sound is encoded in windows of 30 s every 20 s, the last one filled up with zeros. Over the 10 s that two
    windows share their states change places linearly. MuseTalk sets windows of 30 s side by side: a step at each joint.

    Args:
        weights: OpenAI's checkpoint of any size with 80 mel bins (tiny, base, small, medium).
        device: where to run.
        dtype: numbers that linear layers and convolutions compute in; normalisation is always float32.

    Raises:
        ModelError: the file is not such a checkpoint.
    """

    name = "whisper"

    def __init__(self, weights: Path, *, device: torch.device, dtype: torch.dtype) -> None:
        tensors = {
            name.removeprefix(PREFIX): tensor
            for name, tensor in load_weights(weights).items()
            if name.startswith(PREFIX)
        }
        self._network = _build(tensors, weights).to(device)
        for module in self._network.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                module.to(dtype)
        self._device, self._dtype = device, dtype
        self._blocks = list(self._network.blocks)
        self._positions = self._network.get_buffer("positional_embedding")
        num_states, width = len(self._blocks) + 1, self._positions.shape[1]
        self.column = Column(dtype="<f2", shape=(2, num_states, width))
        self.contract: Contract = {
            "id": "openai-whisper",
            "revision": "1",
            "sha256": sha256_file(weights),
            "layers": num_states,
            "width": width,
            "rate_hz": 50,
            "window_s": WINDOW_STEPS / 100,
            "overlap_s": (WINDOW_STEPS - HOP_STEPS) / 100,
            "padding": "zero mel",
            "dtype": "float16",
            "precision": str(dtype).removeprefix("torch."),
        }

    def features(self, pcm: np.ndarray) -> np.ndarray:
        """Return the states of a clip, two a frame.

        Args:
            pcm: [640 * T] int16 at 16 kHz.

        Returns:
            [T, 2, L, D] float16; half-frame `2 k` is centred on the first sample of frame k.
        """
        return self.states(spectrogram(pcm)).half().cpu().numpy().reshape(-1, *self.column.shape)

    def states(self, mel: np.ndarray) -> Tensor:
        """Return the states [N / 2, L, D] float32 of a mel spectrogram [N, 80] float32 of any length."""
        starts = range(0, max(len(mel) - (WINDOW_STEPS - HOP_STEPS), 1), HOP_STEPS)
        windows = np.zeros((len(starts), WINDOW_STEPS, NUM_MELS), np.float32)
        for window, start in zip(windows, starts, strict=True):
            part = mel[start : start + WINDOW_STEPS]
            window[: len(part)] = part
        with torch.inference_mode():
            encoded = self._encode(torch.from_numpy(windows).to(self._device, self._dtype).transpose(1, 2))
            return _join(encoded)[: len(mel) // 2]

    def _encode(self, mel: Tensor) -> Tensor:
        """Return the states [B, 1500, L, D] float32 of windows [B, 80, 3000]."""
        network = self._network
        sound = functional.gelu(network.conv1(mel))
        sound = functional.gelu(network.conv2(sound)).transpose(1, 2)
        states = [(sound + self._positions).to(sound.dtype)]
        for block in self._blocks:
            states.append(block(states[-1]))
        return torch.stack(states, dim=2).float()


def _join(windows: Tensor) -> Tensor:
    """Lay the states [B, 1500, L, D] of windows over each other: the later one fades in over what two share."""
    overlap = (WINDOW_STEPS - HOP_STEPS) // 2
    share = (torch.arange(overlap, device=windows.device) + 0.5)[:, None, None] / overlap
    parts = [windows[0]]
    for window in windows[1:]:
        last = parts.pop()
        parts += [last[:-overlap], torch.lerp(last[-overlap:], window[:overlap], share), window[overlap:]]
    return torch.cat(parts)


def _build(tensors: Mapping[str, Tensor], weights: Path) -> AudioEncoder:
    try:
        num_context, width = tensors["positional_embedding"].shape
        num_mels, num_blocks = tensors["conv1.weight"].shape[1], 0
        while f"blocks.{num_blocks}.attn.query.weight" in tensors:
            num_blocks += 1
        if (num_mels, num_context) != (NUM_MELS, WINDOW_STEPS // 2):
            raise ValueError(f"{num_mels} mel bins, {num_context} half-frames; 80 and 1500 are known here")
        network = AudioEncoder(num_mels, num_context, width, width // HEAD_WIDTH, num_blocks)
        network.load_state_dict(tensors, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise ModelError(f"{weights}: not an encoder of Whisper ({reason}); fetch it again") from error
    return network.eval().requires_grad_(requires_grad=False).float()
