"""Executors: which pool of workers a word names."""

from ...manifests.processes import use_own_ray
from .gpus import share_gpus
from .local_pool import LocalPool
from .messages import WorkerSetup
from .pools import Pool, num_cores


def make_pool(executor: str, num_workers: int, setup: WorkerSetup) -> Pool:
    """Start a pool; the module that imports Ray is loaded only for `ray`.

    Args:
        executor: `ray` or `local`.
        num_workers: 0 is one per core, of this machine or of the cluster.
        setup: what workers get.

    Raises:
        ModelError: networks are to run on a GPU and do not fit.
    """
    if executor == "ray":
        own = use_own_ray()
        from .ray_pool import RayPool  # noqa: PLC0415 - Ray is imported only by who asks for it

        return RayPool(num_workers, setup, own=own)
    return LocalPool(share_gpus(setup, num_workers or num_cores()), setup)
