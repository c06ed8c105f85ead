"""The loader: sample k is a pure function of (seed, k), whoever asks; staging, mixtures, conditions and refusals."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError, DatasetError
from hs_data.manifests.schema import Column
from hs_data.trainer.data.clips import ClipFrames, ClipPool
from hs_data.trainer.data.config import DataConfig, open_samples, open_validation
from hs_data.trainer.data.loader import Loader
from hs_data.trainer.data.order import Draw, Mixture, Permutation, Stream, epoch_order, parse_datasets, words
from hs_data.trainer.data.samples import Contract, Need, Samples
from hs_data.trainer.data.staging import stage

ROOT = Path(__file__).resolve().parents[2]
_spec = util.spec_from_file_location("loader_benchmark", ROOT / "benchmarks" / "loader.py")
assert _spec is not None
assert _spec.loader is not None
made = util.module_from_spec(_spec)
_spec.loader.exec_module(made)

SMALL = {"latent": Column(dtype="<f2", shape=(2, 2)), "pcm": Column(dtype="<i2", shape=(3,))}
CONTRACT = {"latent": {"id": "a", "channels": 2}, "audio": {"id": "logmel"}, "frame_rate": 25}
LENGTHS = [9, 4, 12, 30, 3, 7, 5, 11, 6, 8]


class Windows:
    """Four frames of a clip."""

    name = "windows"
    needs: Sequence[Need] = (Need(any_of=("latent",), build="latents.backend=x"),)
    min_frames = 4

    def __init__(self) -> None:
        self.latent: Contract = {"channels": 2}

    def draw_sample(self, num_frames: int, draw: Draw) -> dict[str, int]:
        return {"start": draw.below(num_frames - 3), "length": num_frames, "drop": draw.chance(0.5)}

    def read(self, clip: ClipFrames, cut) -> dict[str, np.ndarray]:
        return {"latent": clip["latent"][cut["start"] : cut["start"] + 4]}


def make(path: Path, lengths: Sequence[int] = LENGTHS, **options) -> Path:
    made.write_dataset(path, lengths, **{"columns": SMALL, "contract": CONTRACT, "clips_per_shard": 4, **options})
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture
def samples(dataset) -> Samples:
    return open_samples(DataConfig(datasets=(str(dataset),)), Windows(), seed=7)


def take(loader: Loader, count: int, first: int = 0) -> list:
    batches = loader.batches(first)
    found = [next(batches) for _ in range(count)]
    batches.close()  # type: ignore[attr-defined] - a generator
    return found


def same(left, right) -> bool:
    return left.first == right.first and all(torch.equal(left[n], right[n]) for n in ("latent", "start", "drop"))


# --- random numbers


def test_words_of_a_sample_depend_on_seed_stream_and_number_alone():
    whole = words(5, Stream.SAMPLE, first=0, count=600)
    np.testing.assert_array_equal(words(5, Stream.SAMPLE, first=257, count=3), whole[257:260])
    assert Draw(5, 299).word() == whole[299, 0]
    assert len(np.unique(whole)) == whole.size
    for other in (words(6, Stream.SAMPLE, first=0, count=600), words(5, Stream.ORDER, first=0, count=600)):
        assert not np.isin(other, whole).any()


def test_words_are_the_same_on_every_machine_and_version():
    """Numpy promises the stream of a bit generator; a change here would break every resume."""
    assert words(1, Stream.SAMPLE, first=10**12, count=1)[0, :2].tolist() == [
        11364447984003024947,
        25075298213798001,
    ]


def test_draws_are_even():
    numbers = Counter(Draw(3, k).below(5) for k in range(5000))
    assert max(abs(count - 1000) for count in numbers.values()) < 4 * (1000 * 0.8) ** 0.5
    assert abs(sum(Draw(3, k).chance(0.1) for k in range(5000)) - 500) < 4 * 450**0.5
    assert [Draw(3, 0).chance(share) for share in (0.0, 1.0)] == [False, True]


def test_too_many_draws_are_noticed():
    draw = Draw(0, 0)
    for _ in range(16):
        draw.word()
    with pytest.raises(IndexError):
        draw.word()


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_that_does_not_fit_is_refused(dataset, seed):
    with pytest.raises(ConfigError, match="seed"):
        open_samples(DataConfig(datasets=(str(dataset),)), Windows(), seed=seed)


# --- order


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_an_order_has_every_number_once(size):
    order = epoch_order(1, 0, 0, size)
    assert sorted(map(order, range(size))) == list(range(size))


def test_orders_of_epochs_seeds_and_datasets_differ():
    orders = [epoch_order(*key, 1000) for key in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))]
    listed = [[order(k) for k in range(1000)] for order in orders]
    for number, left in enumerate(listed):
        for right in listed[:number]:
            assert sum(a == b for a, b in zip(left, right, strict=True)) < 12  # 1 is expected


def test_orders_are_even():
    """All 24 orders of four things over 4,800 epochs, by chi-squared with 23 degrees of freedom (p = 0.001: 49.7)."""
    found = Counter(tuple(epoch_order(9, 0, epoch, 4)(k) for k in range(4)) for epoch in range(4800))
    assert len(found) == 24
    assert sum((count - 200) ** 2 / 200 for count in found.values()) < 49.7


def test_neighbours_in_the_order_are_not_neighbours_in_the_table():
    order = Permutation(10_000, (1, 2, 3, 4, 5, 6))
    places = np.array([order(k) for k in range(10_000)])
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.04


def test_two_million_clips_need_no_table():
    order = epoch_order(1, 0, 3, 2_000_000)
    assert len({order(k) for k in range(5000)}) == 5000


# --- samples


def test_every_clip_once_an_epoch_and_epochs_differ(samples):
    assert samples.num_clips == 9  # one of ten is shorter than a window
    epochs = [[samples.clip_id(k) for k in range(9 * e, 9 * e + 9)] for e in range(20)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20


def test_frames_are_those_of_the_dataset(samples, dataset):
    opened = open_dataset(dataset)
    clips = {clip.clip_id: clip for clip in opened}
    batch = samples.batch(100, 12)
    assert (batch["latent"].dtype, batch["drop"].dtype, batch["start"].dtype) == (
        torch.float16,
        torch.bool,
        torch.int64,
    )
    for place in range(12):
        clip = clips[samples.clip_id(100 + place)]
        start = int(batch["start"][place])
        assert batch["length"][place] == clip.num_frames
        np.testing.assert_array_equal(batch["latent"][place], opened.read(clip, "latent", start, start + 4))


def test_every_window_of_a_clip_is_drawn(samples):
    starts: dict[str, set[int]] = {}
    for k in range(2000):
        starts.setdefault(samples.clip_id(k), set()).add(samples.views(k)[0]["start"])
    assert {name: sorted(found) for name, found in starts.items()} == {
        f"c{n:04d}": list(range(length - 3)) for n, length in enumerate(LENGTHS) if length >= 4
    }


def test_another_seed_is_another_run(samples, dataset):
    other = open_samples(DataConfig(datasets=(str(dataset),)), Windows(), seed=8)
    assert not torch.equal(samples.batch(0, 9)["start"], other.batch(0, 9)["start"])
    assert samples.fingerprint() != other.fingerprint()


def test_short_clips_are_counted_and_warned_of(dataset, caplog):
    with caplog.at_level(logging.WARNING):
        pool = ClipPool(dataset, split="train", min_frames=8)
    assert (len(pool), pool.num_short) == (5, 5)
    assert "5 train clips are shorter than 8 frames" in caplog.text


def test_few_shards_stay_open_and_all_are_read(dataset):
    one = open_samples(DataConfig(datasets=(str(dataset),), max_open_shards=1), Windows(), seed=7)
    many = open_samples(DataConfig(datasets=(str(dataset),)), Windows(), seed=7)
    assert same(one.batch(0, 40), many.batch(0, 40))
    assert len(one._pools[0]._shards) == 1


def test_held_out_clips_are_never_trained_on_and_are_always_the_same(tmp_path):
    splits = ["val" if n % 3 == 0 else "train" for n in range(10)]
    path = make(tmp_path / "d", [10] * 10, splits=splits)
    config = DataConfig(datasets=(str(path),))
    trained = {open_samples(config, Windows(), seed=1).clip_id(k) for k in range(60)}
    held = open_validation(config, Windows())
    assert trained == {f"c{n:04d}" for n in range(10) if n % 3}
    assert {held.clip_id(k) for k in range(4)} == {"c0000", "c0003", "c0006", "c0009"}
    assert same(held.batch(0, 8), open_validation(config, Windows()).batch(0, 8))


# --- loader


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_threads_change_nothing(samples, num_workers):
    plain = take(Loader(samples, batch_size=4), 30)
    threads = take(Loader(samples, batch_size=4, num_workers=num_workers), 30)
    assert all(same(a, b) for a, b in zip(plain, threads, strict=True))
    assert [batch.first for batch in plain] == list(range(0, 120, 4))


@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_share_the_batch_of_one(samples, num_ranks, num_workers):
    whole = take(Loader(samples, batch_size=8), 10)
    parts = [
        take(Loader(samples, batch_size=8, rank=rank, num_ranks=num_ranks, num_workers=num_workers), 10)
        for rank in range(num_ranks)
    ]
    for step, batch in enumerate(whole):
        for name in ("latent", "start", "drop"):
            assert torch.equal(torch.cat([part[step][name] for part in parts]), batch[name])


@pytest.mark.parametrize("first", [8, 24, 37, 10**9])
def test_a_run_goes_on_from_one_number(samples, first):
    loader = Loader(samples, batch_size=8, num_workers=2)
    resumed = take(loader, 3, first)
    assert torch.equal(torch.cat([b["latent"] for b in resumed]), samples.batch(first, 24)["latent"])


def test_validation_ends_and_leaves_nothing_out(samples):
    seen = []
    for rank in range(2):
        loader = Loader(samples, batch_size=4, rank=rank, num_ranks=2, num_workers=1)
        seen += [k for batch in loader.batches(0, stop=11) for k in range(batch.first, batch.first + len(batch))]
    assert sorted(seen) == list(range(11))


def test_a_thread_that_fails_tells_the_trainer(samples, monkeypatch):
    def fail(self, clip, cut):
        raise RuntimeError("damaged")

    monkeypatch.setattr(Windows, "read", fail)
    with pytest.raises(RuntimeError, match="damaged"):
        next(Loader(samples, batch_size=4, num_workers=2).batches())


def test_a_batch_cannot_be_divided_unevenly(samples):
    with pytest.raises(ConfigError, match=r"run\.batch_size=6: cannot be divided"):
        Loader(samples, batch_size=6, num_ranks=4)


def test_a_batch_is_split_for_accumulation(samples):
    batch = samples.batch(16, 6)
    parts = batch.split(4)
    assert [(part.first, len(part)) for part in parts] == [(16, 4), (20, 2)]
    assert torch.equal(torch.cat([part["latent"] for part in parts]), batch["latent"])


def test_tensors_of_two_batches_share_no_memory(samples):
    left, right = samples.batch(0, 4), samples.batch(0, 4)
    for name in ("latent", "start", "drop"):
        left[name].zero_()
    assert same(right, samples.batch(0, 4))


# --- several datasets


@pytest.mark.parametrize(
    ("weights", "period", "shares"),
    [
        ([1], 1, [1]),
        (["0.7", "0.3"], 10, [7, 3]),
        ([2, 1], 3, [2, 1]),
        (["0.333", "0.5", "0.167"], 1000, [333, 500, 167]),
    ],
)
def test_weights_hold_exactly_over_every_period(weights, period, shares):
    mixture = Mixture([Fraction(weight) for weight in weights])
    assert (mixture.period, mixture.shares) == (period, shares)
    for first in (0, 5 * period):
        found = Counter(mixture.locate(k)[0] for k in range(first, first + period))
        assert [found[part] for part in range(len(shares))] == shares
    for part in range(len(shares)):  # each dataset's own samples are counted without a gap
        own = [n for d, n in map(mixture.locate, range(3 * period)) if d == part]
        assert own == list(range(3 * shares[part]))


def test_datasets_are_interleaved():
    mixture = Mixture([Fraction(7, 10), Fraction(3, 10)])
    for first in range(20):
        assert 2 <= sum(mixture.locate(k)[0] for k in range(first, first + 8)) <= 3


def test_each_dataset_of_a_mixture_has_its_own_epochs(tmp_path):
    left, right = make(tmp_path / "a", [8] * 6), make(tmp_path / "b=x", [8] * 3, seed=1)
    config = DataConfig(datasets=(f"{left}=0.75", f"{right}=0.25"))
    samples = open_samples(config, Windows(), seed=1)
    places = [samples.locate(k) for k in range(24)]
    assert Counter(part for part, _ in places) == {0: 18, 1: 6}
    assert all(count == 3 for count in Counter(clip for part, clip in places if part == 0).values())
    assert all(count == 2 for count in Counter(clip for part, clip in places if part == 1).values())


@pytest.mark.parametrize(
    "texts",
    [[], ["a", "b"], ["a=1", "b"], ["a=1", "b=0"], ["a=1", "b=-1"], ["a=1", "a=2"], ["=1"], ["a=0.1234567", "b=1"]],
)
def test_mixtures_that_make_no_sense_are_refused(texts):
    with pytest.raises(ConfigError, match=r"data\.datasets"):
        Mixture([source.weight for source in parse_datasets(texts)])


@pytest.mark.parametrize("text", ["a", "/x/y=z", "s3://bucket/run=3a"])
def test_a_name_with_an_equals_sign_is_a_name(text):
    assert parse_datasets([text])[0].location == text


# --- conditions


def test_conditions_choose_clips(tmp_path):
    fields = [
        {"sync_confidence": float(n) if n else None, "identity": f"p{n % 2}", "sharpness": n / 10} for n in range(10)
    ]
    path = make(tmp_path / "d", [8] * 10, fields=fields)

    def chosen(*where: str) -> list[int]:
        pool = ClipPool(path, split="train", where=where)
        return [int(pool.clip_id(n)[1:]) for n in range(len(pool))]

    assert chosen("sync_confidence>5") == [6, 7, 8, 9]
    assert chosen("sync_confidence >= 5", "sync_confidence<8.5") == [5, 6, 7, 8]
    assert chosen("sync_confidence!=3") == [1, 2, 4, 5, 6, 7, 8, 9]  # without a value: not chosen
    assert chosen("identity==p1", "sync_confidence<=3") == [1, 3]
    assert chosen("num_frames==8", "num_frames>7.5") == list(range(10))
    assert chosen("sharpness>=0.7") == [7, 8, 9]  # stored as float32, a little less than 0.7


@pytest.mark.parametrize(
    "text", ["sync_confidence", "sync_confidenc>5", "sync_confidence>high", "boxes>1", "__import__('os')", "a>1 or b>2"]
)
def test_conditions_that_cannot_be_read_are_refused(dataset, text):
    with pytest.raises(ConfigError, match=r"data\.where"):
        ClipPool(dataset, split="train", where=[text])


def test_nothing_left_is_said(dataset):
    with pytest.raises(DatasetError, match="no train clip of 4 frames"):
        open_samples(DataConfig(datasets=(str(dataset),), where=("num_frames>1000",)), Windows(), seed=0)
    with pytest.raises(DatasetError, match="val_share"):
        open_validation(DataConfig(datasets=(str(dataset),)), Windows())


# --- refusals


def test_a_missing_column_is_named_with_the_setting_that_makes_it(dataset, monkeypatch):
    monkeypatch.setattr(Windows, "needs", (Need(any_of=("latent_masked",), build="latents.masked=true"),))
    with pytest.raises(
        DatasetError, match=r"needs latent_masked; build it with `hs-data build --set latents.masked=true`"
    ):
        open_samples(DataConfig(datasets=(str(dataset),)), Windows(), seed=0)


def test_latents_of_another_kind_are_refused(tmp_path):
    path = make(tmp_path / "d", contract={**CONTRACT, "latent": {"id": "a", "channels": 16}})
    with pytest.raises(DatasetError, match="channels 16 instead of 2"):
        open_samples(DataConfig(datasets=(str(path),)), Windows(), seed=0)


@pytest.mark.parametrize("part", ["latent", "audio", "frame_rate"])
def test_datasets_that_do_not_agree_are_refused(dataset, tmp_path, part):
    other = {**CONTRACT, part: {**CONTRACT["latent"], "id": "b"} if part != "frame_rate" else 30}
    path = make(tmp_path / "d", contract=other)
    with pytest.raises(DatasetError, match=f"{part} is"):
        open_samples(DataConfig(datasets=(f"{dataset}=1", f"{path}=1")), Windows(), seed=0)


def test_the_fingerprint_is_that_of_clips_bytes_and_weights(dataset, tmp_path):
    def fingerprint(*datasets: str, **options) -> str:
        return open_samples(DataConfig(datasets=datasets, **options), Windows(), seed=0).fingerprint()

    again, other = make(tmp_path / "again"), make(tmp_path / "other", seed=1)
    found = {
        fingerprint(str(dataset)),
        fingerprint(str(other)),
        fingerprint(str(dataset), where=("num_frames>8",)),
        fingerprint(f"{dataset}=1", f"{other}=1"),
        fingerprint(f"{dataset}=2", f"{other}=1"),
    }
    assert len(found) == 5
    assert fingerprint(str(again)) == fingerprint(str(dataset))


# --- staging


def test_a_dataset_is_copied_checked_and_opened(dataset, tmp_path):
    local = stage(f"file://{dataset}", str(tmp_path))
    assert local.parent == tmp_path
    for name in ("dataset.json", "clips.parquet", "videos.parquet", "shards/00000.parquet"):
        assert (local / name).read_bytes() == (dataset / name).read_bytes()
    config = DataConfig(datasets=(f"file://{dataset}",), staging=str(tmp_path))
    near = open_samples(DataConfig(datasets=(str(dataset),)), Windows(), seed=7)
    assert same(open_samples(config, Windows(), seed=7).batch(0, 9), near.batch(0, 9))


def test_a_copy_that_was_stopped_goes_on(dataset, tmp_path):
    local = stage(f"file://{dataset}", str(tmp_path))
    kept = (local / "shards" / "00000.parquet").stat()
    for name in ("dataset.json", "shards/00001.parquet"):
        (local / name).unlink()
    assert stage(f"file://{dataset}", str(tmp_path)) == local
    assert (local / "shards" / "00000.parquet").stat() == kept
    assert (local / "shards" / "00001.parquet").is_file()


def test_altered_bytes_are_not_taken(tmp_path):
    source = make(tmp_path / "d")
    shard = source / "shards" / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(DatasetError, match=r"00001\.parquet: not the bytes"):
        stage(f"file://{source}", str(tmp_path / "local"))
    (local,) = (tmp_path / "local").iterdir()
    assert not (local / "dataset.json").exists()
    assert sorted(path.name for path in (local / "shards").iterdir()) == ["00000.parquet", "00002.parquet"]


def test_a_dataset_that_was_built_again_is_copied_anew(tmp_path):
    first = stage(f"file://{make(tmp_path / 'a')}", str(tmp_path / "local"))
    second = stage(f"file://{make(tmp_path / 'b' / 'a', seed=1)}", str(tmp_path / "local"))
    assert first != second


@pytest.mark.parametrize("name", ["../x.parquet", "/etc/passwd"])
def test_names_that_lead_out_of_the_dataset_are_refused(tmp_path, name):
    source = make(tmp_path / "d")
    index = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    index["shards"][0]["path"] = name
    (source / "dataset.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(DatasetError, match="leads out"):
        stage(f"file://{source}", str(tmp_path / "local"))


def test_too_little_room_is_said_before_copying(tmp_path):
    source = make(tmp_path / "d")
    index = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    index["shards"][0]["bytes"] = 10**18
    (source / "dataset.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(DatasetError, match="make room"):
        stage(f"file://{source}", str(tmp_path / "local"))


@pytest.mark.parametrize("place", ["file:///nowhere/at/all", "gopher://x/y"])
def test_nothing_there_is_said(tmp_path, place):
    with pytest.raises(DatasetError, match=r"dataset\.json cannot be read"):
        stage(place, str(tmp_path))


def test_a_bucket_needs_a_folder_for_its_copy_and_a_folder_none(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.staging"):
        stage("s3://bucket/d", "")
    assert stage(str(tmp_path), "") == tmp_path


def test_a_shard_that_holds_other_clips_is_refused_and_not_trained_on(tmp_path: Path):
    """Two shards change places: the same row groups and lengths, other clips."""
    made.write_dataset(tmp_path / "d", [8] * 4, columns=SMALL, contract=CONTRACT, clips_per_shard=2)
    shards = tmp_path / "d" / "shards"
    (shards / "00000.parquet").rename(shards / "x")
    (shards / "00001.parquet").rename(shards / "00000.parquet")
    (shards / "x").rename(shards / "00001.parquet")
    pool = ClipPool(tmp_path / "d", split="train")
    with pytest.raises(DatasetError, match=r"00000\.parquet: row group 0 is not clip c0000 of 8 frames"):
        pool.frames(0)
