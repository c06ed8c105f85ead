"""The processes that train together: one per GPU, or several on a CPU; started by torchrun, by Ray Train, or alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ..manifests.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the others."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes: the log, checkpoints, samples."""
        return self.rank == 0

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over all processes, on each of them."""
        if self.size == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.size

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is up in any process."""
        if self.size == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return bool(raised.item())

    def gather(self, values: list[str]) -> list[str]:
        """Return the words of all processes, in the order of their ranks."""
        if self.size == 1:
            return values
        gathered: list[list[str]] = [[] for _ in range(self.size)]
        dist.all_gather_object(gathered, values)
        return [value for part in gathered for value in part]

    def from_main(self, number: int) -> int:
        """Return the main process's number, on each of them."""
        if self.size == 1:
            return number
        shared = torch.tensor(number, dtype=torch.int64, device=self.device)
        dist.broadcast(shared, src=0)
        return int(shared.item())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the process group that the launcher's environment describes, and leave it at the end.

    Args:
        device: `cpu` or `cuda`; with `cuda` each process takes the GPU of its local rank.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device: cuda is not available here; run `hs-data doctor`, or set run.device=cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device("cuda", local % torch.cuda.device_count()) if device == "cuda" else torch.device("cpu")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    own = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()  # Ray Train has joined already
    if own:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        together = dist.is_initialized()
        yield World(
            rank=dist.get_rank() if together else 0, size=dist.get_world_size() if together else 1, device=chosen
        )
    finally:
        if own:
            dist.destroy_process_group()
