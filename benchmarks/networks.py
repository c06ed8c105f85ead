"""What a network costs on this machine, CPU time under random weights: `python benchmarks/networks.py syncnet`."""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from syncnet_python.SyncNetModel import S

from hs_data.pipeline.distances import distances, lse
from hs_data.pipeline.models.syncnet import SyncNet


def syncnet() -> None:
    """SyncNet's lips, once through and as upstream's windows of five, and its sound; CPU ms a frame."""
    torch.manual_seed(0)
    upstream = S().eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "syncnet_v2.model"
        torch.save(upstream.state_dict(), path)
        network = SyncNet(path, device=torch.device("cpu"), dtype=torch.float32)
    rng = np.random.default_rng(0)
    for batch in (16, 32):
        crops = rng.integers(0, 256, (batch + 4, 224, 224, 3)).astype(np.uint8)
        frames = torch.from_numpy(crops[..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()
        once = best_s(lambda crops=crops: network.embed_lips(crops))
        windowed = best_s(
            lambda frames=frames, batch=batch: upstream.forward_lip(
                torch.cat([frames[:, :, first : first + 5] for first in range(batch)])
            )
        )
        print(f"lips, {batch} vectors: {1000 * once / batch:.1f} ms a frame; windows {1000 * windowed / batch:.1f}")
    pcm = rng.normal(0, 2000, 250 * 640).astype(np.int16)
    print(f"sound, 10 s: {1000 * best_s(lambda: network.embed_sound(pcm)) / 245:.1f} ms a frame")
    lips, sound = (rng.normal(0, 1, (count, 1024)).astype(np.float32) for count in (246, 245))
    print(f"distances of 10 s: {1000 * best_s(lambda: distances(lips, sound, 15)):.0f} ms, and", end=" ")
    print(f"{1000 * best_s(lambda: lse(lips, sound)):.0f} ms for LSE")


def best_s(work: Callable[[], object], tries: int = 3) -> float:
    """Return the least CPU time of a few tries, after one that does not count."""
    work()
    times = []
    for _ in range(tries):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


NETWORKS = {"syncnet": syncnet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=sorted(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker
    NETWORKS[options.network]()


if __name__ == "__main__":
    main()
