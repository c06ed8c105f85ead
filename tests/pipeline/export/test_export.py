"""Exports: the pictures are the crops of the encode pass, the sound is what a trainer reads, readers find them."""

import csv
import io
import json
import shutil
import tarfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoding import encode_unit
from rich.console import Console
from typer.testing import CliRunner

from hs_data.cli import app
from hs_data.manifests import settings
from hs_data.manifests.dataset import Dataset, open_dataset
from hs_data.manifests.errors import ConfigError, DatasetError, HsDataError
from hs_data.manifests.index import DatasetIndex, Fingerprints, write_index
from hs_data.manifests.storage import sha256_file
from hs_data.pipeline.config import Config
from hs_data.pipeline.encode.encoder import Encoder
from hs_data.pipeline.encode.items import EncodeItem
from hs_data.pipeline.export import command, layouts
from hs_data.pipeline.export.command import ExportRequest
from hs_data.pipeline.export.cut import cut
from hs_data.pipeline.export.layouts import ExportKind
from hs_data.pipeline.latents import psnr_db
from hs_data.pipeline.media.mp4 import add_sound, encode_video
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.score.registry import CLIP_SCHEMA

A, B, C, D = "aa11aa11", "bb22bb22", "cc33cc33", "dd44dd44"
SPANS = {A: ("one.mp4", 10, 35), B: ("one.mp4", 20, 50), C: ("one.mp4", 60, 85), D: ("two words.mp4", 0, 25)}
SPLITS = {A: "train", B: "train", C: "val", D: "train"}


def pictures(num_frames: int) -> Iterator[tuple[Fraction, np.ndarray]]:
    """A smooth pattern that moves, so that a wrong frame or place shows."""
    y, x = np.mgrid[:128, :160] / 20
    for index in range(num_frames):
        waves = [np.sin(x + index / 3), np.cos(y - index / 4), np.sin(x + y + index / 5)]
        yield Fraction(index, 25), np.stack([127 + 100 * wave for wave in waves], axis=-1).astype(np.uint8)


def chirp(num_frames: int) -> np.ndarray:
    seconds = np.arange(640 * num_frames) / 16_000
    return (9000 * np.sin(2 * np.pi * (200 + 150 * seconds) * seconds)).astype(np.int16)


@dataclass
class Made:
    """A small dataset and its source."""

    path: Path
    root: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Four clips of two files as the encode pass writes them, JPEG crops too."""
    folder = tmp_path_factory.mktemp("made")
    root, path = folder / "in", folder / "dataset"
    root.mkdir()
    (path / "shards").mkdir(parents=True)
    for name, num_frames in {"one.mp4": 100, "two words.mp4": 25}.items():
        video = encode_video(pictures(num_frames), Fraction(25))
        add_sound(video, chirp(num_frames), root / name, sample_rate_hz=48_000, num_channels=1)
    config = settings.build(
        Config, {"latents": {"jpeg_quality": 95}, "sync": {"correct": True, "max_residual_ms": 10_000}}
    )
    items = [_item(root, clip_id) for clip_id in SPANS]
    receipts = encode_unit(Encoder(config), items, root, path / "shards" / "s.parquet")
    rows = [_row(root, item, receipts[item.item_id]) for item in items]
    pq.write_table(
        pa.Table.from_pylist([*rows, {**rows[0], "clip_id": "ee", "verdict": "dropped"}], CLIP_SCHEMA),
        path / "clips.parquet",
    )
    write_index(
        path,
        DatasetIndex(
            hs_data_version="0",
            key="made up",
            source="folder",
            preset="cpu",
            config=settings.to_table(config),
            selection={},
            built_select={},
            fingerprints=Fingerprints(score="s", encode="e"),
            models=(),
        ),
    )
    return Made(path=path, root=root)


def _item(root: Path, clip_id: str) -> EncodeItem:
    path, start, end = SPANS[clip_id]
    boxes = np.tile(np.array([40, 20, 100, 90], np.float32), (end - start, 1))
    boxes[:, ::2] += np.linspace(0, 12, end - start)[:, None]
    return EncodeItem(
        clip_id=clip_id,
        path=path,
        video=probe(root / path),
        start_frame=start,
        num_frames=end - start,
        boxes=boxes,
        landmarks=None,
        mouth_opening=np.zeros(end - start, np.float32),
        audio_lead_frames=3.0 if clip_id == C else None,
    )


def _row(root: Path, item: EncodeItem, receipt: dict) -> dict:
    start_s, length_s = item.start_frame / 25, item.num_frames / 25
    return {
        "clip_id": item.clip_id,
        "video_id": sha256_file(root / item.path),
        "path": item.path,
        "source": "folder",
        "identity": '=1+1, "x"\n',
        "start_frame": item.start_frame,
        "num_frames": item.num_frames,
        "start_s": start_s,
        "duration_s": length_s,
        "transcript": "é 名",
        "verdict": "kept",
        "clip_class": "speech",
        "split": SPLITS[item.clip_id],
        "audio_shift_samples": item.audio_shift_samples,
        "shard": "shards/s.parquet",
        "row_group": receipt["row_group"],
    }


def request(made: Made, output: Path, kind: ExportKind = "hf", **options: object) -> ExportRequest:
    """Ask for an export; of small pictures, which cost a tenth."""
    words = {"size": 96, "root": made.root, **options}
    return ExportRequest(dataset=made.path, kind=kind, output=output, **words)  # type: ignore[arg-type]


def export(made: Made, output: Path, kind: ExportKind = "hf", **options: object) -> dict:
    return command.export(request(made, output, kind, **options), Console(quiet=True)).as_json()


def table(output: Path) -> dict[str, dict]:
    return {row["clip_id"]: row for row in map(json.loads, (output / "export.jsonl").read_text().splitlines())}


def films(output: Path) -> dict[str, bytes]:
    return {
        path.relative_to(output).as_posix(): path.read_bytes() for path in sorted(output.rglob("*.*")) if path.is_file()
    }


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def jpegs(dataset: Dataset, clip_id: str) -> np.ndarray:
    clip = next(clip for clip in dataset.kept if clip.clip_id == clip_id)
    files = dataset.read(clip, "frame_jpeg")
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in files]
    return np.stack([bgr[..., ::-1] for bgr in pictures if bgr is not None])


def pcm(made: Made, clip_id: str) -> np.ndarray:
    dataset = open_dataset(made.path)
    return dataset.read(next(clip for clip in dataset.kept if clip.clip_id == clip_id), "pcm").reshape(-1)


def test_a_film_shows_the_crops_of_the_encode_pass(made: Made, tmp_path: Path):
    facts = export(made, tmp_path / "out", size=512)
    assert (facts["clips"], facts["new"], facts["ok"]) == (4, 4, 4)
    dataset = open_dataset(made.path)
    for clip_id, split in SPLITS.items():
        path = tmp_path / "out" / layouts.HF_SPLITS.get(split, split) / f"{clip_id}.mp4"
        shown, stored = decoded(path), jpegs(dataset, clip_id)
        assert shown.shape == stored.shape == (SPANS[clip_id][2] - SPANS[clip_id][1], 512, 512, 3)
        assert psnr_db(shown, stored) > 36
        others = np.roll(stored, 1, axis=0)
        assert psnr_db(shown, others) < 26, "the frame before is told apart"
        found = probe(path)
        assert (found.fps, found.sample_rate_hz, found.num_channels, found.start_s) == (25, 16_000, 1, 0)


def test_the_sound_is_what_a_trainer_reads_to_the_sample(made: Made, tmp_path: Path):
    """By decord, which LatentSync reads with; clip C was corrected by three frames."""
    decord = pytest.importorskip("decord")
    export(made, tmp_path / "out", "latentsync-filelist")
    for clip_id in SPANS:
        sound = pcm(made, clip_id).astype(float)
        path = tmp_path / "out" / "clips" / f"{clip_id}.mp4"
        heard = decord.AudioReader(str(path), sample_rate=16_000, mono=True)[:].asnumpy()[0]
        assert 0 <= len(heard) - len(sound) < 1024, "AAC ends with a whole packet"
        lags = {lag: heard[1500 + lag : 14_000 + lag] @ sound[1500:14_000] for lag in range(-1100, 1101)}
        assert max(lags, key=lags.__getitem__) == 0
        assert len(decord.VideoReader(str(path))) * 640 == len(sound)


def test_file_lists_name_the_films_of_each_split(made: Made, tmp_path: Path):
    output = tmp_path / "a b"
    export(made, output, "latentsync-filelist")
    lines = (output / "train_fileslist.txt").read_text().splitlines()
    assert lines == [str(output / "clips" / f"{name}.mp4") for name in (A, B, D)]
    assert (output / "val_fileslist.txt").read_text() == f"{output / 'clips' / C}.mp4\n"
    assert not (output / "test_fileslist.txt").exists()
    assert all(Path(line).is_file() for line in lines)


def test_a_video_folder_has_a_table_beside_the_films(made: Made, tmp_path: Path):
    export(made, tmp_path / "out")
    with (tmp_path / "out" / "train" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == [f"{name}.mp4" for name in (A, B, D)]
    assert (rows[0]["transcript"], rows[0]["identity"], rows[0]["duration_s"]) == ("é 名", '=1+1, "x"\n', "1.0")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "train",
        "validation",
        "export.json",
        "export.jsonl",
    }


def test_archives_hold_film_sound_and_facts(made: Made, tmp_path: Path):
    export(made, tmp_path / "out", "webdataset", per_archive=2)
    names = {"train-000000.tar": [A, B], "train-000001.tar": [D], "val-000000.tar": [C]}
    assert {path.name for path in (tmp_path / "out").glob("*")} == {*names, "export.json", "export.jsonl"}
    for name, ids in names.items():
        with tarfile.open(tmp_path / "out" / name) as archive:
            assert archive.getnames() == [f"{one}.{ending}" for one in ids for ending in ("json", "mp4", "wav")]
            assert {(m.mtime, m.uid, m.gid, m.uname) for m in archive} == {(0, 0, 0, "")}
            for one in ids:
                with wave.open(io.BytesIO(archive.extractfile(f"{one}.wav").read())) as sound:  # type: ignore[union-attr]
                    assert sound.getparams()[:4] == (1, 2, 16_000, len(pcm(made, one)))
                    assert np.array_equal(np.frombuffer(sound.readframes(10**6), "<i2"), pcm(made, one))
                facts = json.loads(archive.extractfile(f"{one}.json").read())  # type: ignore[union-attr]
                assert (facts["clip_id"], facts["frame_rate"], facts["split"]) == (one, 25, SPLITS[one])
    assert {name: row["file"] for name, row in table(tmp_path / "out").items()} == {
        one: name for name, ids in names.items() for one in ids
    }


@pytest.mark.parametrize("kind", ["latentsync-filelist", "webdataset", "hf"])
def test_the_same_dataset_gives_the_same_bytes_by_any_number_of_workers(made: Made, tmp_path: Path, kind: ExportKind):
    export(made, tmp_path / "x" / "out", kind)
    (tmp_path / "x").rename(tmp_path / "first")
    export(made, tmp_path / "x" / "out", kind, num_workers=2 if kind == "webdataset" else 1)
    assert films(tmp_path / "first" / "out") == films(tmp_path / "x" / "out")


@pytest.mark.parametrize("kind", ["latentsync-filelist", "webdataset", "hf"])
def test_what_an_earlier_run_made_is_left_as_it_is(
    made: Made, tmp_path: Path, kind: ExportKind, monkeypatch: pytest.MonkeyPatch
):
    """The first run breaks off after one file of two."""
    real, calls = cut, []

    def broken(clips: list, *rest: object) -> dict:
        calls.append([clip.clip_id for clip in clips])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(clips, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "cut", broken)
    with pytest.raises(KeyboardInterrupt):
        export(made, tmp_path / "out", kind)
    assert not (tmp_path / "out" / "export.jsonl").exists()
    facts = export(made, tmp_path / "out", kind)
    assert (facts["new"], facts["ok"]) == (1, 4)
    assert calls == [[A, B, C], [D], [D]]
    before = films(tmp_path / "out")
    assert export(made, tmp_path / "out", kind)["new"] == 0
    assert films(tmp_path / "out") == before
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["latentsync-filelist", "webdataset", "hf"])
def test_a_source_that_is_missing_or_another_is_told_and_the_others_go_on(made: Made, tmp_path: Path, kind: ExportKind):
    root = tmp_path / "in"
    shutil.copytree(made.root, root)
    (root / "one.mp4").write_bytes((root / "one.mp4").read_bytes() + b"x")
    (root / "two words.mp4").rename(tmp_path / "away.mp4")
    half = replace(made, root=root)
    with pytest.raises(HsDataError, match="no clip was exported"):
        export(half, tmp_path / "none", kind)
    assert {row["status"] for row in table(tmp_path / "none").values()} == {"source_missing", "source_changed"}
    shutil.copy(made.root / "one.mp4", root)
    facts = export(half, tmp_path / "out", kind)
    assert (facts["ok"], facts["source_missing"]) == (3, 1)
    assert table(tmp_path / "out")[D]["detail"].endswith("use --pixels jpeg")
    shutil.copy(tmp_path / "away.mp4", root / "two words.mp4")
    facts = export(half, tmp_path / "out", kind)
    assert (facts["ok"], facts["new"]) == (4, 1)
    export(made, tmp_path / "whole", kind)
    assert {name: data for name, data in films(tmp_path / "out").items() if "fileslist" not in name} == {
        name: data for name, data in films(tmp_path / "whole").items() if "fileslist" not in name
    }


def test_films_from_the_jpeg_crops_need_no_source(made: Made, tmp_path: Path):
    alone = replace(made, root=tmp_path / "nowhere")
    assert export(alone, tmp_path / "out", pixels="jpeg", size=512, limit=1)["ok"] == 1
    assert psnr_db(decoded(tmp_path / "out" / "train" / f"{A}.mp4"), jpegs(open_dataset(made.path), A)) > 36


def test_a_smaller_picture_is_cut_from_the_source(made: Made, tmp_path: Path):
    export(made, tmp_path / "out", size=256, limit=1)
    shown = decoded(tmp_path / "out" / "train" / f"{A}.mp4")
    halved = np.stack(
        [cv2.resize(one, (256, 256), interpolation=cv2.INTER_AREA) for one in jpegs(open_dataset(made.path), A)]
    )
    assert shown.shape == (25, 256, 256, 3)
    assert psnr_db(shown, halved) > 34


def test_a_clip_that_is_no_longer_kept_goes_away(made: Made, tmp_path: Path):
    path = tmp_path / "dataset"
    shutil.copytree(made.path, path)
    other = replace(made, path=path)
    export(other, tmp_path / "out", "webdataset")
    clips = pq.read_table(path / "clips.parquet")
    verdicts = [
        "dropped" if one == A else verdict
        for one, verdict in zip(*(clips[n].to_pylist() for n in ("clip_id", "verdict")), strict=True)
    ]
    place = clips.schema.get_field_index("verdict")
    pq.write_table(clips.set_column(place, clips.schema.field(place), pa.array(verdicts)), path / "clips.parquet")
    facts = export(other, tmp_path / "out", "webdataset")
    assert (facts["clips"], facts["new"]) == (3, 0)
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        assert archive.getnames()[::3] == [f"{B}.json", f"{D}.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 511}, "--size 511: is odd"),
        ({"size": 256, "pixels": "jpeg"}, "JPEG crops have 512 px"),
        ({"root": Path("nowhere")}, "--input nowhere: no such folder"),
        ({"root": None}, "needs --input"),
    ],
)
def test_options_that_cannot_be(made: Made, tmp_path: Path, options: dict, message: str):
    wanted = replace(request(made, tmp_path / "out"), **options)
    with pytest.raises(ConfigError, match=message):
        command.export(wanted, Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(made: Made, tmp_path: Path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.mp4").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="holds other things"):
        export(made, tmp_path / "x")
    export(made, tmp_path / "out", limit=1)
    with pytest.raises(ConfigError, match="other crf"):
        export(made, tmp_path / "out", crf=20)


def test_a_clip_with_a_bad_name_is_refused(made: Made, tmp_path: Path):
    path = tmp_path / "dataset"
    shutil.copytree(made.path, path)
    clips = pq.read_table(path / "clips.parquet")
    names = ["../../evil" if one == A else one for one in clips["clip_id"].to_pylist()]
    place = clips.schema.get_field_index("clip_id")
    pq.write_table(clips.set_column(place, clips.schema.field(place), pa.array(names)), path / "clips.parquet")
    with pytest.raises(DatasetError, match="is no clip of a split"):
        export(replace(made, path=path), tmp_path / "out")


def test_the_command_prints_counts_as_data(made: Made, tmp_path: Path):
    words = ["export", str(made.path), "--to", "hf", "--input", str(made.root), "--limit", "1", "--json"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"clips": 1, "new": 1, "ok": 1, "output": str(tmp_path / "out")}
