"""Outages: the same command makes what could not be read for a while, and the bytes are those of an unbroken build."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest
import unbroken

from hs_data.manifests.commits import Commit, CommitLog
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.storage import sha256_file
from hs_data.manifests.verify import verify
from hs_data.pipeline.encode import clip_encoder
from hs_data.pipeline.maintain.forget import forget
from hs_data.pipeline.maintain.gc import collect
from hs_data.pipeline.run import command
from hs_data.pipeline.run.build import BuildOutcome
from hs_data.pipeline.run.ledger import Ledger
from hs_data.pipeline.workers.outcomes import is_retried
from hs_data.pipeline.workers.units import Unit

PHASES = ("probe", "score", "encode")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short videos; tests work on a copy."""
    return unbroken.draw_short(tmp_path_factory.mktemp("drawn") / "videos")


@pytest.fixture
def videos(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "videos")


@pytest.fixture(scope="module")
def whole(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of the unbroken build."""
    output = tmp_path_factory.mktemp("whole") / "dataset"
    outcome = unbroken.run(drawn, output)
    assert dict(outcome.waiting) == {}
    assert len(open_dataset(output)) == 4
    found = unbroken.contents(output)
    assert sum(name.startswith("shards/") for name in found) == 2, "two clips lie in a shard"
    return found


@contextmanager
def out_of_reach(*paths: Path, how: str = "gone") -> Iterator[None]:
    """Take files away for a while, as an unmounted disk does; then they are back as they were."""
    for path in paths:
        path.rename(path.with_name(f".{path.name}"))
        if how == "a folder":
            path.mkdir()
    try:
        yield
    finally:
        for path in paths:
            if how == "a folder":
                path.rmdir()
            path.with_name(f".{path.name}").rename(path)


def during(phase: str, *paths: Path, how: str = "gone"):
    """Return what takes files away while units of a phase are done."""

    @contextmanager
    def around(unit: Unit) -> Iterator[None]:
        if unit.phase != phase:
            yield
            return
        with out_of_reach(*paths, how=how):
            yield

    return around


CASES = [("two.mp4", phase, "gone") for phase in PHASES] + [("b.mp4", "encode", "a folder")]
MORE = [(lost, phase, "gone") for lost in ("a.mp4", "b.mp4") for phase in PHASES]
MORE += [("b.mp4", phase, "a folder") for phase in ("probe", "score")]


@pytest.mark.parametrize(
    ("lost", "phase", "how"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]
)
def test_after_an_outage_the_same_command_gives_the_bytes_of_an_unbroken_build(
    videos: Path, whole: dict[str, str], tmp_path: Path, lost: str, phase: str, how: str
):
    output = tmp_path / "dataset"
    outcome = unbroken.run(videos, output, during(phase, videos / lost, how=how))
    assert outcome.waiting == {lost: "source_changed" if how == "a folder" else "unavailable"}
    assert unbroken.contents(output) != whole
    outcome = unbroken.run(videos, output)
    assert dict(outcome.waiting) == {}
    assert unbroken.contents(output) == whole
    before = unbroken.times(output)
    unbroken.run(videos, output)
    assert unbroken.times(output) == before, "a third run does nothing"
    assert list(verify(open_dataset(output))) == []
    commits = {phase: list((output / "work" / "commits" / phase).glob("*.json")) for phase in PHASES}
    assert len(list((output / "work" / "scores").iterdir())) == len(commits["score"]), "no score file is left over"
    assert len(commits["encode"]) == 2


def test_an_outage_that_goes_on_and_wanders_ends_in_the_same_bytes(videos: Path, whole: dict[str, str], tmp_path: Path):
    """Another file and another phase each time, and once nothing at all."""
    output = tmp_path / "dataset"
    for phase, lost in (("probe", ["a.mp4", "two.mp4"]), ("score", ["a.mp4"]), ("encode", ["a.mp4"])):
        around = during(phase, *(videos / name for name in lost))
        assert set(unbroken.run(videos, output, around).waiting) == set(lost)
    unbroken.run(videos, output)
    assert unbroken.contents(output) == whole


def test_a_file_added_while_another_is_away_leaves_its_shards_alone(videos: Path, tmp_path: Path):
    """As with an unbroken build before and another one after: what came later lies in shards of its own."""
    later = tmp_path / "a_later.mp4"
    later.write_bytes((videos / "a.mp4").read_bytes() + b"another content")
    outputs = [tmp_path / "unbroken", tmp_path / "broken"]
    for output, lost in zip(outputs, ([], ["b.mp4"]), strict=True):
        unbroken.run(videos, output, during("probe", *(videos / name for name in lost)))
    shutil.copy2(later, videos)
    unbroken.run(videos, outputs[0])
    with out_of_reach(videos / "b.mp4"):
        (videos / "b.mp4").symlink_to("nowhere")  # it is still listed
        unbroken.run(videos, outputs[1])
        (videos / "b.mp4").unlink()
    assert unbroken.run(videos, outputs[1]).waiting == {}
    assert unbroken.contents(outputs[1]) == unbroken.contents(outputs[0])


# --- crashes


@pytest.mark.parametrize(("times", "at"), [(1, 0), (2, 1)])
def test_a_crash_that_does_not_come_back_changes_no_shard(
    videos: Path, whole: dict[str, str], tmp_path: Path, times: int, at: int
):
    output = tmp_path / "dataset"
    outcome = unbroken.run(videos, output, unbroken.dies("encode", times, at))
    assert not outcome.set_aside
    assert unbroken.contents(output) == whole


@pytest.mark.parametrize("phase", ["score", "encode"])
def test_what_was_set_aside_is_said_and_once_it_is_taken_out_the_bytes_are_those_of_an_unbroken_build(
    videos: Path, whole: dict[str, str], tmp_path: Path, phase: str
):
    output = tmp_path / "dataset"
    outcome = unbroken.run(videos, output, unbroken.dies(phase, 99, only="b.mp4"))
    assert outcome.set_aside == {"b.mp4"}
    before = unbroken.contents(output)
    assert before != whole
    assert unbroken.run(videos, output).set_aside == {"b.mp4"}
    assert unbroken.contents(output) == before, "it stays out"
    shutil.rmtree(output / "work" / "quarantine")
    assert not unbroken.run(videos, output).set_aside
    assert unbroken.contents(output) == whole


def test_an_error_is_tried_again_by_the_next_run(videos: Path, whole: dict[str, str], tmp_path: Path):
    """A GPU without memory raises in a worker that lives."""
    output = tmp_path / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_encoder.ClipEncoder, "finish", _fails_at("b.mp4", clip_encoder.ClipEncoder.finish))
        assert unbroken.run(videos, output).waiting == {"b.mp4": "internal_error"}
        assert unbroken.run(videos, output).waiting == {"b.mp4": "internal_error"}
    assert unbroken.run(videos, output).waiting == {}
    assert unbroken.contents(output) == whole


def _fails_at(path: str, finish: Callable[..., None]) -> Callable[..., None]:
    def fail(clip: clip_encoder.ClipEncoder, *more: object) -> None:
        if clip.item.path == path:
            raise RuntimeError("no memory left")
        finish(clip, *more)

    return fail


# --- late attempts


def test_a_late_attempt_does_not_touch_what_was_committed(videos: Path, whole: dict[str, str], tmp_path: Path):
    """It saw a failing disk, and ends after the build."""
    output, late = tmp_path / "dataset", []

    @contextmanager
    def note(unit: Unit) -> Iterator[None]:
        late.append(unit)
        yield

    unbroken.run(videos, output, note)
    before = {clip.clip_id: clip.latents().copy() for clip in open_dataset(output)}
    worker = unbroken.worker(videos, output)
    for unit in late:
        if unit.phase == "encode":
            with out_of_reach(videos / "b.mp4"), unbroken.undisturbed():
                worker.run(unit)
    dataset = open_dataset(output)
    assert all((clip.latents() == before[clip.clip_id]).all() for clip in dataset)
    assert list(verify(dataset)) == []
    unbroken.run(videos, output)
    assert {path: sha for path, sha in unbroken.contents(output).items() if path in whole} == whole
    orphans = unbroken.contents(output).keys() - whole.keys()
    assert len(orphans) == 1
    assert {waste.what for waste in collect(output, delete=True, min_age_h=0)} == {
        "last words of workers",
        "shards and scores that nothing names",
    }
    assert unbroken.contents(output) == whole


def test_a_better_late_attempt_stands_and_a_worse_one_does_not(tmp_path: Path):
    """Whatever their order, what needs no other try is what the ledger tells."""
    receipts = {name: {"a": {"outcome": name}} for name in ("unavailable", "ok", "internal_error")}
    for order in permutations(receipts):
        dataset = tmp_path / "-".join(order)
        for name in order:
            commit = Commit(phase="score", unit="u", fingerprint="f", receipts=receipts[name])
            CommitLog(dataset).add(commit, stands=lambda c: not any(map(is_retried, c.receipts.values())))
        assert Ledger(dataset, "score", "f").receipts == {"a": {"outcome": "ok"}}


@pytest.mark.parametrize("units", list(permutations(["u1", "u2", "u3"])))
def test_which_of_several_receipts_counts_does_not_depend_on_the_ids_of_units(tmp_path: Path, units: tuple[str, ...]):
    failed, ok = {"outcome": "unavailable"}, {"outcome": "ok"}
    for unit, receipts in zip(units, ({"a": failed, "b": ok, "c": failed}, {"a": ok}, {"c": failed}), strict=True):
        CommitLog(tmp_path).add(Commit(phase="score", unit=unit, fingerprint="f", receipts=receipts))
    ledger = Ledger(tmp_path, "score", "f")
    assert {item: receipt["outcome"] for item, receipt in ledger.receipts.items()} == {
        "a": "ok",
        "b": "ok",
        "c": "unavailable",
    }
    assert [commit.unit for item in "abc" if (commit := ledger.commit_of(item))] == [units[1], units[0], units[2]]


# --- a file that is replaced


def replaced(path: Path, content: bytes, *, same_looks: bool) -> None:
    """Put another content in a file's place, with the size and time of the old one where it is to look the same."""
    before, new = path.stat(), path.with_suffix(".new")
    new.write_bytes(content)
    if same_looks:
        assert new.stat().st_size == before.st_size
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(path)


@pytest.mark.parametrize("same_looks", [False, True], ids=["looks_new", "looks_the_same"])
@pytest.mark.parametrize("phase", ["score", "encode"])
def test_a_file_that_is_replaced_is_never_stored_under_the_old_content(
    videos: Path, tmp_path: Path, phase: str, same_looks: bool
):
    output, old = tmp_path / "dataset", sha256_file(videos / "b.mp4")
    pad = (videos / "a.mp4").stat().st_size - (videos / "b.mp4").stat().st_size
    (videos / "b.mp4").write_bytes((videos / "b.mp4").read_bytes() + bytes(max(0, pad)))
    old = sha256_file(videos / "b.mp4")
    content = (videos / "a.mp4").read_bytes() + bytes(max(0, -pad))
    content = content[:-1] + bytes([content[-1] ^ 1]) if pad >= 0 else content

    @contextmanager
    def around(unit: Unit) -> Iterator[None]:
        if unit.phase == phase and sha256_file(videos / "b.mp4") == old:
            replaced(videos / "b.mp4", content, same_looks=same_looks)
        yield

    assert unbroken.run(videos, output, around).waiting == {"b.mp4": "source_changed"}
    dataset = open_dataset(output)
    assert not [row for row in dataset.table(["path"]).to_pylist() if row["path"] == "b.mp4"]
    assert unbroken.run(videos, output).waiting == {}
    unbroken.run(videos, tmp_path / "fresh")
    assert unbroken.contents(output) == unbroken.contents(tmp_path / "fresh")
    dataset = open_dataset(output)
    new = hashlib.sha256(content).hexdigest()
    assert {row["video_id"] for row in dataset.table(["path", "video_id"]).to_pylist() if row["path"] == "b.mp4"} == {
        new
    }
    assert list(verify(dataset)) == []
    assert forget(output, source=new, identity=None, dry_run=True)["kept_clips"] == 1


def test_a_copy_of_the_folder_is_the_same_content(videos: Path, whole: dict[str, str], tmp_path: Path):
    """Other inodes, the same bytes: nothing is refused and nothing is probed again."""
    output = tmp_path / "dataset"
    unbroken.run(videos, output, during("encode", *(videos / name for name in unbroken.NAMES)))
    copy = shutil.copytree(videos, tmp_path / "copy")
    assert unbroken.run(copy, output).waiting == {}
    assert unbroken.contents(output) == whole


# --- what is said at the end


def test_a_build_says_how_many_inputs_another_run_may_bring_in():
    assert list(command._missing(BuildOutcome(num_units=3, finalized=True))) == []
    waiting = {"z.mp4": "unavailable", "b.mp4": "codec_missing", "c.mp4": "unavailable"}
    outcome = BuildOutcome(num_units=3, finalized=True, waiting=waiting, set_aside=frozenset({"y.mp4", "x.mp4"}))
    assert list(command._missing(outcome)) == [
        "3 inputs could not be read, or not wholly (unavailable 2, codec_missing 1; first b.mp4); "
        "the same command tries them again",
        "2 inputs are set aside after a crash or a stall (first x.mp4); "
        "remove their files in work/quarantine to try them again",
    ]
