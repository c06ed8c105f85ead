"""A batch: tensors with B in front, and which samples they are."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples side by side. Every tensor is [B, ...]; names and shapes are those of the recipe's `cut` and `read`."""

    first: int
    """Number k of the first sample; the others follow one by one."""
    tensors: Mapping[str, torch.Tensor]
    """Numbers of the cut as int64 or bool [B], frames as they were stored, [B, ...]."""

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def to(self, device: torch.device | str) -> "Batch":
        """Copy to a device; from pinned memory without waiting for the copy."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return Batch(first=self.first, tensors=moved)

    def replace(self, **tensors: torch.Tensor) -> "Batch":
        """Return the batch with other tensors under these names."""
        return Batch(first=self.first, tensors={**self.tensors, **tensors})

    def split(self, size: int) -> list["Batch"]:
        """Cut into batches of at most `size` samples, for accumulating gradients; views, nothing is copied."""
        return [
            Batch(first=self.first + start, tensors={n: t[start : start + size] for n, t in self.tensors.items()})
            for start in range(0, len(self), size)
        ]
