"""CLIP-IQA (Wang, Chan and Loy 2023, arXiv:2207.12396) by torchmetrics, on CLIP weights of a local folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torchmetrics.multimodal import CLIPImageQualityAssessment
from transformers import CLIPModel, CLIPProcessor
from transformers.utils import logging

from ...manifests.errors import ModelError


class ClipIqa:
    """Rating of a picture: its likeness to "Good photo." against that to "Bad photo.", as CLIP sees it.

    Always float32: the answer is a softmax over 100 times a cosine, of which bfloat16 leaves two digits.

    Args:
        folder: CLIP as Hugging Face lays it out: `model.safetensors`, `config.json`, tokenizer and preprocessor.
        device: where it runs.

    Raises:
        ModelError: the folder does not hold a whole CLIP.
    """

    def __init__(self, folder: Path, *, device: torch.device) -> None:
        # The prompts are embedded here, once; torchmetrics keeps their vectors.
        metric = CLIPImageQualityAssessment(lambda: _load(folder), prompts=("quality",))  # type: ignore[arg-type]
        self._metric = metric.to(device)

    def score(self, face: np.ndarray) -> float:
        """Rate one picture [H, W, 3] uint8 RGB, 0 to 1, best 1; CLIP sees its middle square."""
        # 0-255 and not 0-1: CLIP's own processor divides by 255.
        self._metric.update(torch.from_numpy(face).permute(2, 0, 1)[None].float())
        value = float(self._metric.compute())  # type: ignore[arg-type] - one prompt, one tensor
        self._metric.reset()
        return value


class _Features(torch.nn.Module):
    """CLIP as torchmetrics 1.9 calls it: features as tensors, which transformers 5 wraps in an output."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip: Any = clip  # its own types allow a tuple that these calls never return

    def get_text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.clip.get_text_features(ids, mask).pooler_output

    def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.clip.get_image_features(pixels).pooler_output


def _load(folder: Path) -> tuple[_Features, CLIPProcessor]:
    logging.disable_progress_bar()  # workers have no terminal of their own
    try:
        loaded: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"{folder}: CLIP cannot be loaded ({str(error).splitlines()[0]}); copy it again") from error
    clip, report = loaded  # a pair, for the report was asked for
    if report["missing_keys"]:  # transformers would go on with random numbers in their place
        raise ModelError(f"{folder}: not the weights of its config.json (no {min(report['missing_keys'])}); copy again")
    return _Features(clip.eval()), processor
