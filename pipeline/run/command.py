"""What the `build` command does around a build: make the request, try it out, run it, say how it went."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ...manifests import settings
from ...manifests.commits import total_costs
from ...manifests.counts import Counts
from ...manifests.dataset import open_dataset
from ...manifests.errors import ConfigError, HsDataError
from ...manifests.index import INDEX, read_index
from ...manifests.storage import digest
from ..config import Config, resolve, resolve_device
from ..models import registry
from ..report.page import make_report
from ..report.terminal import funnel_table
from . import needs
from .build import Build, BuildOutcome, BuildRequest
from .plan import list_inputs
from .progress import BuildProgress

ESTIMATE_FILES = 50


def make_request(
    *,
    source: str | None,
    output: Path | None,
    input_dir: Path | None,
    preset: str | None,
    config_file: Path | None,
    assignments: Sequence[str],
    executor: str,
    num_workers: int,
    limit: int | None,
    shard: str | None,
) -> BuildRequest:
    """Turn command-line words into a request.

    Raises:
        ConfigError: a word that cannot be used, something that is not named, or an output folder that holds something
            else.
    """
    known = needs.named_source(source, output)
    if not known.needs_input and input_dir is not None:
        raise ConfigError(f"--source {source}: makes its own videos below --output; leave --input out")
    layers: settings.Table = {
        "preset": preset or known.preset,
        "source": known.defaults,
        "file": config_file,
        "assignments": assignments,
    }
    plain = resolve(**layers, saved={})
    needs.check(known, input_dir=input_dir, output=output, preset=layers["preset"], config=plain)
    assert output is not None
    made = known.made_folder(output)
    root = input_dir or made
    assert root is not None  # or `needs.check` would have said so
    _check_output(output, input_dir, made)
    selection = saved_selection(output)
    return BuildRequest(
        source=known,
        root=root,
        dataset=output,
        preset=preset or known.preset,
        config=resolve_device(resolve(**layers, saved=selection)),
        selection=selection,
        built_select=settings.to_table(plain.select),
        executor=executor,
        num_workers=num_workers,
        limit=limit,
        shard=_parse_shard(shard),
    )


def saved_selection(dataset: Path) -> settings.Table:
    """Return the limits that `hs-data select` left in a dataset, as a settings table; raises as `read_index`."""
    return read_index(dataset).selection if (dataset / INDEX).is_file() else {}


def _check_output(output: Path, input_dir: Path | None, made: Path | None) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output}: is a file; name a folder")
    if input_dir is not None:
        _check_apart(output, input_dir)
    strange = [p.name for p in output.iterdir() if not p.name.startswith(".")] if output.is_dir() else []
    ours = {"work", "dataset.json", *([made.name] if made else [])}
    if strange and not ours & set(strange):
        raise ConfigError(f"--output {output}: holds other things ({sorted(strange)[0]}, ...); name an empty folder")
    if (output / INDEX).is_file() and read_index(output).merged:
        raise ConfigError(f"--output {output}: was merged from several datasets; build those, and merge them again")


def _check_apart(output: Path, input_dir: Path) -> None:
    """Keep what is written out of the folder that is read, and the other way round, links followed."""
    written, read = output.resolve(), input_dir.resolve()
    if written == read:
        raise ConfigError(f"--output {output}: is the input folder; name another one")
    if written.is_relative_to(read):
        raise ConfigError(f"--output {output}: lies inside the input folder {input_dir}; name a folder beside it")
    if read.is_relative_to(written):
        raise ConfigError(f"--input {input_dir}: lies inside the output folder {output}; name a folder beside it")


def _parse_shard(word: str | None) -> tuple[int, int] | None:
    if word is None:
        return None
    part, _, total = word.partition("/")
    if not (part.isdigit() and total.isdigit() and 1 <= int(part) <= int(total)):
        raise ConfigError(f"--shard {word}: write i/n with 1 <= i <= n, for example 3/16")
    return int(part), int(total)


def dry_run(request: BuildRequest) -> dict[str, object]:
    """Say what a build would do; nothing is written and nothing decoded."""
    names, models_config = request.config.model_names, request.config.models
    registry.check_licences(names, models_config)
    found = {name: registry.find(name, models_config) for name in names}
    models = {
        name: str(path or f"missing; {registry.how_to_get([name], models_config)}") for name, path in found.items()
    }
    facts: dict[str, object] = {"source": request.source.name, "input": str(request.root), "preset": request.preset}
    if request.source.needs_input:
        inputs = list_inputs(request.source, request.root, limit=request.limit, shard=request.shard)
        total = sum(item["size_bytes"] for item in inputs)
        facts |= {"files": len(inputs), "gigabytes": round(total / 1e9, 3)}
    return facts | {"output": str(request.dataset), "finished": (request.dataset / "dataset.json").is_file(), **models}


def estimate(request: BuildRequest, console: Console) -> dict[str, object]:
    """Build a sample of the files in a temporary folder and extrapolate hours, disk and yield to all of them."""
    if not request.source.needs_input:
        raise ConfigError(f"--estimate: --source {request.source.name} is small and the same every time; build it")
    inputs = list_inputs(request.source, request.root, limit=request.limit, shard=request.shard)
    sample = sorted(inputs, key=lambda item: digest("estimate", item["path"]))[:ESTIMATE_FILES]
    with tempfile.TemporaryDirectory(prefix="hs-data-estimate-") as folder:
        paths = frozenset(item["path"] for item in sample)
        trial = replace(request, dataset=Path(folder), only=paths, shard=None, limit=None)
        Build(trial, BuildProgress(console)).run()
        dataset = open_dataset(Path(folder))
        costs = total_costs(Path(folder))
    stages = {name: seconds for name, seconds in costs.items() if not name.endswith("footage_s")}
    scale = sum(i["size_bytes"] for i in inputs) / max(1, sum(i["size_bytes"] for i in sample))
    counts = dataset.index.counts
    shard_bytes = sum(shard.bytes for shard in dataset.index.shards)
    return {
        "files": len(inputs),
        "files_tried": len(sample),
        "core_hours": round(sum(stages.values()) * scale / 3600, 3),
        "core_hours_by_stage": {name: round(s * scale / 3600, 4) for name, s in stages.items()},
        "disk_gigabytes": round(shard_bytes * scale / 1e9, 3),
        "kept_hours": round(counts.encoded_frames / 25 * scale / 3600, 3),
        "kept_share_of_candidates": round(counts.kept / max(1, counts.candidates), 3),
    }


def build(request: BuildRequest, console: Console) -> dict[str, object]:
    """Build, write the report, and show the funnel.

    Returns:
        The funnel and the counts as JSON values.

    Raises:
        HsDataError: nothing was kept, or too many inputs ended in an internal error.
    """
    if request.selection:
        note = "limits saved by `hs-data select` apply; `hs-data select --reset` forgets them"
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    outcome = Build(request, BuildProgress(console)).run()
    for warning in _missing(outcome):
        console.print(f"WARNING: {warning}", highlight=False, soft_wrap=True, markup=False)
    if not outcome.finalized:
        console.print("this part is done; when all are, run the same command once without --shard", highlight=False)
        return {"units": outcome.num_units, "finalized": False}
    dataset = open_dataset(request.dataset)
    report = make_report(dataset, total_costs(request.dataset))
    console.print(funnel_table(report.stages))
    for note in (report.sync, *report.warnings):
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    counts = dataset.index.counts
    kept = f"{counts.encoded} clips, {counts.encoded_frames / 25:.1f} s"
    shown = f"dataset: {request.dataset} ({kept})\npage: {report.page}"
    console.print(shown, highlight=False, soft_wrap=True, markup=False)
    _judge(dataset.index.counts, report.stages, request.config)
    facts = {"dataset": str(request.dataset), "units": outcome.num_units, "counts": asdict(counts)}
    return facts | {
        "funnel": [stage.to_json() for stage in report.stages],
        "sync": report.sync,
        "warnings": report.warnings,
    }


def _missing(outcome: BuildOutcome) -> Iterator[str]:
    """Say which inputs are not wholly in the dataset though another run may bring them in."""
    if outcome.waiting:
        counts = Counter(outcome.waiting.values()).most_common()
        reasons = ", ".join(f"{reason} {number}" for reason, number in counts) + f"; first {min(outcome.waiting)}"
        what = f"{len(outcome.waiting)} inputs could not be read, or not wholly ({reasons})"
        yield f"{what}; the same command tries them again"
    if outcome.set_aside:
        what = (
            f"{len(outcome.set_aside)} inputs are set aside after a crash or a stall (first {min(outcome.set_aside)})"
        )
        yield f"{what}; remove their files in work/quarantine to try them again"


def _judge(counts: Counts, stages: Sequence[Any], config: Config) -> None:
    losses: Counter[str] = Counter()
    for stage in stages:
        losses.update({loss.reason: loss.number for loss in stage.losses})
        errors = sum(loss.number for loss in stage.losses if loss.reason == "internal_error")
        if errors > config.run.max_error_rate * stage.number_in:
            what = f"{errors} of {stage.number_in} {stage.unit} ended as internal_error, above run.max_error_rate"
            raise HsDataError(f"{what}; see `hs-data why` and work/quarantine, and report them")
    if counts.kept == 0:
        top = max(losses, key=lambda reason: losses[reason], default="no input")
        raise HsDataError(f"no clip was kept; the most frequent reason is {top}; see `hs-data report`")
