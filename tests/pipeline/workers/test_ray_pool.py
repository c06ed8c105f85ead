"""Ray as it is: who gets a unit where the cluster is smaller than was asked for, and who can connect to it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads sockets from /proc"),
]

SMALL_CLUSTER = """
import json, sys, time
from pathlib import Path
sys.path[:0] = {folders!r}
from hs_data.manifests import settings
from hs_data.manifests.processes import use_own_ray
from hs_data.manifests.sources import get_source
from hs_data.pipeline.config import resolve
from hs_data.pipeline.run.plan import list_inputs
from hs_data.pipeline.workers.messages import WorkerSetup
from hs_data.pipeline.workers.units import Unit

assert use_own_ray()
from hs_data.pipeline.workers import ray_pool
from test_ray_pool import listening

if __name__ == "__main__":
    root, dataset = Path(sys.argv[1]), Path(sys.argv[2])
    config = resolve(preset="embedded", source={{}}, saved={{}}, file=None, assignments=[])
    setup = WorkerSetup(config=settings.to_table(config), root=str(root), dataset=str(dataset))
    ray_pool._start_ray(1)
    units = [Unit.of("probe", "f", [item]) for item in list_inputs(get_source("folder"), root, limit=None, shard=None)]
    pool = ray_pool.RayPool(0, setup, own=True)
    told = {{"own": len(pool._actors), "busy": 0, "workers": []}}
    pool.close()
    pool = ray_pool.RayPool(2, setup, own=True)
    told["asked"] = len(pool._actors)
    until = time.monotonic() + 200
    waiting = list(units)
    while len(told["workers"]) < len(units) and time.monotonic() < until:
        while waiting and pool.idle():
            pool.submit(waiting.pop())
            told["busy"] = max(told["busy"], len(pool._running))
        told["workers"] += [event.worker for event in pool.wait(0.5) if event.done]
    told["listening"] = listening()
    pool.close()
    print(json.dumps(told))
"""


def listening() -> list[str]:
    """Return the addresses on which this process and its children listen, as `process address`."""
    from pseudo_terminal import descendants

    owner = {}
    for pid in descendants(os.getpid()):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                owner[target[8:-1]] = pid
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in owner:
                name = Path(f"/proc/{owner[fields[9]]}/comm").read_text().strip()
                found.append(f"{name} {fields[1].split(':')[0]}")
    return sorted(found)


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same in IPv6, and ::1, as the kernel writes them."""


def test_a_cluster_that_is_too_small_does_all_units_and_only_we_can_connect(demo_videos: Path, tmp_path: Path):
    root = tmp_path / "videos"
    root.mkdir()
    for name in ("talker_a.mp4", "cuts.mp4", "vfr.mp4", "sound_early_3.mp4"):
        (root / name).symlink_to(demo_videos / name)
    script = tmp_path / "script.py"
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "fixtures")]
    script.write_text(SMALL_CLUSTER.format(folders=folders))
    words = [sys.executable, str(script), str(root), str(tmp_path / "dataset")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["own"] == 1, "workers were counted by the driver's cores"
    assert (told["asked"], told["busy"]) == (2, 1), "a unit was given to a worker that has no place"
    assert len(told["workers"]) == 4
    assert len(set(told["workers"])) == 1
    assert len(told["listening"]) >= 4, told
    assert {line.split()[-1] for line in told["listening"]} <= LOOPBACK, told["listening"]
