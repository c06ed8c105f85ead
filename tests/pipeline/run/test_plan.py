"""The plan: which files there are, how long ones are cut, and the same units again after a stop."""

import errno
import itertools
import json
import os
import random
import shutil
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from hs_data.manifests.errors import ConfigError, SourceError
from hs_data.manifests.records import Video, pack, unpack
from hs_data.manifests.sources import get_source, sources
from hs_data.pipeline.config import Config, RunConfig
from hs_data.pipeline.encode.items import encode_id
from hs_data.pipeline.media.decode import DecodeConfig
from hs_data.pipeline.run.plan import PlanFile, chunks, list_inputs, score_items
from hs_data.pipeline.workers.units import Item, Unit, group

FOLDER = get_source("folder")
ODD_NAMES = ["a b.mp4", "é'\".mp4", "$x.mp4", "-y.mp4", "名.mp4", "%20.mp4", "a\nb.mp4", "UPPER.MP4", "two.dots.mp4"]


def _touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def _listed(root: Path, **options) -> list[str]:
    return [item["path"] for item in list_inputs(FOLDER, root, **{"limit": None, "shard": None, **options})]


def _video(num_frames: int, keyframes_s: list[Fraction] | None = None) -> Video:
    return Video(
        container="mp4",
        video_codec="h264",
        width=640,
        height=360,
        rotation_deg=0,
        fps=25.0,
        is_vfr=False,
        num_packets=num_frames,
        num_frames=num_frames,
        start_s=Fraction(1, 3),
        duration_s=Fraction(num_frames, 25),
        keyframes_s=tuple(keyframes_s or [Fraction(0)]),
        audio_codec="aac",
        audio_start_s=Fraction(-1, 48000),
        audio_duration_s=Fraction(num_frames, 25),
        sample_rate_hz=48000,
        num_channels=2,
        num_audio_streams=1,
    )


# --- listing


def test_media_files_are_listed_by_path_and_nothing_else(tmp_path: Path):
    _touch(tmp_path, "b.mp4", "a/z.mkv", "a/b/c.webm", "sound.wav", "notes.txt", "noext", "a.mp4.part", "x.json")
    assert _listed(tmp_path) == ["a/b/c.webm", "a/z.mkv", "b.mp4", "sound.wav"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_names_are_listed_as_they_are(tmp_path: Path, name: str):
    _touch(tmp_path, name, f"dir {name}/{name}")
    listed = _listed(tmp_path)
    assert sorted(listed) == sorted([name, f"dir {name}/{name}"])
    assert all((tmp_path / path).is_file() for path in listed)


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path):
    _touch(tmp_path, "a.mp4", ".b.mp4", "._a.mp4", ".cache/c.mp4", "d/.e/f.mp4", "d/g.mp4")
    assert _listed(tmp_path) == ["a.mp4", "d/g.mp4"]


def test_a_loop_of_links_ends_and_gives_each_folder_once(tmp_path: Path):
    _touch(tmp_path, "a/one.mp4", "b/two.mp4")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to(tmp_path / "b")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    listed = _listed(tmp_path)
    assert listed == ["a/one.mp4", "b/two.mp4", "dangling.mp4"]


def test_linked_folders_are_followed(tmp_path: Path):
    _touch(tmp_path / "elsewhere", "one.mp4")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    assert _listed(tmp_path / "in") == ["link/one.mp4"]


def test_a_folder_that_cannot_be_listed_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As root nothing is forbidden, so the refusal is made up."""
    _touch(tmp_path, "a.mp4", "locked/b.mp4")
    scandir = os.scandir

    def refuse(path: str):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"locked: cannot be listed \(Permission denied\)"):
        _listed(tmp_path)


def test_a_name_that_is_not_utf_8_is_spelled_out(tmp_path: Path):
    _touch(tmp_path, "a.mp4")
    for name in (b"caf\xe9.mp4", b"\xff\xfe.mkv"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    items = list_inputs(FOLDER, tmp_path, limit=None, shard=None)
    assert [item["path"] for item in items] == ["\\xff\\xfe.mkv", "a.mp4", "caf\\xe9.mp4"]
    assert [item["size_bytes"] for item in items] == [0, 5, 0], "the probe finds no such file and says so"
    assert json.dumps(items, ensure_ascii=False).encode()


@pytest.mark.parametrize("marker", ["dataset.json", "work/plan/probe.json"], ids=["finished", "under_way"])
def test_a_dataset_of_ours_inside_the_input_is_no_input(tmp_path: Path, marker: str):
    _touch(tmp_path, "a.mp4", f"out/{marker}", "out/b.mp4", "out/report/c.mp4", "other/d.mp4")
    assert _listed(tmp_path) == ["a.mp4", "other/d.mp4"]


def test_the_order_does_not_depend_on_the_order_of_the_disk(tmp_path: Path):
    names = [f"{n:03}/{n}.mp4" for n in range(30)]
    for root, order in ((tmp_path / "a", names), (tmp_path / "b", names[::-1])):
        _touch(root, *order)
    assert _listed(tmp_path / "a") == _listed(tmp_path / "b") == names


@pytest.mark.parametrize(("make", "words"), [(False, "no such folder"), (True, "no media files")])
def test_a_source_without_files_is_refused_with_its_layout(tmp_path: Path, make: bool, words: str):
    root = tmp_path / "in"
    if make:
        _touch(root, "notes.txt")
    with pytest.raises(SourceError, match=words) as caught:
        _listed(root)
    assert str(root) in str(caught.value)
    assert FOLDER.layout.strip() in str(caught.value)


def test_an_item_changes_its_id_with_its_content_on_disk_only(tmp_path: Path):
    _touch(tmp_path, "a.mp4", "b.mp4")
    first = list_inputs(FOLDER, tmp_path, limit=None, shard=None)
    again = list_inputs(FOLDER, tmp_path, limit=None, shard=None)
    assert first == again
    (tmp_path / "a.mp4").write_bytes(b"longer than before")
    changed = list_inputs(FOLDER, tmp_path, limit=None, shard=None)
    assert changed[0]["id"] != first[0]["id"]
    assert changed[1] == first[1]
    assert len({item["id"] for item in first}) == 2


def test_a_file_that_is_gone_is_still_an_item(tmp_path: Path):
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    [item] = list_inputs(FOLDER, tmp_path, limit=None, shard=None)
    assert (item["path"], item["size_bytes"]) == ("gone.mp4", 0)


def test_sources_are_known_by_name():
    assert {"folder", "demo"} <= set(sources())
    with pytest.raises(ConfigError, match="demo, folder"):
        get_source("vfhqq")


# --- shards and limits


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5, 8, 50])
def test_the_parts_of_a_job_array_share_the_inputs_out(tmp_path: Path, num_parts: int):
    names = [f"{n:03}.mp4" for n in range(40)]
    _touch(tmp_path, *names)
    parts = [_listed(tmp_path, shard=(part, num_parts)) for part in range(1, num_parts + 1)]
    assert sorted(itertools.chain.from_iterable(parts)) == names
    if num_parts <= 5:
        assert all(parts), "a part got nothing"


def test_a_part_is_the_same_on_every_machine(tmp_path: Path):
    """Written down once: machines of one job array may run different versions of Python."""
    _touch(tmp_path, *[f"{n:03}.mp4" for n in range(12)])
    parts = [[int(path[:3]) for path in _listed(tmp_path, shard=(part, 3))] for part in (1, 2, 3)]
    assert parts == [[5, 10], [0, 1, 2, 7, 8, 9, 11], [3, 4, 6]]


def test_a_file_stays_in_its_part_when_others_come_or_change(tmp_path: Path):
    _touch(tmp_path, *[f"{n:03}.mp4" for n in range(20)])
    before = [_listed(tmp_path, shard=(part, 3)) for part in (1, 2, 3)]
    _touch(tmp_path, *[f"new-{n:03}.mp4" for n in range(20)])
    (tmp_path / "000.mp4").write_bytes(b"another size")
    after = [_listed(tmp_path, shard=(part, 3)) for part in (1, 2, 3)]
    for old, new in zip(before, after, strict=True):
        assert [name for name in new if not name.startswith("new-")] == old


@pytest.mark.parametrize("limit", [1, 7, 40, 99])
def test_a_limit_takes_the_first_files(tmp_path: Path, limit: int):
    names = [f"{n:03}.mp4" for n in range(40)]
    _touch(tmp_path, *names)
    assert _listed(tmp_path, limit=limit) == names[:limit]


# --- chunks


def test_a_short_video_is_one_chunk():
    assert list(chunks(_video(250), 600.0)) == [(0, 250)]


@pytest.mark.parametrize("seed", range(20))
def test_chunks_cover_the_video_once_and_begin_at_key_frames(seed: int):
    dice = random.Random(seed)
    num_frames = dice.randint(100, 100_000)
    end_s = Fraction(num_frames, 25)
    times = sorted({Fraction(dice.randint(0, int(end_s * 90_000) - 1), 90_000) for _ in range(dice.randint(0, 200))})
    video = _video(num_frames, [Fraction(0), *times])
    chunk_s = dice.choice([1.0, 10.0, 60.0, 600.0])
    found = list(chunks(video, chunk_s))
    assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == num_frames
    assert all(start < end for start, end in found)
    assert all((end - start) / 25 >= chunk_s for start, end in found[:-1])
    assert len(found) == 1 or (found[-1][1] - found[-1][0]) / 25 >= chunk_s / 2
    for start, _ in found[1:]:
        # The middle of the frame's slot shows the key frame's picture or a later one, and the frame before does not.
        assert any(
            Fraction(start, 25) + Fraction(1, 50) >= time > Fraction(start, 25) - Fraction(1, 50) for time in times
        )


def test_chunks_are_as_long_as_asked_where_key_frames_allow():
    video = _video(25 * 100, [Fraction(n) for n in range(0, 100, 2)])
    assert list(chunks(video, 30.0)) == [(0, 750), (750, 1500), (1500, 2500)], "the last would be 10 s, below half"
    assert list(chunks(video, 25.0)) == [(0, 650), (650, 1300), (1300, 1950), (1950, 2500)]


# --- stretches to score

SAYS_NOTHING = {"identity": None, "youtube_id": None, "official_split": None}


def _input(name: str, **values) -> Item:
    facts = {"size_bytes": 10, "changed_ns": 20}
    return {"id": f"i-{name}", "path": f"{name}.mp4", "source": "folder", **facts, **SAYS_NOTHING, **values}


def _probed(video_id: str, num_frames: int = 250, **values) -> dict[str, Any]:
    return {"outcome": "ok", "video_id": video_id, "video": pack(_video(num_frames)), "facts": [1, 1, 1], **values}


def test_each_content_is_scored_once_and_refused_files_not_at_all():
    inputs = [_input("a"), _input("b", identity="Ann"), _input("copy"), _input("bad")]
    probed = {
        "i-a": _probed("v1"),
        "i-b": _probed("v2", 100),
        "i-copy": _probed("v1"),
        "i-bad": {"outcome": "not_media", "detail": "no"},
    }
    items = score_items(inputs, probed, Config())
    assert [(i["id"], i["path"], i["identity"], i["start_frame"], i["end_frame"], i["seconds"]) for i in items] == [
        ("v1-0", "a.mp4", None, 0, 250, 10.0),
        ("v2-0", "b.mp4", "Ann", 0, 100, 4.0),
    ]


@pytest.mark.parametrize(
    ("decode", "timeouts_s"),
    [(DecodeConfig(), [100.0, 40.0]), (DecodeConfig(min_timeout_s=50.0, timeout_factor=8.0), [80.0, 50.0])],
)
def test_a_stretch_says_how_long_its_decoding_may_take(decode: DecodeConfig, timeouts_s: list[float]):
    probed = {"i-a": _probed("v1", 250), "i-b": _probed("v2", 100)}
    items = score_items([_input("a"), _input("b")], probed, Config(decode=decode))
    assert [item["timeout_s"] for item in items] == timeouts_s


def test_a_long_file_is_scored_in_chunks():
    video = pack(_video(25 * 100, [Fraction(n) for n in range(0, 100, 2)]))
    probed = {"i-a": {"outcome": "ok", "video_id": "v1", "video": video, "facts": [1, 1, 1]}}
    items = score_items([_input("a")], probed, Config(run=RunConfig(chunk_s=30.0)))
    assert [(item["id"], item["seconds"], item["timeout_s"]) for item in items] == [
        ("v1-0", 30.0, 300.0),
        ("v1-750", 30.0, 300.0),
        ("v1-1500", 40.0, 400.0),
    ]


@pytest.mark.parametrize(("size_bytes", "timeout_s"), [(0, 30.0), (150_000_000, 30.0), (1_000_000_000, 200.0)])
def test_a_probe_may_take_as_long_as_its_file_is_large(tmp_path: Path, size_bytes: int, timeout_s: float):
    with (tmp_path / "a.mp4").open("wb") as file:
        file.truncate(size_bytes)
    [item] = list_inputs(FOLDER, tmp_path, limit=None, shard=None)
    assert (item["size_bytes"], item["timeout_s"]) == (size_bytes, timeout_s)


def test_a_probe_survives_being_written_down():
    video = _video(250, [Fraction(0), Fraction(1001, 30000)])
    assert unpack(pack(video)) == video


# --- grouping


def _items(*seconds: float, prefix: str = "i") -> list[Item]:
    return [{"id": f"{prefix}{n}", "path": f"{n}.mp4", "seconds": s, "timeout_s": 30.0} for n, s in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "most", "sizes"),
    [
        ([], 10, []),
        ([3, 3, 3], 10, [3]),
        ([5, 5, 5], 10, [2, 1]),
        ([6, 6, 6], 10, [1, 1, 1]),
        ([100, 1, 1], 10, [1, 2]),
        ([1, 100, 1], 10, [1, 1, 1]),
        ([0, 0, 0, 0], 10, [4]),
        ([1] * 100, 32, [32, 32, 32, 4]),
    ],
    ids=["none", "fits", "exact", "half", "large_first", "large_between", "weightless", "many"],
)
def test_groups_are_filled_in_order(seconds: list[float], most: float, sizes: list[int]):
    items = _items(*seconds)
    groups = group(items, most=most)
    assert [len(part) for part in groups] == sizes
    assert list(itertools.chain.from_iterable(groups)) == items


def test_groups_can_weigh_something_else():
    items = [{**item, "files": 1} for item in _items(*[1000.0] * 70)]
    assert [len(part) for part in group(items, most=32, weight="files")] == [32, 32, 6]


# --- the plan file


def _plan(
    dataset: Path, items: list[Item], done: Collection[str] = (), fingerprint: str = "f", **options
) -> list[Unit]:  # type: ignore[assignment]
    plan = PlanFile(dataset, "score", options.pop("shard", None))
    return plan.units(items, set(done), fingerprint, **{"most": 10.0, **options})


def _ids(units: list[Unit]) -> list[list[str]]:
    return [[item["id"] for item in unit.items] for unit in units]


def test_the_same_items_give_the_same_units_anywhere(tmp_path: Path):
    items = _items(*[4.0] * 7)
    left, right = _plan(tmp_path / "a", items), _plan(tmp_path / "b", items)
    assert left == right
    assert _ids(left) == [["i0", "i1"], ["i2", "i3"], ["i4", "i5"], ["i6"]]
    assert len({unit.unit_id for unit in left}) == 4


def test_units_are_told_apart_by_fingerprint_phase_and_ids_of_items_only(tmp_path: Path):
    [plain] = _plan(tmp_path / "a", _items(1.0))
    [other] = _plan(tmp_path / "b", _items(1.0), fingerprint="g")
    [moved] = _plan(tmp_path / "c", _items(1.0, prefix="j"))
    encode = Unit.of("encode", "f", _items(1.0))
    assert len({plain.unit_id, other.unit_id, moved.unit_id, encode.unit_id}) == 4
    [same] = _plan(tmp_path / "d", [{**item, "audio_lead_frames": 2.0, "timeout_s": 99.0} for item in _items(1.0)])
    assert same.unit_id == plain.unit_id


def test_a_stopped_run_goes_on_with_the_same_units(tmp_path: Path):
    items = _items(*[4.0] * 7)
    units = _plan(tmp_path, items)
    assert _plan(tmp_path, items) == units
    assert _plan(tmp_path, items, {"i0", "i1", "i4", "i5"}) == [units[1], units[3]]
    assert _plan(tmp_path, items, {item["id"] for item in items}) == []


def test_new_items_make_new_units_and_leave_the_planned_ones(tmp_path: Path):
    items = _items(*[4.0] * 7)
    units = _plan(tmp_path, items)
    new = _items(4.0, 4.0, 4.0, prefix="a")
    mixed = [new[0], *items[:3], new[1], *items[3:], new[2]]
    assert _ids(_plan(tmp_path, mixed)) == [*_ids(units), ["a0", "a1"], ["a2"]]
    assert _plan(tmp_path, mixed)[:4] == units


def test_a_unit_that_lost_an_item_is_planned_anew(tmp_path: Path):
    items = _items(*[4.0] * 6)
    units = _plan(tmp_path, items)
    again = _plan(tmp_path, [*items[:2], items[3], *items[4:]])
    assert again[:2] == [units[0], units[2]]
    assert _ids(again) == [["i0", "i1"], ["i4", "i5"], ["i3"]]


def test_what_is_to_be_done_with_other_settings_is_planned_anew(tmp_path: Path):
    items = _items(*[4.0] * 4)
    before, after = _plan(tmp_path, items), _plan(tmp_path, items, fingerprint="g")
    assert _ids(after) == _ids(before)
    assert not {unit.unit_id for unit in before} & {unit.unit_id for unit in after}


def _encode_items(leads: list[float | None]) -> list[Item]:
    names = [f"clip{number}" for number in range(len(leads))]
    return [
        {"id": encode_id(name, lead), "clip_id": name, "path": "v.mp4", "seconds": 4.0, "audio_lead_frames": lead}
        for name, lead in zip(names, leads, strict=True)
    ]


@pytest.mark.parametrize(
    ("lead", "item_id"),
    [
        (None, "c+0"),
        (0.0, "c+0"),
        (0.0007, "c+0"),
        (1.0, "c+640"),
        (-1.0, "c-640"),
        (2.5, "c+1600"),
        (-0.001, "c-1"),
    ],
)
def test_what_is_stored_of_a_clip_is_named_by_the_samples_that_its_sound_moves(lead: float | None, item_id: str):
    assert encode_id("c", lead) == item_id


def test_a_clip_whose_sound_moves_otherwise_is_planned_anew_and_the_rest_is_not(tmp_path: Path):
    leads: list[float | None] = [1.0, None, 2.0, None]
    before = _plan(tmp_path, _encode_items(leads))
    assert _ids(before) == [["clip0+640", "clip1+0"], ["clip2+1280", "clip3+0"]]
    after = _plan(tmp_path, _encode_items([1.0, None, -2.0, None]))
    assert after[0].unit_id == before[0].unit_id
    assert _ids(after) == [["clip0+640", "clip1+0"], ["clip2-1280", "clip3+0"]]
    assert after[1].unit_id != before[1].unit_id
    finer = _plan(tmp_path / "other", _encode_items([1.0004, None, 2.0, None]))
    assert finer[0].unit_id == before[0].unit_id, "moved by the same samples"


def test_a_planned_unit_takes_what_is_known_of_its_items_today(tmp_path: Path):
    items = _items(4.0, 4.0)
    [before] = _plan(tmp_path, items)
    [after] = _plan(tmp_path, [{**item, "path": f"renamed-{item['path']}"} for item in items])
    assert after.unit_id == before.unit_id
    assert [item["path"] for item in after.items] == ["renamed-0.mp4", "renamed-1.mp4"]


def test_parts_of_a_job_array_have_plans_of_their_own(tmp_path: Path):
    first = _plan(tmp_path, _items(4.0, 4.0, prefix="a"), shard=(1, 2))
    _plan(tmp_path, _items(4.0, 4.0, 4.0, prefix="b"), shard=(2, 2))
    assert _plan(tmp_path, _items(4.0, 4.0, prefix="a"), shard=(1, 2)) == first
    assert sorted(path.name for path in (tmp_path / "work" / "plan").iterdir()) == [
        "score-1of2.json",
        "score-2of2.json",
    ]


def test_a_unit_survives_being_sent_to_a_worker(tmp_path: Path):
    [unit] = _plan(tmp_path, _items(4.0, 4.0))
    assert Unit.from_json(unit.to_json()) == unit
    assert unit.seconds == 8.0
    assert unit.of_some(unit.items[:1]).unit_id != unit.unit_id


def test_a_plan_that_was_lost_costs_nothing_but_its_order(tmp_path: Path):
    items = _items(*[4.0] * 4)
    units = _plan(tmp_path, items)
    shutil.rmtree(tmp_path / "work")
    assert _plan(tmp_path, items) == units
