"""Weight files: every form is read exactly; one that is damaged, or would run code, is refused."""

import collections
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hs_data.manifests.errors import ModelError
from hs_data.pipeline.models.weights import load_weights

# --- reading


@pytest.fixture
def table() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(8, 3, generator=generator), "b": torch.arange(5.0), "n": torch.tensor(3)}


FORMS = ("safetensors", "archive", "legacy", "whisper", "zipped_archive", "zipped_legacy")


def write_form(form: str, folder: Path, table: dict[str, torch.Tensor]) -> Path:
    path = folder / f"{form}.safetensors" if form == "safetensors" else folder / f"{form}.pth"
    content = (
        {"dims": {"n_mels": 80}, "model_state_dict": table} if form == "whisper" else collections.OrderedDict(table)
    )
    if form == "safetensors":
        save_file(table, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization="legacy" not in form)
    return zip_up(path) if form.startswith("zipped") else path


def zip_up(path: Path) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "retinaface_resnet50.pth")
    return path.with_suffix(".zip")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_weights_is_read_exactly(form: str, tmp_path: Path, table: dict[str, torch.Tensor]):
    read = load_weights(write_form(form, tmp_path, table))
    assert list(read) == list(table) if form != "safetensors" else sorted(read) == sorted(table)
    assert all(torch.equal(read[name], value) and read[name].dtype == value.dtype for name, value in table.items())


@pytest.mark.parametrize("form", FORMS)
def test_truncated_and_damaged_weights_are_errors_of_the_file(
    form: str, tmp_path: Path, table: dict[str, torch.Tensor]
):
    path = write_form(form, tmp_path, table)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"not a readable file of weights|something else"):
            load_weights(path)
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            load_weights(path)  # a change of a number shows in the hash only
        except ModelError:
            continue


class Trap:
    """A pickle of this runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zipped"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path, legacy: bool, zipped: bool):
    path = tmp_path / "trap.pth"
    torch.save({"a": torch.zeros(1), "b": Trap(tmp_path / "ran")}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="not a readable file of weights"):
        load_weights(zip_up(path) if zipped else path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists(), "the trap does not work"


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, torch.zeros(2)], ids=["list", "numbers", "tensor"])
def test_something_else_than_tensors_by_name_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="something else than tensors by name"):
        load_weights(tmp_path / "x.pth")
