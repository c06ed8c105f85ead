"""A process that loads a worker's networks, runs their largest batches, and tells the GPU memory that this took."""

import json
import sys

import torch

from ...manifests import settings
from ..config import Config
from ..networks import Networks
from .gpus import ANSWER
from .messages import WorkerSetup


def main() -> None:
    """Take a setup as JSON from the command line and print `needed_bytes` of a worker and `free_bytes` of each GPU."""
    config = settings.build(Config, WorkerSetup.from_json(sys.argv[1]).config)
    free = [torch.cuda.mem_get_info(place)[0] for place in range(torch.cuda.device_count())]
    Networks(config).exercise()
    torch.cuda.synchronize()
    # What the driver has given out: the context and the allocator's reserve count as well as tensors.
    needed = free[0] - torch.cuda.mem_get_info(0)[0]
    sys.stdout.write(f"{ANSWER}{json.dumps({'needed_bytes': needed, 'free_bytes': free})}\n")


if __name__ == "__main__":
    main()
