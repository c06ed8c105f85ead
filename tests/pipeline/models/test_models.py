"""Weights: what is known of them, how they come here, what counts, and how they are read."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from weight_server import BODY, Server, cli, describe, describe_body, get, sha256

from hs_data.manifests.errors import ConfigError, ModelError
from hs_data.pipeline.config import Config, choose_models
from hs_data.pipeline.models import entries, hashes, registry
from hs_data.pipeline.models.listing import list_models
from hs_data.pipeline.models.registry import ModelsConfig

# --- what is known


def test_every_entry_can_be_checked_and_fetched():
    names = [entry.name for entry in entries.MODEL_FILES]
    assert names == [
        *("yunet", "retinaface", "syncnet", "whisper-tiny", "whisper-base", "whisper-small"),
        *("sd-vae-ft-mse", "taesd", "clip-vit-base-patch16"),
    ]
    assert [entry.name for entry in entries.MODEL_FILES if entry.url is None] == ["clip-vit-base-patch16"], "a folder"
    for entry in (entry for entry in entries.MODEL_FILES if entry.url is not None):
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256 or "") or entry.sha256_begins
        assert re.fullmatch(r"https://\S+|hf://[\w-]+/[\w-]+@[0-9a-f]{40}/\S+", entry.url or "")
        assert entry.framework == ("opencv" if entry.name == "yunet" else "torch")
    assert [entry.name for entry in entries.MODEL_FILES if not entry.commercial] == ["syncnet"]
    assert len({entry.filename for entry in entries.MODEL_FILES}) == len(names)


def test_hashes_of_whisper_are_those_of_the_package():
    import whisper

    for size in ("tiny", "base", "small"):
        entry = next(entry for entry in entries.MODEL_FILES if entry.name == f"whisper-{size}")
        assert entry.url == whisper._MODELS[size]
        assert entry.sha256 == whisper._MODELS[size].split("/")[-2]


def test_the_address_of_retinaface_is_that_of_the_package():
    from retinaface.pre_trained_models import models

    entry = next(entry for entry in entries.MODEL_FILES if entry.name == "retinaface")
    assert entry.url == models["resnet50_2020-07-20"].url


# --- what counts


def test_a_file_counts_by_its_hash_under_any_name(weights: Path, folder: Path):
    shutil.copy(next(weights.glob("*yunet*.onnx")), folder / "my detector")
    config = ModelsConfig(dir=str(folder))
    assert registry.find("yunet", config) == folder / "my detector"
    with (folder / "my detector").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\0\0\0")
    assert registry.find("yunet", config) is None


def test_hashes_of_large_files_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(hashes.REMEMBER_BYTES))
    first = hashes.hash_file(path)
    hashes._hash_once.cache_clear()
    asked: list[Path] = []
    really = hashes.sha256_file
    monkeypatch.setattr(hashes, "sha256_file", lambda p: asked.append(p) or really(p))
    assert hashes.hash_file(path) == first
    assert asked == []
    assert hashes.hash_file(path, trust=False) == first
    assert len(asked) == 1
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a copy that keeps times would
    assert hashes.hash_file(path) != first
    assert len(asked) == 2


def test_a_folder_that_cannot_be_written_to_is_hashed_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".hashes.json").mkdir()  # root may write where the rights say no, but not over a folder
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(hashes.REMEMBER_BYTES))
    asked: list[Path] = []
    really = hashes.sha256_file
    monkeypatch.setattr(hashes, "sha256_file", lambda p: asked.append(p) or really(p))
    assert hashes.hash_file(path) == hashes.hash_file(path) == sha256(bytes(hashes.REMEMBER_BYTES))
    assert len(asked) == 1


def test_offline_verifies_what_is_there_and_lists_the_rest(server: Server, folder: Path):
    describe_body(folder, server)
    (folder / "net.bin").write_bytes(BODY)
    done = cli("models", "fetch", "syncnet", "taesd", "yunet", "--offline", folder=folder)
    assert (done.returncode, done.stdout) == (1, f"{folder / 'net.bin'}\n")
    assert done.stderr == f"error taesd, yunet: not in {folder}; run  hs-data models fetch taesd yunet\n"
    assert server.did.gets == []
    assert get("syncnet", folder, offline=True)[0].path == folder / "net.bin"


def test_nothing_asked_for_is_a_usage_error(folder: Path):
    done = cli("models", "fetch", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Name some of yunet, retinaface, syncnet" in done.stderr


@pytest.mark.parametrize(
    ("names", "preset", "words", "said"),
    [
        (["yunett"], None, [], r"did you mean yunet\?"),
        ([], "none", [], "choose one of"),
        (["yunet"], None, ["crop.policy=eyes"], r"only models\.\* means something here"),
        (["yunet"], None, ["models.dirr=x"], r"did you mean models\.dir\?"),
    ],
    ids=["name", "preset", "setting", "key"],
)
def test_what_cannot_be_fetched_is_said(names: list[str], preset: str | None, words: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        choose_models(names, preset=preset, assignments=words)


def test_a_preset_names_what_it_needs(folder: Path):
    chosen, config = choose_models([], preset="cpu", assignments=[f"models.dir={folder}", "faces.stride=2"])
    assert (chosen, config) == (["yunet"], ModelsConfig(dir=str(folder)))
    assert choose_models(["taesd", "yunet"], preset="cpu", assignments=[])[0] == ["taesd", "yunet"]
    assert choose_models([], preset="embedded", assignments=[])[0] == []


# --- licences


def test_a_licence_is_refused_before_a_download(server: Server, folder: Path):
    describe_body(folder, server)
    with pytest.raises(ConfigError, match=r"^models\.licence=commercial: refuses syncnet \(licence: not stated\)"):
        get("syncnet", folder, licence="commercial")
    assert server.did.gets == []
    describe(folder, filename="net.bin", sha256=sha256(BODY), url=server.url, licence="MIT", commercial=True)
    assert get("syncnet", folder, licence="commercial")


def test_a_licence_is_refused_before_any_work(weights: Path, folder: Path, tmp_path: Path):
    yunet = next(weights.glob("*yunet*.onnx"))
    shutil.copy(yunet, folder)
    describe(folder, "yunet", filename=yunet.name, sha256=sha256(yunet.read_bytes()))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    words = ("build", "--source", "folder", "-i", str(tmp_path / "videos"), "-o", str(tmp_path / "out"))
    for more in ((), ("--dry-run",)):
        limits = ("--preset", "cpu", "--set", "models.licence=commercial", "--executor", "local")
        done = cli(*words, *limits, *more, folder=folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert "refuses yunet (licence: not stated)" in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_models_stop_a_build_with_one_command(folder: Path):
    config = ModelsConfig(dir=str(folder))
    with pytest.raises(ModelError) as caught:
        registry.require_all(["syncnet", "yunet", "syncnet"], config)
    place = f"--set models.dir={folder}"
    assert str(caught.value) == f"syncnet, yunet: not in {folder}; run  hs-data models fetch syncnet yunet {place}"


# --- models.toml


def test_own_weights_stand_in_for_ours(folder: Path):
    describe(folder, filename="mine.pt", sha256=sha256(BODY), licence="CC0", commercial=True)
    (folder / "mine.pt").write_bytes(BODY)
    config = ModelsConfig(dir=str(folder), licence="commercial")
    assert registry.require("syncnet", config) == folder / "mine.pt"
    assert registry.as_used(["syncnet"], config) == [{"name": "syncnet", "sha256": sha256(BODY), "licence": "CC0"}]
    row = next(row for row in list_models(config) if row["name"] == "syncnet")
    assert (row["overridden"], row["checked"]) == (True, "against your models.toml")
    assert row["purpose"] == "lead of the sound and its confidence (sync.backend=syncnet)"
    (folder / "mine.pt").write_bytes(BODY[1:])
    with pytest.raises(ModelError, match=r"mine\.pt there has another sha256\); put mine\.pt there"):
        registry.require("syncnet", config)


def test_a_mirror_is_another_address_of_the_same_file(server: Server, weights: Path, folder: Path):
    describe(folder, "yunet", url=f"{server.url}/any")
    entry = registry.get("yunet", ModelsConfig(dir=str(folder)))
    assert (entry.overridden, entry.licence, entry.url) == (False, "MIT", f"{server.url}/any")
    server.did.body = next(weights.glob("*yunet*.onnx")).read_bytes()
    assert get("yunet", folder)[0].path.name == "face_detection_yunet_2023mar.onnx"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sincnet]\nurl = 'x'", r"sincnet: no such model; did you mean syncnet\?"),
        ("[syncnet]\nurll = 'x'", r"syncnet\.urll: no such setting; did you mean .*syncnet\.url\?"),
        ("[syncnet]\nfilename = 'x'", r"syncnet\.sha256: 64 hex digits"),
        ("[syncnet]\nlicence = 'MIT'", r"syncnet\.sha256: 64 hex digits"),
        (f"[syncnet]\nfilename = '../x'\nsha256 = '{'0' * 64}'", r"syncnet\.filename: the plain name"),
        (f"[syncnet]\nsha256 = '{'0' * 64}'", r"syncnet\.filename: the plain name"),
        ("[syncnet]\nsha256 = 3", r"syncnet\.sha256: 3 is not text; give text"),
        ("[syncnet]\nurl = ''", r"syncnet\.sha256: 64 hex digits"),
        ("[syncnet]", "is no table of settings"),
        ("syncnet = 3", "is no table of settings"),
        ("[syncnet", "not valid TOML"),
    ],
    ids=[
        *("name", "key", "no_hash", "licence_alone", "path", "no_filename"),
        *("type", "empty_url", "empty", "value", "toml"),
    ],
)
def test_what_cannot_be_in_models_toml_is_named(folder: Path, text: str, said: str):
    (folder / "models.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        registry.get("yunet", ModelsConfig(dir=str(folder)))
    assert str(folder / "models.toml") in str(caught.value)


# --- fingerprints


def test_fingerprints_know_the_file_and_the_precision_and_nothing_else(folder: Path, tmp_path: Path):
    describe(folder, filename="a.pt", sha256=sha256(b"a"))
    config = ModelsConfig(dir=str(folder))

    def of(*names: str, **changes: str) -> str:
        return registry.fingerprint(names, replace(config, **changes))  # type: ignore[arg-type]

    assert of("syncnet") == of("syncnet", licence="commercial", device="cuda")
    assert of("syncnet") != of("syncnet", dir=str(tmp_path))
    assert of("syncnet", precision="float32") != of("syncnet", precision="bfloat16")
    assert of("yunet", precision="float32") == of("yunet", precision="bfloat16") == of("yunet", dir=str(tmp_path))
    assert of("yunet", "syncnet") == of("syncnet", "yunet") != of("syncnet")
    with pytest.raises(ModelError, match="hs-data models fetch retinaface"):
        of("retinaface")


def test_settings_of_models_change_no_fingerprint_where_no_network_of_torch_computes():
    plain = Config()
    for changes in ({"dir": "x"}, {"licence": "commercial"}, {"device": "cpu"}, {"precision": "float16"}):
        changed = replace(plain, models=replace(plain.models, **changes))  # type: ignore[arg-type]
        assert changed.score_fingerprint() == plain.score_fingerprint()
        assert changed.encode_fingerprint() == plain.encode_fingerprint()
