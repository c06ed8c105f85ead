"""A build in this process, with the preset `cpu`: what the tests of sources share."""

from pathlib import Path

from rich.console import Console

from hs_data.manifests.dataset import Dataset, open_dataset
from hs_data.manifests.verify import verify
from hs_data.pipeline.run import command


def build(source: str, root: Path, *assignments: str, output: str = "out") -> Dataset:
    """Build what lies in a folder into one beside it; inputs stay as they are, and what comes out is whole."""
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    beside = {path.name for path in root.parent.iterdir()}
    request = command.make_request(
        source=source,
        output=root.parent / output,
        input_dir=root,
        preset="cpu",
        config_file=None,
        assignments=assignments,
        executor="local",
        num_workers=1,
        limit=None,
        shard=None,
    )
    command.build(request, Console(quiet=True))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert {path.name for path in root.parent.iterdir()} == beside | {output}
    dataset = open_dataset(root.parent / output)
    assert list(verify(dataset)) == []
    return dataset
