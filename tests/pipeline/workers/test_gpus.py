"""GPUs: how many workers share them. What needs one is marked `gpu`; the division is arithmetic."""

import pytest

from hs_data.manifests.errors import ModelError
from hs_data.pipeline.workers.gpus import divide, share_gpus
from hs_data.pipeline.workers.messages import WorkerSetup
from hs_data.pipeline.workers.pools import environment

GB = 10**9


@pytest.mark.parametrize(
    ("needed_gb", "free_gb", "asked", "workers", "per_worker"),
    [
        (6, [140], 16, 16, 0.0625),  # an H200 takes a worker for each of 16 cores
        (6, [24], 16, 3, 0.3333),  # 21.6 GB of 24 are given out
        (6, [24, 24], 16, 6, 0.3333),
        (6, [24, 12], 16, 2, 1.0),  # the smallest one decides, so that any worker fits anywhere
        (6, [140, 140], 3, 3, 0.5),  # fewer workers than fit are spread out
        (6, [140], 1, 1, 1.0),
    ],
)
def test_workers_are_as_many_as_fit(needed_gb: int, free_gb: list[int], asked: int, workers: int, per_worker: float):
    share = divide(needed_gb * GB, [free * GB for free in free_gb], asked)
    assert (share.num_workers, share.num_gpus, share.per_worker) == (workers, len(free_gb), per_worker)
    assert -(-workers // len(free_gb)) * share.per_worker <= 1


def test_a_gpu_that_is_too_small_is_told():
    with pytest.raises(ModelError, match=r"a worker needs 6\.0 GB and 5\.0 GB are free"):
        divide(6 * GB, [5 * GB], 4)


def test_on_a_cpu_nothing_is_probed():
    assert share_gpus(WorkerSetup(config={"models": {"device": "cpu"}}, root="", dataset=""), 7).num_workers == 7


@pytest.mark.parametrize(("visible", "expected"), [(None, "1"), ("", "1"), ("4,6", "6"), ("GPU-a,GPU-b", "GPU-b")])
def test_a_local_worker_sees_one_gpu_of_those_that_we_see(visible: str | None, expected: str):
    base = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert environment(base, 1)["CUDA_VISIBLE_DEVICES"] == expected
    assert environment(base).get("CUDA_VISIBLE_DEVICES") == visible
