"""Whisper's encoder: upstream's numbers up to 30 s, no step beyond, and every sound at its own frame.

There are no published weights here: networks are seeded and random. What is tested is arithmetic and time, which do not
depend on what was learned. The convolutions are made louder than they are drawn, so that in the states the sound weighs
about as much as the positional embedding and a test cannot pass on the embedding alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from whisper.audio import log_mel_spectrogram, pad_or_trim
from whisper.model import AudioEncoder

from hs_data.manifests.errors import ModelError
from hs_data.manifests.records import SAMPLES_PER_FRAME
from hs_data.manifests.schema import Column
from hs_data.manifests.storage import sha256_file
from hs_data.pipeline.audio_features import AudioConfig, spectrogram
from hs_data.pipeline.models import registry
from hs_data.pipeline.models.registry import ModelsConfig
from hs_data.pipeline.models.whisper import WhisperEncoder
from hs_data.pipeline.networks import make_audio_features

CPU, FLOAT32 = torch.device("cpu"), torch.float32
LOUDER = 12.0


def _save(path: Path, width: int, num_blocks: int) -> AudioEncoder:
    """Write a checkpoint as OpenAI's are, decoder included, and return its encoder."""
    torch.manual_seed(0)
    network = AudioEncoder(80, 1500, width, width // 64, num_blocks).eval()
    with torch.no_grad():
        network.conv2.weight *= LOUDER
        for block in network.blocks:
            block.attn.out.weight *= 4  # what is heard elsewhere reaches a state, as it does in a trained network
    tensors = {f"encoder.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors["decoder.token_embedding.weight"] = torch.zeros(4, width)
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": tensors}, path)
    return network


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> WhisperEncoder:
    """Two blocks of width 64: three states."""
    path = tmp_path_factory.mktemp("whisper") / "small.pt"
    _save(path, 64, 2)
    return WhisperEncoder(path, device=CPU, dtype=FLOAT32)


def _sound(num_frames: int, seed: int = 0) -> np.ndarray:
    """Tones that swell over noise: loud and much the same everywhere."""
    random, num_samples = np.random.default_rng(seed), num_frames * SAMPLES_PER_FRAME
    time_s = np.arange(num_samples) / 16_000
    sound = 500 * random.normal(size=num_samples)
    for hz in (180, 700, 2500):
        sound += 3000 * np.sin(2 * np.pi * hz * time_s) * (1 + np.sin(2 * np.pi * time_s * hz / 170)) / 2
    return np.round(sound).clip(-32768, 32767).astype(np.int16)


def _upstream_states(network: AudioEncoder, mel: Any) -> torch.Tensor:
    """Return what upstream's forward pass holds after the embedding and after each block, [1500, L, D]."""
    states: list[Any] = []
    blocks = list(network.blocks)
    hooks = [blocks[0].register_forward_pre_hook(lambda _block, given: states.append(given[0]))]
    hooks += [block.register_forward_hook(lambda _block, _given, made: states.append(made)) for block in blocks]
    with torch.inference_mode():
        network(mel[None])
    for hook in hooks:
        hook.remove()
    return torch.stack(states, dim=2)[0]


# --- the numbers


@pytest.mark.parametrize(
    ("width", "num_blocks", "num_frames"),
    [(384, 4, 75), (384, 4, 750), (64, 2, 1), (64, 2, 749)],
    ids=["tiny_3_s", "tiny_30_s", "one_frame", "almost_30_s"],
)
def test_states_are_upstreams_up_to_30_s(tmp_path: Path, width: int, num_blocks: int, num_frames: int):
    """Mel of the clip alone, filled up with zeros: what MuseTalk, HighSync and LatentSync do."""
    network = _save(tmp_path / "w.pt", width, num_blocks)
    encoder = WhisperEncoder(tmp_path / "w.pt", device=CPU, dtype=FLOAT32)
    pcm = _sound(num_frames)
    mel = log_mel_spectrogram(pcm.astype(np.float32) / 32768.0)
    assert mel.shape == (80, 4 * num_frames)
    theirs = _upstream_states(network, pad_or_trim(mel, 3000))[: 2 * num_frames]
    ours = encoder.states(spectrogram(pcm))
    assert ours.shape == (2 * num_frames, num_blocks + 1, width)
    assert float((ours - theirs).abs().max()) < 1e-4
    stored = encoder.features(pcm)
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored.reshape(ours.shape), theirs.numpy(), rtol=1e-3, atol=1e-3)


def test_silence_is_not_what_a_clip_is_filled_up_with(tmp_path: Path):
    """The choice matters: filled up with silence, the states of the same clip are others."""
    network = _save(tmp_path / "w.pt", 64, 2)
    mel = log_mel_spectrogram(_sound(75).astype(np.float32) / 32768.0)
    zeros = _upstream_states(network, pad_or_trim(mel, 3000))[:150]
    silence = torch.nn.functional.pad(mel, (0, 2700), value=float(mel.min()))
    assert float((_upstream_states(network, silence)[:150] - zeros).abs().max()) > 0.05


def test_bfloat16_is_near_float32(tmp_path: Path, small: WhisperEncoder):
    _save(tmp_path / "w.pt", 64, 2)
    coarse = WhisperEncoder(tmp_path / "w.pt", device=CPU, dtype=torch.bfloat16)
    exact, rounded = (encoder.features(_sound(100)).astype(float) for encoder in (small, coarse))
    error = rounded - exact
    assert 0 < np.sqrt((error**2).mean()) < 0.02 * exact.std()
    assert (coarse.contract["precision"], small.contract["precision"]) == ("bfloat16", "float32")


# --- length and time


@pytest.mark.parametrize("num_frames", [1, 25, 26, 749, 750, 751, 1249, 1250, 1251, 1750, 3000])
def test_two_states_a_frame_for_any_length(small: WhisperEncoder, num_frames: int):
    features = small.features(_sound(num_frames))
    assert features.shape == (num_frames, *small.column.shape) == (num_frames, 2, 3, 64)
    assert features.dtype == np.dtype(small.column.dtype)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("frame", [0, 7, 60, 499, 500, 625, 749, 750, 751, 999, 1000, 1100, 1124])
def test_a_click_is_answered_at_its_own_frame(small: WhisperEncoder, clicks: dict[int, np.ndarray], frame: int, layer):
    """500-750 and 1000-1125 lie where two windows meet."""
    answer = clicks[frame][:, layer]
    assert abs(int(answer.argmax()) - frame) <= 1
    far = np.abs(np.arange(len(answer)) - frame) > 2
    assert answer[far].max() < 0.5 * answer.max()


@pytest.fixture(scope="module")
def clicks(small: WhisperEncoder) -> dict[int, np.ndarray]:
    """By frame of a click in faint noise: norm [T, L] of what it changes, over 45 s."""
    quiet = np.random.default_rng(1).normal(0, 30, 1125 * SAMPLES_PER_FRAME).round().astype(np.int16)
    calm = small.features(quiet).astype(float)

    def answer(frame: int) -> np.ndarray:
        pcm = quiet.copy()
        pcm[frame * SAMPLES_PER_FRAME : frame * SAMPLES_PER_FRAME + 16] = 20_000  # 1 ms
        return np.linalg.norm(small.features(pcm) - calm, axis=(1, 3))

    return {frame: answer(frame) for frame in (0, 7, 60, 499, 500, 625, 749, 750, 751, 999, 1000, 1100, 1124)}


# --- 30 s


@pytest.fixture(scope="module")
def runs(small: WhisperEncoder) -> dict[str, np.ndarray]:
    """States [N, L, D] of 45 s: as stored, of the same sound from 5 s on, and with windows side by side as upstream."""
    pcm = _sound(45 * 25)
    mel = spectrogram(pcm)
    later = spectrogram(pcm[5 * 16_000 :])
    np.testing.assert_allclose(later[4:-4], mel[504:-4], atol=1e-5)  # the same sound, as loud
    beside = torch.cat([small.states(mel[:3000]), small.states(mel[3000:])])
    arrays = {"stored": small.states(mel), "later": small.states(later), "beside": beside}
    return {name: array.numpy() for name, array in arrays.items()}


def _steps(states: np.ndarray, layer: int) -> np.ndarray:
    return np.linalg.norm(np.diff(states[:, layer], axis=0), axis=1)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_there_is_no_step_at_30_s(runs: dict[str, np.ndarray], layer: int):
    """From 29.9 to 30.1 s a state changes no faster than elsewhere; with windows side by side it leaps."""
    near = slice(1494, 1505)
    elsewhere = np.ones(len(runs["stored"]) - 1, bool)
    elsewhere[1400:1600] = False
    for name, leaps in (("stored", False), ("beside", True)):
        steps = _steps(runs[name], layer)
        usual = np.percentile(steps[elsewhere], 99.5)
        assert (steps[near].max() > 1.5 * usual) == leaps, name
    assert _steps(runs["stored"], layer)[near].max() < 1.1 * np.percentile(
        _steps(runs["stored"], layer)[elsewhere], 99.5
    )


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_run_that_begins_5_s_later_moves_as_much_at_30_s(runs: dict[str, np.ndarray], layer: int):
    """There 29.9-30.1 s is 24.9-25.1 s, inside both windows.

    The states themselves differ, for the positional embedding tells them where in a window they are; how far they move
    from 29.9 to 30.1 s is compared.
    """

    def moved(name: str, place: int) -> float:
        return float(np.linalg.norm(runs[name][place + 5, layer] - runs[name][place - 5, layer]))

    assert 0.6 < moved("stored", 1500) / moved("later", 1250) < 1.7
    steps = _steps(runs["stored"], layer)[1495:1505] / _steps(runs["later"], layer)[1245:1255]
    assert 0.6 < steps.min() < steps.max() < 1.7


def test_what_is_heard_does_not_depend_on_where_a_run_begins(small: WhisperEncoder, runs: dict[str, np.ndarray]):
    """Without the positional embedding the first state of a run and of the same sound 5 s later are equal."""
    positions = small._positions.numpy()
    share = ((np.arange(500) + 0.5) / 500)[:, None]
    both = positions[1000:] * (1 - share) + positions[:500] * share
    place = np.concatenate([positions[:1000], both, positions[500:1000], both])
    heard = {name: runs[name][:, 0] - place[: len(runs[name])] for name in ("stored", "later")}
    assert heard["stored"].std() > 0.1
    difference = heard["stored"][260:2000] - heard["later"][10:1750]
    assert np.abs(difference).max() < 0.01 * heard["stored"].std()


# --- files


def test_the_contract_names_the_weights_and_the_windows(tmp_path: Path):
    _save(tmp_path / "w.pt", 64, 2)
    encoder = WhisperEncoder(tmp_path / "w.pt", device=CPU, dtype=FLOAT32)
    assert encoder.column == Column(dtype="<f2", shape=(2, 3, 64))
    assert encoder.contract["sha256"] == sha256_file(tmp_path / "w.pt")
    told = {name: encoder.contract[name] for name in ("layers", "width", "rate_hz", "window_s", "overlap_s", "padding")}
    assert told == {
        "layers": 3,
        "width": 64,
        "rate_hz": 50,
        "window_s": 30.0,
        "overlap_s": 10.0,
        "padding": "zero mel",
    }


def test_the_settings_choose_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _save(tmp_path / "whisper-base.pt", 64, 2)
    monkeypatch.setattr(registry, "require", lambda name, config: tmp_path / f"{name}.pt")
    models = ModelsConfig(device="cpu", precision="float32")
    features = make_audio_features(AudioConfig(backend="whisper", whisper="base"), models)
    assert (features.name, features.features(_sound(10)).shape) == ("whisper", (10, 2, 3, 64))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("encoder.conv1.weight"), "conv1.weight"),
        (lambda tensors: tensors.pop("encoder.blocks.1.mlp.0.bias"), "Missing key.*blocks.1.mlp.0.bias"),
        (lambda tensors: tensors.update({"encoder.conv1.weight": torch.zeros(64, 128, 3)}), "128 mel bins"),
        (lambda tensors: tensors.update({"encoder.positional_embedding": torch.zeros(448, 64)}), "448 half-frames"),
    ],
    ids=["no_convolution", "no_bias", "large_v3", "another_length"],
)
def test_other_weights_are_refused(tmp_path: Path, change, words: str):
    _save(tmp_path / "w.pt", 64, 2)
    checkpoint = torch.load(tmp_path / "w.pt", weights_only=True)
    change(checkpoint["model_state_dict"])
    torch.save(checkpoint, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=f"not an encoder of Whisper .*{words}.*fetch it again"):
        WhisperEncoder(tmp_path / "w.pt", device=CPU, dtype=FLOAT32)
