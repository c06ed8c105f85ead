"""Pools of workers: the same `Worker` in child processes of our own, or in Ray actors on any number of machines."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from .messages import Done
from .units import Unit

WORKER_VARIABLES = {
    # Workers are one per core, and numerics must not depend on how many cores a machine has.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    # glibc raises this limit when large blocks are freed; then pictures and the small arrays that outlive them share a
    # heap that only grows: 2300 MB after 200 s of one file, 240 MB with the limit fixed.
    "MALLOC_MMAP_THRESHOLD_": "262144",
    # The price is that every large block is new pages, which the kernel has to clear: half of the CPU of a network.
    # Pages of 2 MB, where the kernel has them, make the VAE's encoder twice as fast (0.65 to 0.33 s a narrow frame).
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Environment of a worker, over the driver's."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """End of a unit: `done`, or `failed` with the exception's text, or neither when its worker died."""

    worker: str
    unit: Unit
    done: Done | None = None
    failed: str | None = None
    fatal: bool = False
    """Whether the failure is one that no other unit would escape: a missing model, a full disk."""


class Pool(Protocol):
    """Workers that take units and tell what became of them."""

    def idle(self) -> bool:
        """Tell whether a worker is free."""
        ...

    def submit(self, unit: Unit) -> str:
        """Give a unit to a free worker and return the worker's name."""
        ...

    def wait(self, timeout_s: float) -> list[Event]:
        """Wait for events, at most this long; a dead worker is replaced before its event is returned."""
        ...

    def kill(self, worker: str) -> None:
        """Kill a worker that is overdue; `wait` then reports it as dead."""
        ...

    def recycle(self, worker: str) -> None:
        """Replace an idle worker by a fresh process."""
        ...

    def close(self) -> None:
        """Stop all workers at once."""
        ...


def environment(base: Mapping[str, str], gpu: int | None = None) -> dict[str, str]:
    """Return a worker's environment; with `gpu` it sees that one alone, counted among those that `base` lets us see."""
    own = {**base, **WORKER_VARIABLES}
    if gpu is not None:
        visible = base.get("CUDA_VISIBLE_DEVICES", "")
        own["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    return own


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
