"""What happens between two lines of the log: losses, time, memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .validation import LEVELS
from .world import World


class Watch:
    """What happens between two lines of the log."""

    def __init__(self, world: World, num_timesteps: int) -> None:
        self._world = world
        self._num_timesteps = num_timesteps
        self.floor_s = 0.0
        """Seconds that a step would take at the device's peak; 0: not known."""
        self.clear()

    def clear(self) -> None:
        """Forget what was seen, and begin to count anew."""
        self._since = time.perf_counter()
        self._waited_s = 0.0
        self._steps = 0
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as time in which data were waited for."""
        start = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - start

    def saw(self, timestep: torch.Tensor, per_sample: torch.Tensor, norm: torch.Tensor) -> None:
        """Take the timesteps [B] and losses [B] of a step, and its gradient's length."""
        self._steps += 1
        self._seen.append((timestep, per_sample, norm))

    @property
    def losses(self) -> torch.Tensor:
        """The losses of the samples since the last line."""
        return torch.cat([seen[1] for seen in self._seen])

    def values(self, batch_size: int) -> dict[str, float | None]:
        """Return the means since the last call: of this process's samples, its time and its memory."""
        seconds = time.perf_counter() - self._since
        timestep = torch.cat([seen[0] for seen in self._seen])
        losses = self.losses
        line: dict[str, Any] = {
            "loss": losses.mean().item(),
            "grad_norm": torch.stack([seen[2] for seen in self._seen]).mean().item(),
            "s_per_step": seconds / self._steps,
            "samples_per_s": self._steps * batch_size / seconds,
            "data_wait_share": self._waited_s / seconds,
        }
        if self.floor_s:
            line["mfu"] = self.floor_s / line["s_per_step"]
        level = timestep * LEVELS // self._num_timesteps
        for number in range(LEVELS):
            inside = losses[level == number]
            line[f"loss_level{number}"] = inside.mean().item() if len(inside) else None
        if self._world.device.type == "cuda":
            line["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self.clear()
        return line
