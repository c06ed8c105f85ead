"""The leakage ablation: the same clips cut in another way, arms that differ in one thing, and what they are worth."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError, DatasetError
from hs_data.manifests.printable import printable_json
from hs_data.pipeline.report.ablation import AblationFacts, Condition, ablation_page
from hs_data.trainer import ablation as ablating
from hs_data.trainer.ablation import Ablation, run_ablation
from hs_data.trainer.audio_gap import ArmPairs, summarise_arms
from hs_data.trainer.checkpoint import find_checkpoint, read_state
from hs_data.trainer.validation import Pair

SETTINGS = ("run.device=cpu", "run.batch_size=1", "recipe.window_frames=1", "data.num_val_samples=4")
MASKED, UNMASKED = (Condition(policy="highsync", masked=masked) for masked in (True, False))


def run(ablation: Ablation, videos: Path) -> AblationFacts:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of floats depend on their number
    try:
        console = Console(quiet=True)
        return run_ablation(ablation, input_dir=videos, executor="local", num_workers=1, console=console)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def done(
    small_dataset: Path, small_videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ablation, AblationFacts]:
    """One step of every arm of two policies."""
    ablation = Ablation(
        dataset=small_dataset,
        folder=tmp_path_factory.mktemp("ablation") / "a",
        recipe="highsync-stage2",
        policies=("per_frame", "highsync"),
        seeds=(0,),
        size="tiny",
        steps=1,
        assignments=SETTINGS,
    )
    return ablation, run(ablation, small_videos)


def test_policies_differ_in_pictures_alone(done, small_dataset):
    own = open_dataset(small_dataset)
    same, other = (open_dataset(done[0].folder / "data" / policy) for policy in ("highsync", "per_frame"))
    names = ["clip_id", "num_frames", "split", "audio_shift_samples"]
    assert len(own)
    assert own.table(names) == same.table(names) == other.table(names)
    assert set(other.clips(["crop_policy"])["crop_policy"].to_pylist()) == {"per_frame"}
    for clip, recut in zip(own.kept, other.kept, strict=True):
        assert np.array_equal(clip.read("logmel"), recut.read("logmel"))
        heights = np.diff(recut.read("crop")[:, 1::2], axis=1)
        assert heights.std() > 0.5
        assert np.diff(clip.read("crop")[:, 1::2], axis=1).std() < 1e-3
        assert not np.array_equal(clip.latents(), recut.latents())
    shard = own.index.shards[0].path
    assert (same.path / shard).samefile(own.path / shard), "shards under the own policy are links"


def test_every_arm_is_trained_and_judged_on_the_same_samples(done):
    ablation, facts = done
    assert [(arm.condition.policy, arm.condition.masked) for arm in facts.arms] == [
        (policy, masked) for policy in ablation.policies for masked in (True, False)
    ]
    assert len(facts.differences) == 4
    files = sorted((ablation.folder / "runs").glob("*/*masked.json"))
    judged = [[(p["clip_id"], p["level"]) for p in json.loads(f.read_text())["pairs"]] for f in files]
    assert len(judged) == 4
    assert len(judged[0]) == 4
    assert all(found == judged[0] for found in judged)
    for policy in ablation.policies:
        for name, masked in (("masked", True), ("unmasked", False)):
            state = read_state(find_checkpoint(ablation.folder / "runs" / f"{policy}-seed0" / name))
            model, data = state.config["model"], state.config["data"]
            assert (state.step, model["masked_motion"], model["size"]) == (1, masked, "tiny")
            assert data["datasets"] == [str(ablation.folder / "data" / policy)]
    page = (ablation.folder / "ablation.html").read_text(encoding="utf-8")
    assert "highsync masked less per_frame masked" in page
    written = (ablation.folder / "ablation.json").read_text(encoding="utf-8")
    assert json.loads(written) == json.loads(printable_json(facts))


def test_what_is_done_is_not_done_again(done, small_videos, monkeypatch):
    ablation, facts = done
    launched = []
    monkeypatch.setattr(ablating, "launch", lambda setup, *_: launched.append(setup))
    (ablation.folder / "runs" / "highsync-seed0" / "masked.json").unlink()  # killed between training and judging
    assert run(ablation, small_videos) == facts
    assert launched == []
    with pytest.raises(ConfigError, match="holds an ablation with steps=1"):
        run(replace(ablation, steps=2), small_videos)


def test_what_cannot_be_compared_is_refused(done, small_videos, tmp_path):
    ablation = replace(done[0], folder=tmp_path / "b")
    with pytest.raises(ConfigError, match="name the folder that"):
        run_ablation(ablation, input_dir=None, executor="local", num_workers=1, console=Console(quiet=True))
    with pytest.raises(ConfigError, match="landmarks"):
        run(replace(ablation, policies=("eyes",)), small_videos)
    with pytest.raises(ConfigError, match="each once"):
        replace(ablation, seeds=(1, 1))


# --- the numbers


def pairs(*swapped: float) -> list[Pair]:
    """Two samples of each of two clips, the first of each at the least noise; all have a loss of 1 with their sound."""
    places = [("a", 0), ("b", 0), ("a", 3), ("b", 3)]
    return [
        Pair(clip_id=clip, level=level, own=1.0, swapped=value)
        for (clip, level), value in zip(places, swapped, strict=True)
    ]


def test_gaps_and_differences_are_paired():
    arms = [
        ArmPairs(condition=MASKED, seed=0, pairs=pairs(1.1, 1.3, 1.3, 1.5)),
        ArmPairs(condition=MASKED, seed=1, pairs=pairs(1.3, 1.5, 1.5, 1.7)),
        ArmPairs(condition=UNMASKED, seed=0, pairs=pairs(1.0, 1.2, 1.0, 1.2)),
        ArmPairs(condition=UNMASKED, seed=1, pairs=pairs(1.2, 1.4, 1.2, 1.4)),
    ]
    summaries, differences = summarise_arms(arms)
    gap = summaries[0].gap
    assert gap["all"] is not None
    assert gap["all"].mean == pytest.approx(0.4)
    assert [gap[level].mean for level in "03"] == pytest.approx([0.3, 0.5])
    assert gap["1"] is None
    assert (gap["all"].num_clips, gap["all"].num_seeds) == (2, 2)
    # Two means that are .2 apart: Student's t with one degree of freedom is 12.706, the standard error .1.
    assert gap["all"].over_clips == pytest.approx([0.4 - 1.2706, 0.4 + 1.2706], abs=1e-4)
    (difference,) = differences
    assert (difference.one.masked, difference.other.masked) == (True, False)
    # What clips and seeds have in common falls out of the difference.
    assert difference.gap["all"].mean == pytest.approx(0.2)
    assert difference.gap["all"].over_clips == pytest.approx([0.2, 0.2])
    assert difference.gap["all"].over_seeds == pytest.approx([0.2, 0.2])


def test_arms_of_other_samples_are_not_compared():
    other = [replace(pair, clip_id="c") for pair in pairs(1, 1, 1, 1)]
    arms = [
        ArmPairs(condition=MASKED, seed=0, pairs=pairs(1, 1, 1, 1)),
        ArmPairs(condition=UNMASKED, seed=0, pairs=other),
    ]
    with pytest.raises(DatasetError, match="judged on other samples"):
        summarise_arms(arms)


def test_a_page_can_hold_any_name(nasty_name):
    summaries, differences = summarise_arms([ArmPairs(condition=MASKED, seed=0, pairs=pairs(1.1, 1.2, 1.3, 1.4))])
    told = {"dataset": nasty_name, "size": "tiny", "one_stage": False, "steps": None}
    page = ablation_page(AblationFacts(settings=told, seeds=[0], arms=summaries, differences=differences))
    assert nasty_name not in page
    assert "+0.2500 ±0.6353" in page  # two clips .1 apart: 12.706 x .05
